"""Nothing outlives its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from smi_xds.demo import tether
from tests.support.wait import eventually

TETHER = str(Path(tether.__file__))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_tethered_program_dies_with_its_parent() -> None:
    """SIGKILL of the parent, which it cannot handle, ends the child too."""
    script = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, {TETHER!r}, 'exec', str(os.getpid()),"
        " '/bin/sleep', '1000'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        eventually(lambda: "sleep" in Path(f"/proc/{child}/cmdline").read_text())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()

    eventually(lambda: not is_alive(child))


def test_a_program_whose_parent_is_gone_already_does_not_start() -> None:
    """The race between fork and prctl is lost on the safe side."""
    result = subprocess.run([sys.executable, TETHER, "exec", "1", "/bin/echo", "started"],
                            capture_output=True, check=False)  # fmt: skip

    assert (result.returncode, result.stdout) == (1, b"")


def test_the_janitor_removes_the_folder_at_the_end_of_its_input(tmp_path: Path) -> None:
    """The folder stays while somebody holds the janitor's input open, and no longer."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "file").touch()
    with subprocess.Popen(
        [sys.executable, TETHER, "janitor", str(folder)], stdin=subprocess.PIPE
    ) as janitor:
        assert folder.exists()
        assert janitor.stdin is not None
        janitor.stdin.close()
        janitor.wait(10)

    assert not folder.exists()


def test_anything_else_is_refused() -> None:
    """A wrong call says how it is called."""
    result = subprocess.run(
        [sys.executable, TETHER, "dance"], capture_output=True, text=True, check=False
    )

    assert result.returncode == 1
    assert "usage" in result.stderr
