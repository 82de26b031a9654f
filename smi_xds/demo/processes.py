"""Child processes that cannot outlive the demo, whatever becomes of it."""

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, NoReturn

from smi_xds.problems import ServeError

# An Envoy needs some 20 ms to go after SIGTERM, an application less.
_TIME_TO_GO = 2.0

# What an application reports in one line: some 10 kB.
_LONGEST_LINE = 1 << 20

_TETHER = str(Path(__file__).with_name("tether.py"))


def _python(*arguments: str) -> list[str]:
    # Isolated and without site-packages: 10 ms to start instead of 30.
    return [sys.executable, "-I", "-S", *arguments]


@asynccontextmanager
async def running(
    arguments: Sequence[str],
    *,
    stdin: int | None = DEVNULL,
    stdout: int | IO[bytes] | None = DEVNULL,
    stderr: int | IO[bytes] | None = None,
) -> AsyncIterator[Process]:
    """Run a program in a session of its own (Ctrl-C is ours to handle), killed with us."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        limit=_LONGEST_LINE,
    )
    try:
        yield process
    finally:
        await _end(process)


def tethered(program: Path, *arguments: str) -> list[str]:
    """The command line that starts a program which cannot tie itself to us."""
    return [*_python(_TETHER, "exec", str(os.getpid()), str(program)), *arguments]


@asynccontextmanager
async def temporary_folder(prefix: str) -> AsyncIterator[Path]:
    """Make a folder that is removed when the context or this process ends, even by SIGKILL."""
    path = Path(tempfile.mkdtemp(prefix=prefix))
    janitor = await asyncio.create_subprocess_exec(
        *_python(_TETHER, "janitor", str(path)), stdin=PIPE, start_new_session=True
    )
    try:
        yield path
    finally:
        assert janitor.stdin is not None
        janitor.stdin.close()
        await janitor.wait()


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    try:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_TIME_TO_GO):
            await process.wait()
    except ProcessLookupError:
        return
    except TimeoutError:
        process.kill()
        await process.wait()


async def must_not_end(process: Process, *, what: str, log: Path | None = None) -> NoReturn:
    """Wait for the process to end, which it must not."""
    code = await process.wait()
    raise ServeError(f"{what} ended with code {code}{last_line(log) if log else ''}")


def last_line(log: Path) -> str:
    """The end of a log, to be added to a sentence; the log itself goes with the demo."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    said = [line for line in lines if line.strip()]
    return f": {said[-1].strip()}" if said else ""
