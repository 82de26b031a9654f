"""Numbers that operators watch: declared beside the edge that moves them, written out by `web`.

Thousands of pushes a round pass here, so to move one is a few list operations, without locks:
they are moved and read in one event loop. A metric has one label or none.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

# From what a busy loop takes to answer up to what makes an operator look (Prometheus' usual steps).
SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


@dataclass(slots=True, eq=False)
class Counter:
    """Only ever grows; its name ends in `_total` where it is written out."""

    name: str
    help: str
    label: str = ""
    values: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.label:
            self.values[""] = 0  # a counter that was never moved is shown

    def add(self, value: str = "", amount: float = 1) -> None:
        """Count, under this value of the label."""
        self.values[value] = self.values.get(value, 0) + amount


@dataclass(slots=True, eq=False)
class Gauge:
    """Asked for when it is written out: a number for each value of the label."""

    name: str
    help: str
    read: Callable[[], Mapping[str, float]]
    label: str = ""


@dataclass(slots=True, eq=False)
class Tally:
    """What a histogram has seen: how many up to each bound and above all, and their sum."""

    counts: list[int]
    total: float = 0.0


@dataclass(slots=True, eq=False)
class Histogram:
    """How observed numbers are spread."""

    name: str
    help: str
    bounds: tuple[float, ...] = SECONDS
    label: str = ""
    tallies: dict[str, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.label:
            self.tallies[""] = self._tally()

    def observe(self, number: float, value: str = "") -> None:
        """Take a number into account, under this value of the label."""
        tally = self.tallies.get(value)
        if tally is None:
            tally = self.tallies[value] = self._tally()
        tally.counts[bisect_left(self.bounds, number)] += 1
        tally.total += number

    def _tally(self) -> Tally:
        return Tally([0] * (len(self.bounds) + 1))


Metric: TypeAlias = Counter | Gauge | Histogram
