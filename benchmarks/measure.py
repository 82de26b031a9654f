"""Measures alternatives side by side, and reports them with their bars.

On a shared machine only ratios measured in the same run mean something: so the alternatives take
turns, and medians are compared.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

# Long enough that the clock (about 50 ns a reading) disturbs a sample by less than 1 %.
_SAMPLE_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one alternative took, in microseconds; half of the samples lie between low and high."""

    name: str
    median_us: float
    low_us: float
    high_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What must be reached: `value` below `limit`, both in `unit`."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return self.value < self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One benchmark's results."""

    name: str
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def median(self, name: str) -> float:
        """The median of the row of this name, in microseconds."""
        return next(row.median_us for row in self.rows if row.name == name)


def side_by_side(
    alternatives: Mapping[str, Callable[[], object]], *, rounds: int = 15
) -> tuple[Row, ...]:
    """Time the alternatives in turns: each round takes one sample of every one."""
    repeats = {name: _repeats(call) for name, call in alternatives.items()}
    samples: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(rounds):
        for name, call in alternatives.items():
            samples[name].append(_time(call, repeats[name]))
    return tuple(_row(name, taken) for name, taken in samples.items())


def _repeats(call: Callable[[], object]) -> int:
    call()  # the first call may compile or import something
    return max(1, round(_SAMPLE_S / _time(call, 1)))


def _time(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _row(name: str, samples: Sequence[float]) -> Row:
    low, median, high = (1e6 * value for value in statistics.quantiles(samples, n=4))
    return Row(name=name, median_us=median, low_us=low, high_us=high)


def machine() -> str:
    """What this ran on, and how busy it was."""
    load = os.getloadavg()[0]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {os.cpu_count()} CPUs ({platform.machine()}), load {load:.1f}"


def present(reports: Sequence[Report], arguments: Sequence[str]) -> int:
    """Print the reports as a table, or as one JSON object; 1 if a bar was missed."""
    if "--json" in arguments:
        sys.stdout.write(json.dumps(_as_json(reports), indent=2) + "\n")
    else:
        print(machine())
        for report in reports:
            _print(report)
    return 0 if all(bar.reached for report in reports for bar in report.bars) else 1


def _as_json(reports: Sequence[Report]) -> object:
    bars = [
        {**asdict(bar), "reached": bar.reached, "report": report.name}
        for report in reports
        for bar in report.bars
    ]
    return {
        "machine": machine(),
        "reports": [
            {"name": r.name, "rows": [asdict(row) for row in r.rows], "notes": r.notes}
            for r in reports
        ],
        "bars": bars,
    }


def _print(report: Report) -> None:
    print(f"\n{report.name}")
    fastest = min((row.median_us for row in report.rows), default=0.0)
    for row in report.rows:
        spread = f"{row.low_us:,.1f} to {row.high_us:,.1f}"
        ratio = row.median_us / fastest
        print(f"  {row.name:<44} {row.median_us:>12,.1f} us  ({spread})  x {ratio:,.1f}")
    for bar in report.bars:
        verdict = "reached" if bar.reached else "MISSED"
        print(f"  {verdict}: {bar.name}: {bar.value:.4g} {bar.unit} (below {bar.limit:.4g})")
    for note in report.notes:
        print(f"  {note}")
