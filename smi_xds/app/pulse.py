"""When to build: the first change at once, those that come meanwhile together.

The latest value, not a queue: who is slow sees fewer rounds, never old ones.
"""

import asyncio
import time
from typing import Generic, TypeVar

T = TypeVar("T")

# A change that follows another within this time is likely not the last: kubectl applies a file
# of ten objects, an editor writes and renames. It waits until nothing came for as long.
HOLD_OFF = 0.005
# But never longer than this, however many come: a rollout of a thousand pods is no quiet time.
# Up to this, too, the streams get as much time after a round as it took: with thousands of them
# rounds would else follow each other, and what is to be told be old before it is written.
LONGEST_HOLD_OFF = 0.05


class Pulse:
    """Rung at every change, waited for by the one who builds."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._first = self._last = self._began = self._served = self._earliest = 0.0

    def ring(self) -> None:
        """Something changed."""
        self._last = time.perf_counter()
        if not self._rung.is_set():
            self._first = self._last
            self._rung.set()

    @property
    def is_due(self) -> bool:
        """Whether something changed since the last round began."""
        return self._rung.is_set()

    async def next(self) -> float:
        """Wait until it is time to build; return when the first change of the round came."""
        await self._rung.wait()
        if self._first - self._served < HOLD_OFF or self._first < self._earliest:
            await self._quiet()
        self._rung.clear()
        self._began = time.perf_counter()
        return self._first

    def served(self) -> None:
        """The round is over; what comes from now on is another one's."""
        self._served = time.perf_counter()
        self._earliest = self._served + min(self._served - self._began, LONGEST_HOLD_OFF)

    async def _quiet(self) -> None:
        latest = self._first + LONGEST_HOLD_OFF
        # The time itself is what is waited for, and it moves with every change.
        while (wait := self._due(latest) - time.perf_counter()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait)

    def _due(self, latest: float) -> float:
        return max(self._earliest, min(self._last + HOLD_OFF, latest))


class Latest(Generic[T]):
    """A value that is replaced, numbered from 1; any number of readers may wait for a newer one."""

    def __init__(self) -> None:
        self.number = 0
        self._value: T | None = None
        self._changed = asyncio.Event()

    def set(self, value: T) -> None:
        """Replace it, and wake whoever waits."""
        self.number += 1
        self._value = value
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def value(self) -> T | None:
        """The latest; None before the first."""
        return self._value

    async def newer_than(self, number: int) -> T:
        """Wait for a value later than that one."""
        while self.number <= number:
            await self._changed.wait()
        assert self._value is not None
        return self._value
