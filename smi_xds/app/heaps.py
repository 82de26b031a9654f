"""The C library's heaps, set up for many threads that allocate little at a time."""

import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8  # malloc.h of glibc

# gRPC has a dozen threads, and by default nearly each gets a heap of its own, in which room stays
# that the others cannot use: 96 MB after two minutes of proxies that come and go, 43 MB and no
# longer growing with one heap; 16 MB of them are in use. Python's own threads take turns anyway,
# and what a push costs is the same.
_HEAPS: Final = 2


def share_heaps() -> None:
    """Call it before gRPC starts its threads; where the C library has no such setting it passes."""
    setting = getattr(ctypes.CDLL(None), "mallopt", None)
    if setting is not None:
        setting(_M_ARENA_MAX, _HEAPS)
