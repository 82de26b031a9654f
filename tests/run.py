"""Runs the tests in parallel and holds the pure rooms to full coverage.

`python -m tests.run [-n JOBS] [what pytest takes]`; what `make unit` calls. The gate counts where
all tests run; with a selection the coverage is only shown.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from coverage.exceptions import NoDataError

from tests.support import rooms


@dataclass
class _Tally:
    """Counts what pytest reports, for the last line."""

    outcomes: dict[str, int] = field(default_factory=dict)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for word in ("passed", "failed", "error", "skipped", "xfailed"):
            if count := len(terminalreporter.stats.get(word, ())):
                self.outcomes[word] = count


def main(arguments: Sequence[str]) -> int:
    """Run, report, and say whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    parser.add_argument("-n", dest="jobs", default="2", help="processes that run tests")
    options, rest = parser.parse_known_args(arguments)
    tally = _Tally()
    with tempfile.TemporaryDirectory(prefix="smi-xds-coverage-") as folder:
        os.environ[rooms.FOLDER] = folder
        os.environ["PYTEST_PLUGINS"] = "tests.support.measure"
        code = int(pytest.main(["-n", options.jobs, "--dist", "loadgroup", *rest], [tally]))
        uncovered = _uncovered(folder)
    _show(uncovered)
    if uncovered and not rest:
        tally.outcomes["failed"] = tally.outcomes.get("failed", 0) + 1
        code = code or 1
    counted = ", ".join(f"{count} {word}" for word, count in tally.outcomes.items())
    sys.stdout.write(f"{counted or 'no tests ran'}\n")
    return code


def _uncovered(folder: str) -> Mapping[str, str]:
    """What no test ran, by file: lines and branches."""
    measured = rooms.new_coverage(folder)
    report = Path(folder) / "report.json"
    try:
        measured.combine([folder])
        measured.json_report(outfile=str(report))
    except NoDataError:
        return {str(file.relative_to(rooms.ROOT)): "all" for file in rooms.gated_files()}
    files = json.loads(report.read_text())["files"]
    found = {str(Path(name).resolve()): it for name, it in files.items()}
    return {
        str(file.relative_to(rooms.ROOT)): missing
        for file in rooms.gated_files()
        if (missing := _missing(found.get(str(file))))
    }


def _missing(file: Mapping[str, object] | None) -> str:
    match file:
        case None:
            return "all"
        case {"missing_lines": list(lines), "missing_branches": list(branches)}:
            parts = [*_ranges(lines), *(f"{a}→{b if b > 0 else 'exit'}" for a, b in branches)]
            return ", ".join(parts)
        case _:
            raise TypeError("coverage changed its report")


def _ranges(lines: Sequence[int]) -> list[str]:
    spans: list[list[int]] = []
    for line in lines:
        if spans and line == spans[-1][1] + 1:
            spans[-1][1] = line
        else:
            spans.append([line, line])
    return [str(a) if a == b else f"{a}-{b}" for a, b in spans]


def _show(uncovered: Mapping[str, str]) -> None:
    sys.stdout.write(f"\nPure rooms ({', '.join(rooms.GATED)}): ")
    sys.stdout.write("not covered by any test:\n" if uncovered else "100 % covered.\n")
    for file, missing in uncovered.items():
        sys.stdout.write(f"  {file}: {missing}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
