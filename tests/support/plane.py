"""`smi-xds serve` as a process that may be killed and started again, and what it logs."""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from smi_xds.demo import processes
from tests.support.wait import eventually_async

_MAIN = "from smi_xds.cli.main import main; main()"


class ControlPlane:
    """The same command with the same arguments, as often as it is started."""

    def __init__(self, *arguments: object, folder: Path) -> None:
        anywhere = ("--monitoring-address", "127.0.0.1:0")
        self._arguments = ["serve", "--log-format", "json", *anywhere, *map(str, arguments)]
        self._folder = folder
        self._process: Process | None = None
        self._starts = 0

    @property
    def log(self) -> Path:
        """What the process of the last start has written."""
        return self._folder / f"serve-{self._starts}.log"

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it has logged under that name since its last start."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def complaints(self) -> list[str]:
        """The lines of its last start that are no events: what it could not start for."""
        return [line for line in self.log.read_text().splitlines() if not line.startswith("{")]

    async def start(self) -> None:
        """Start it and wait until it serves."""
        await self.launch()
        await self.logged("serving", deadline=30)

    async def launch(self) -> None:
        """Start it, and no more."""
        assert self._process is None
        self._starts += 1
        command = processes.tethered(Path(sys.executable), "-c", _MAIN, *self._arguments)
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=DEVNULL, stderr=log, start_new_session=True
            )

    async def ended(self) -> int:
        """Wait until it ends by itself; its exit code."""
        assert self._process is not None
        async with asyncio.timeout(30):
            return await self._process.wait()

    async def terminate(self) -> int:
        """End it with SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return await self.ended()

    async def kill(self) -> None:
        """End it as a crash would."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def logged(self, name: str, *, deadline: float = 15) -> dict[str, Any]:
        """Wait for an event; AssertionError with the log where the process ends instead."""

        def found() -> dict[str, Any] | None:
            if events := self.events(name):
                return events[-1]
            assert self._process is not None
            if self._process.returncode is not None:
                raise RuntimeError(f"it ended:\n{self.log.read_text()}")
            return None

        return await eventually_async(found, deadline=deadline, what=f"{name} in {self.log}")


@asynccontextmanager
async def control_plane(*arguments: object, folder: Path) -> AsyncIterator[ControlPlane]:
    """One that is not started yet, and does not outlive the block; it logs into the folder."""
    plane = ControlPlane(*arguments, folder=folder)
    try:
        yield plane
    finally:
        await plane.kill()
