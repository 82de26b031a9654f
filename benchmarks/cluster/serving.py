"""`smi-xds serve --kubernetes` as a process, and what it takes of the machine."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

# Seconds. A start at load 20 is to be reported, not to be given up.
_PATIENCE: Final = 300.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers."""

    process: "subprocess.Popen[str]"
    started: float
    """Seconds from the start of the process to its last line before it serves."""
    synced: float
    """Seconds to the first published round."""
    xds: str
    monitoring: str
    webhooks: str

    @property
    def cpu(self) -> float:
        """Seconds of processor time until now."""
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> float:
        """Resident now, in MB."""
        return self._status("VmRSS")

    @property
    def most_memory(self) -> float:
        """The most that was ever resident, in MB."""
        return self._status("VmHWM")

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://{self.monitoring}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def _status(self, field: str) -> float:
        line = next(it for it in self._proc("status").splitlines() if it.startswith(field))
        return int(line.split()[1]) / 1024

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text(encoding="ascii")


@asynccontextmanager
async def served(kubeconfig: Path, *more: str) -> AsyncIterator[Served]:
    """Start it, wait until it serves, and end it after the block."""
    with TemporaryDirectory(prefix="smi-xds-bench-") as state:
        command = [
            *(str(Path(sys.executable).with_name("smi-xds")), "serve"),
            *("--kubernetes", "--kubeconfig", str(kubeconfig), "--state-folder", state),
            *("--xds-address", "127.0.0.1:0", "--monitoring-address", "127.0.0.1:0"),
            *("--log-format", "json", *more),
        ]
        # Bytecode is kept, as Python does unless told otherwise.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        began = time.monotonic()
        process = _started(command, environment)
        assert process.stderr is not None
        # What it says once it serves is to be read by somebody.
        rest = threading.Thread(target=process.stderr.read, daemon=True)
        try:
            async with asyncio.timeout(_PATIENCE):
                server = await asyncio.to_thread(_wait, process, began)
            rest.start()
            yield server
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait)
            if rest.is_alive():
                await asyncio.to_thread(rest.join)
            process.stderr.close()


def _started(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def _wait(process: "subprocess.Popen[str]", began: float) -> Served:
    assert process.stderr is not None
    synced = 0.0
    said = []
    for line in process.stderr:
        said.append(line)
        event: dict[str, Any] = json.loads(line) if line.startswith("{") else {"event": ""}
        if event["event"] == "synced":
            synced = time.monotonic() - began
        if event["event"] == "serving":
            started = time.monotonic() - began
            return Served(
                process=process,
                started=started,
                synced=synced,
                xds=event["xds_address"],
                monitoring=event["monitoring_address"],
                webhooks=event["webhook_address"] or "",
            )
    raise AssertionError("serve ended: " + "".join(said[-5:]))
