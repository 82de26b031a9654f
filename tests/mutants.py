"""Changes the xDS session in a thousand small ways: do its tests notice?

`python -m tests.mutants [-n JOBS]`; what `make mutants` calls. Prints the mutants that survive and
the score; exits with 1 where too many of them do. What is changed, and which tests are asked, is in
`tool.mutmut` of pyproject.toml.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "mutants"
STATS: Final = FOLDER / "mutmut-cicd-stats.json"

BAR: Final = 0.9
"""The part that has to be noticed. What is left are mostly mutants that change nothing."""


def main() -> int:
    """Run, report, and judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("-n", dest="jobs", default="2", help="processes that run tests")
    jobs: str = parser.parse_args().jobs
    if FOLDER.exists():
        shutil.rmtree(FOLDER)  # verdicts of other tests
    _mutmut("run", "--max-children", jobs)
    _mutmut("export-cicd-stats")
    counts: dict[str, int] = json.loads(STATS.read_text())
    for name in _survivors():
        print_diff(name)
    noticed = counts["killed"] + counts["timeout"]
    score = noticed / counts["total"]
    sys.stdout.write(f"{noticed} of {counts['total']} mutants noticed: {score:.1%}\n")
    return 0 if score >= BAR else 1


def print_diff(name: str) -> None:
    """What nobody noticed."""
    lines = _mutmut("show", name, quiet=True).splitlines()
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    sys.stdout.write("\n".join((f"{name}:", *changed, "")))


def _survivors() -> list[str]:
    lines = _mutmut("results", quiet=True).splitlines()
    return [line.partition(":")[0].strip() for line in lines if line.endswith(": survived")]


def _mutmut(*words: str, quiet: bool = False) -> str:
    """Run it; what it printed, where that is not for the eyes."""
    command = [sys.executable, "-m", "mutmut", *words]
    done = subprocess.run(command, cwd=ROOT, text=True, check=True, capture_output=quiet)
    return done.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
