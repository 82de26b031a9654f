"""Ties a child's life to its parent's: whatever becomes of the demo, nothing stays behind.

Run as a script it is one of two things: `tether.py exec PARENT PROGRAM ARG...` asks the kernel
to kill it with its parent and becomes PROGRAM; `tether.py janitor FOLDER` waits until its
standard input closes (its parent ended, however that was) and removes FOLDER. Standard library
only, so that it starts in a hundredth of a second. A `preexec_fn` would do the same, but runs
Python between fork and exec of a process with threads, which may deadlock.
"""

import ctypes
import os
import shutil
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2): the signal we get when the thread that started us ends


def tie_to_parent(parent: int) -> None:
    """Die with the parent; `parent` is its process id, as it knows it itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _main(arguments: list[str]) -> None:
    match arguments:
        case ["exec", parent, program, *rest]:
            tie_to_parent(int(parent))
            os.execv(program, [program, *rest])  # noqa: S606 # nosec B606 # to become it
        case ["janitor", folder]:
            sys.stdin.buffer.read()
            shutil.rmtree(folder, ignore_errors=True)
        case _:
            raise SystemExit(f"usage: {__file__} exec PARENT PROGRAM ARG... | janitor FOLDER")


if __name__ == "__main__":
    _main(sys.argv[1:])
