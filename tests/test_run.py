"""The runner: what it prints last, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import run
from tests.support.rooms import ROOT, gated_files


def run_tests(folder: Path, source: str) -> tuple[int, list[str]]:
    """Run a file of tests; the exit code and the lines printed."""
    file = folder / "test_it.py"
    file.write_text(source)
    command = [sys.executable, "-m", "tests.run", "-n", "0", "-c", "pyproject.toml", str(file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines()


def test_the_last_line_counts_and_the_exit_code_is_that_of_pytest(tmp_path: Path) -> None:
    """Whatever else is printed, the end says how many passed and failed."""
    source = "import smi_xds.values\ndef test_a(): pass\ndef test_b(): pass\n"
    code, lines = run_tests(tmp_path, source)
    assert (code, lines[-1]) == (0, "2 passed")
    code, lines = run_tests(tmp_path, f"{source}def test_c(): assert False\n")
    assert (code, lines[-1]) == (1, "2 passed, 1 failed")
    code, lines = run_tests(tmp_path, "")
    assert (code, lines[-1]) == (5, "no tests ran")


def test_what_no_test_ran_is_listed_by_file(tmp_path: Path) -> None:
    """Lines and branches of modules that were loaded, `all` for those that were not."""
    _, lines = run_tests(tmp_path, "import smi_xds.values\ndef test_a(): pass\n")
    listed = dict(line.strip().split(": ", 1) for line in lines if line.startswith("  smi_xds/"))
    assert listed["smi_xds/mesh/build.py"] == "all"
    assert "→" in listed["smi_xds/values.py"]
    assert "smi_xds/problems.py" in listed


@pytest.mark.parametrize(
    "lines, expected", [([], []), ([1], ["1"]), ([1, 2, 3, 5, 7, 8], ["1-3", "5", "7-8"])]
)
def test_lines_are_told_in_ranges(lines: list[int], expected: list[str]) -> None:
    """A reader looks for places, not for every number."""
    assert run._ranges(lines) == expected


def test_every_module_of_a_pure_room_is_gated() -> None:
    """A new module is held to full coverage without anybody listing it."""
    names = {str(file.relative_to(ROOT)) for file in gated_files()}
    assert {
        "smi_xds/values.py",
        "smi_xds/mesh/model.py",
        "smi_xds/ads/session/__init__.py",
    } <= names
