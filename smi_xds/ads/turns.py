"""Who is served when several ask: so many at a time, few of each host, and hosts in turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Lane:
    turns: asyncio.Semaphore
    users: int = 0


class Turns:
    """Hands them out; who comes first is first among those of its host."""

    def __init__(self, at_once: int, *, of_one_host: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._of_one_host = of_one_host
        self._lanes: dict[str, _Lane] = {}

    @asynccontextmanager
    async def of(self, host: str) -> AsyncIterator[None]:
        """Wait for a turn of this host, and have it while the block runs."""
        lane = self._lanes.setdefault(host, _Lane(asyncio.Semaphore(self._of_one_host)))
        lane.users += 1
        try:
            # In this order: a host waits in the common line no more often than it may have turns.
            async with lane.turns, self._all:
                yield
        finally:
            lane.users -= 1
            if not lane.users:
                self._lanes.pop(host, None)
