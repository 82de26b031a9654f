"""How many new streams are let in: a token bucket whose waiters stand in line.

The first answers of a stream cost a hundred times what a push costs. When every proxy reconnects
at once, those that are connected must still be heard, so newcomers wait for their turn.
"""

import asyncio
from typing import Final

# Measured: a server that does nothing else takes in 740 a second (2,000 in 2.7 s, on 2 cores that
# it shares with the clients). This leaves the loop time for those that are there already.
RATE: Final = 600.0
# What may come at once: a second of the loop's time.
BURST: Final = 600
# Envoy gives up a first configuration after 15 s (initial_fetch_timeout); who would wait for
# longer had better try another server.
LONGEST: Final = 10.0


class Admission:
    """Hands out turns; each is a moment from which on the stream may begin."""

    __slots__ = ("_burst", "_longest", "_next", "_step")

    def __init__(self, *, rate: float = RATE, burst: int = BURST, longest: float = LONGEST) -> None:
        self._step = 1 / rate
        self._burst = burst * self._step
        self._longest = longest
        self._next = float("-inf")
        """The turn of the next stream that comes, if the bucket was never full before it."""

    def turn(self, now: float) -> float | None:
        """How long the next stream has to wait; None where the line is too long already."""
        turn = max(self._next, now - self._burst + self._step)
        if turn - now > self._longest:
            return None
        self._next = turn + self._step
        return max(0.0, turn - now)

    def give_back(self) -> None:
        """A stream left the line: those that come after it need not wait for its turn."""
        self._next -= self._step

    async def admit(self) -> bool:
        """Wait for a turn; False where the line is too long."""
        wait = self.turn(asyncio.get_running_loop().time())
        if wait is None:
            return False
        if wait:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                self.give_back()
                raise
        return True
