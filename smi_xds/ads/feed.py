"""What happens on the streams, told to whoever watches; nobody waits for a watcher."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# A round concerns each of 2,000 proxies twice: sent and acknowledged. At 300 bytes each that is
# 2 MB for a watcher that does not read.
LIMIT: Final = 8192


class Kind(StrEnum):
    """What can happen."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    SENT = "sent"
    ACKED = "acked"
    NACKED = "nacked"
    STALE_NONCE = "stale_nonce"
    ROUND_PUBLISHED = "round_published"
    DROPPED = "dropped"
    """This watcher reads too slowly; it gets nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One of them; `at` is by the wall clock."""

    kind: Kind
    at: float
    round: int
    """The number of the last round."""
    node: str = ""
    stream: int = 0
    type: str = ""
    nonce: str = ""
    version: str = ""
    error: str = ""
    size: int = 0


class Watch:
    """One watcher's share, in order; bounded."""

    __slots__ = ("_arrived", "_happenings", "_is_closed", "_limit", "is_dropped", "node")

    def __init__(self, node: str, limit: int) -> None:
        self.node = node
        self.is_dropped = False
        self._is_closed = False
        self._limit = limit
        self._happenings: deque[Happening] = deque()
        self._arrived = asyncio.Event()

    def take(self, happening: Happening) -> None:
        """Keep it for the watcher, or tell it in its place that it was too slow."""
        if self.node not in ("", happening.node) or self.is_dropped:
            return
        if len(self._happenings) == self._limit:
            self.is_dropped = True
            happening = Happening(kind=Kind.DROPPED, at=happening.at, round=happening.round)
        self._happenings.append(happening)
        self._arrived.set()

    async def next(self) -> Happening | None:
        """Wait for the next; nothing comes after DROPPED, and None says that it is over."""
        while not self._happenings:
            if self._is_closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._happenings.popleft()

    def close(self) -> None:
        """Nothing more will happen."""
        self._is_closed = True
        self._arrived.set()


class Feed:
    """All watchers."""

    __slots__ = ("_is_closed", "_watches")

    def __init__(self) -> None:
        self._watches: dict[Watch, None] = {}
        self._is_closed = False

    @property
    def is_watched(self) -> bool:
        """Whether it is worth telling."""
        return bool(self._watches)

    def tell(self, happening: Happening) -> None:
        """Tell all watchers; does not block."""
        for watch in self._watches:
            watch.take(happening)

    @contextmanager
    def watching(self, node: str = "", *, limit: int = LIMIT) -> Iterator[Watch]:
        """Watch all nodes, or one, while the block runs."""
        watch = Watch(node, limit)
        self._watches[watch] = None
        if self._is_closed:
            watch.close()
        try:
            yield watch
        finally:
            del self._watches[watch]

    def close(self) -> None:
        """The server ends: so do all watches, present and future."""
        self._is_closed = True
        for watch in self._watches:
            watch.close()
