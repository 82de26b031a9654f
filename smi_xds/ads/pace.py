"""How fast a client may ask: a token bucket that makes it wait, and refuses nothing.

While it waits nothing is read, so that what it goes on sending stays in its own memory
(HTTP/2 flow control).
"""

from typing import Final

# A request of this size counts as one; larger ones, as several.
_BYTES: Final = 4096


class Pace:
    """Of one caller; `rate` requests a second, and `burst` at once."""

    __slots__ = ("_burst", "_free_at", "_step")

    def __init__(self, *, rate: float, burst: int) -> None:
        self._step = 1 / rate
        self._burst = burst * self._step
        self._free_at = float("-inf")
        """When the bucket will be full again."""

    def wait(self, now: float, size: int) -> float:
        """It asked, in so many bytes: how long to wait before the next is read."""
        cost = self._step * (1 + size // _BYTES)
        self._free_at = max(self._free_at, now) + cost
        return max(0.0, self._free_at - now - self._burst)

    def owe(self, now: float, size: int) -> None:
        """What it asked for costs as much as so many bytes of a request: the next is read later."""
        self._free_at = max(self._free_at, now) + self._step * size / _BYTES

    def is_full(self, now: float) -> bool:
        """It asked for nothing that still counts: a new one would be the same."""
        return self._free_at <= now
