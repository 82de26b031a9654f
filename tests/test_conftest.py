"""The rule that nothing passes unrun in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPS = """
import pytest

def test_says_so():
    pytest.skip("no moon")

@pytest.mark.xfail
def test_known():
    assert False
"""


@pytest.mark.parametrize("ci, code, says", [("true", 1, "CI=true"), ("", 0, "1 skipped")])
def test_a_skip_is_a_failure_in_ci(tmp_path: Path, ci: str, code: int, says: str) -> None:
    """A skipped test fails the run in CI and names its reason; an expected failure does not."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p tests.conftest -rs\n")
    (tmp_path / "test_skips.py").write_text(SKIPS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", str(tmp_path / "pytest.ini"), str(tmp_path)],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "PYTEST_PLUGINS"}
        | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout
    assert "no moon" in done.stdout
    assert "1 xfailed" in done.stdout
