"""Loopback addresses of the demo's own: one block of 256 for each run.

The ports are the same for every sidecar (15000, 15001, the services'), so two demos on one
machine must not share an address. Linux lets anyone bind the whole of 127.0.0.0/8.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from smi_xds.problems import ServeError

# 127.0 and 127.1 belong to resolvers and other tools, and to the examples in the documentation.
_FIRST, _BLOCKS = 64, 128 * 256

# No one listens here; whoever has it bound owns the block.
_CLAIM = (".1", 15999)

STORY_PREFIX = "127.0.1"
"""The block in which the packaged story is written."""


@contextmanager
def free_block() -> Iterator[str]:
    """Claim a block, as its first three numbers (`127.70.12`), for as long as the context lasts."""
    for attempt in range(16):
        # From the process id, so that demos that start together try different ones first.
        number = (os.getpid() * 7 + attempt) % _BLOCKS
        prefix = f"127.{_FIRST + number // 256}.{number % 256}"
        with socket.socket() as claim:
            try:
                claim.bind((prefix + _CLAIM[0], _CLAIM[1]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise ServeError(
                        f"{prefix}.1 cannot be bound: the demo gives every sidecar a loopback "
                        "address of its own, which needs Linux (try a container)"
                    ) from error
                continue
            yield prefix
            return
    raise ServeError("no free block of loopback addresses: is something else using 127.64.0.0/9?")
