"""How often the log may say the same: whoever is refused can be so a thousand times a second."""

from typing import Final

RATE: Final = 10.0
BURST: Final = 50


class Quiet:
    """Lets a burst through and then `rate` a second; counts what it keeps back."""

    __slots__ = ("_burst", "_free_at", "_step", "kept_back")

    def __init__(self, *, rate: float = RATE, burst: int = BURST) -> None:
        self._step = 1 / rate
        # Half a step more than the last that is let through: sums of floats are not exact.
        self._burst = (burst + 0.5) * self._step
        self._free_at = float("-inf")
        self.kept_back = 0
        """Since something was let through."""

    def lets(self, now: float) -> bool:
        """Whether one more may be said."""
        free_at = max(self._free_at, now)
        if free_at - now + self._step > self._burst:
            self.kept_back += 1
            return False
        self._free_at = free_at + self._step
        return True

    def told(self) -> int:
        """How many were kept back before this one."""
        kept, self.kept_back = self.kept_back, 0
        return kept
