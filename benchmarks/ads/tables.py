"""Results of the stream benchmark, as a table or as JSON."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from benchmarks.measure import Bar, machine

Value: TypeAlias = str | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Results of one trial."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    bars: tuple[Bar, ...] = ()


def load() -> float:
    """How busy the machine is: ask before the benchmark makes it so."""
    return os.getloadavg()[0]


def quantiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """The median, the 99th percentile and the largest."""
    ranked = sorted(samples)
    last = len(ranked) - 1
    return ranked[round(0.5 * last)], ranked[round(0.99 * last)], ranked[-1]


def run(
    name: str,
    about: str | None,
    measure: Callable[[argparse.Namespace], Sequence[Table]],
    /,
    **counts: int,
) -> int:
    """What a benchmark's `main` does: a flag for each count, the tables; 1 if a bar was missed."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    for flag, default in counts.items():
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    given, _ = parser.parse_known_args()  # flags may be those of another one, where all run
    before = load()
    return present(measure(given), before=before, is_json=given.json)


def present(tables: Sequence[Table], *, before: float, is_json: bool) -> int:
    """Print them, with the load before the run; 1 if a bar was missed."""
    where = f"{machine()} (before the run: {before:.1f})"
    if is_json:
        bars = [{**asdict(bar), "reached": bar.reached} for it in tables for bar in it.bars]
        found = {"machine": where, "tables": [as_json(it) for it in tables], "bars": bars}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        print(where)
        for table in tables:
            show(table)
    return 0 if all(bar.reached for it in tables for bar in it.bars) else 1


def as_json(table: Table) -> object:
    """Its rows by column; the bars are reported apart."""
    rows = [[None if _is_nothing(value) else value for value in row] for row in table.rows]
    columns = table.columns
    return {"title": table.title, "rows": [dict(zip(columns, row, strict=True)) for row in rows]}


def show(table: Table) -> None:
    """Print it."""
    cells = [table.columns, *([_cell(value) for value in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    print(f"\n{table.title}")
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    for bar in table.bars:
        verdict = "reached" if bar.reached else "MISSED"
        print(f"  {verdict}: {bar.name}: {bar.value:.3g} {bar.unit} (below {bar.limit:g})")
    sys.stdout.flush()


def _cell(value: Value) -> str:
    if _is_nothing(value):
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _is_nothing(value: Value) -> bool:
    return isinstance(value, float) and math.isnan(value)
