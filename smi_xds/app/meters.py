"""What is counted of rounds and of the event loop, and all that the monitoring port shows."""

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from smi_xds.metrics import Counter, Gauge, Histogram
from smi_xds.problems import Problem

# Often enough to catch a rebuild of a second, and nothing that a profile would show.
_EVERY: Final = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Meters:
    """What the pipeline and the loop move."""

    rounds: Counter = field(
        default_factory=lambda: Counter("smi_xds_rounds", "Pictures of the mesh published.")
    )
    failed: Counter = field(
        default_factory=lambda: Counter(
            "smi_xds_failed_rounds", "Rounds that failed by a bug; what was published stays."
        )
    )
    build: Histogram = field(
        default_factory=lambda: Histogram(
            "smi_xds_build_seconds", "From objects to published resources."
        )
    )
    lag: Histogram = field(
        default_factory=lambda: Histogram(
            "smi_xds_event_loop_lag_seconds", "How late the event loop wakes who waits."
        )
    )

    def all(self) -> tuple[Counter | Histogram, ...]:
        """Each of them."""
        return (self.rounds, self.failed, self.build, self.lag)


def problems_gauge(problems: Callable[[], Iterable[Problem]]) -> Gauge:
    """Problems by code."""

    def read() -> Mapping[str, float]:
        return Tally(problem.code.value for problem in problems())

    return Gauge("smi_xds_problems", "Problems in the users' objects.", read, "code")


async def measure_lag(histogram: Histogram) -> NoReturn:
    """Sleep and see how much longer it took."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + _EVERY
        await asyncio.sleep(_EVERY)
        histogram.observe(max(0.0, clock() - due))
