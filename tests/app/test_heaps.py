"""How many heaps the C library makes for our threads."""

import subprocess
import sys

import pytest

from smi_xds.app import heaps as heaps

# Ten threads that hold memory at a time; then what malloc_info(3) says.
PROGRAM = """
import ctypes, runpy, threading
share_heaps = runpy.run_path(FILE)['share_heaps']  # all of the app takes seconds to import
SHARE
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
together = threading.Barrier(10)
def hold():
    libc.malloc(10_000)
    together.wait()
threads = [threading.Thread(target=hold) for _ in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


def heaps_of(share: str) -> int:
    """How many there are, where the program does that first."""
    command = [
        sys.executable,
        "-c",
        PROGRAM.replace("SHARE", share).replace("FILE", repr(heaps.__file__)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_info is glibc's")
def test_threads_share_heaps() -> None:
    """Two for ten threads, which would have one each."""
    assert heaps_of("share_heaps()") <= 2 < heaps_of("")
