"""`smi-xds serve` as a process, with real Envoys of a small mesh under load."""

import asyncio
import json
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from smi_xds.demo import http1
from smi_xds.demo.envoy import Sidecar, envoy_binary, running_sidecar
from smi_xds.xds.names import ADMIN_PORT
from tests.support.cli import run_cli
from tests.support.wait import eventually_async

COMMAND = "from smi_xds.cli.main import main; main()"
"""The command, as Python."""

_SHOP = """
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/access: permissive}
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  namespace: shop
  annotations: {smi-xds.io/address: BLOCK.2, smi-xds.io/app-address: BLOCK.102}
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web}
  annotations: {smi-xds.io/address: BLOCK.3, smi-xds.io/app-address: BLOCK.103}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
"""


@dataclass(frozen=True, slots=True)
class Command:
    """`smi-xds serve`, in a process of its own."""

    process: asyncio.subprocess.Process
    address: str

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.returncode is None

    def terminate(self) -> None:
        """What Kubernetes does first."""
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        """Wait until it ends by itself."""
        async with asyncio.timeout(40):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    home: Path, *, address: str = "127.0.0.1:0", code: str = COMMAND, flags: tuple[str, ...] = ()
) -> AsyncIterator[Command]:
    """Serve the folder `objects` in `home`; killed at the end of the block."""
    words = [sys.executable, "-c", code, "serve", "--files", str(home / "objects")]
    words += ["--xds-address", address, "--monitoring-address", "127.0.0.1:0"]
    words += ["--state-folder", str(home / "state"), "--log-format", "json", *flags]
    with (home / "serve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
    try:
        bound = await eventually_async(lambda: _address(home), deadline=30, retry_on=(ValueError,))
        yield Command(process, bound)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def logged(home: Path) -> list[str]:
    """The events that were logged, in order; ValueError where a line is no event."""
    return [event["event"] for event in _events(home)]


def _events(home: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (home / "serve.log").read_text().splitlines()]


def _address(home: Path) -> str:
    return next((each["xds_address"] for each in _events(home) if each["event"] == "serving"), "")


def write_objects(home: Path, block: str) -> None:
    """A namespace with two pods; one calls the other."""
    (home / "objects").mkdir()
    (home / "objects" / "shop.yaml").write_text(_SHOP.replace("BLOCK", block))


@dataclass(slots=True)
class Shop:
    """The pods of the mesh, at work."""

    answers: Counter[int] = field(default_factory=Counter)
    """What the client was told, by status; 0 is a lost connection."""
    sidecars: dict[str, Sidecar] = field(default_factory=dict)

    async def goes_on(self) -> None:
        """Wait for further answers."""
        before = self.answers[200]
        await eventually_async(lambda: self.answers[200] > before + 10, deadline=30)

    async def stats(self, name: str, regex: str) -> dict[str, int]:
        """Counters and gauges of a sidecar whose names match."""
        url = f"http://{self.sidecars[name].admin_host}:{ADMIN_PORT}/stats?filter={quote(regex)}"
        lines = (await asyncio.to_thread(_fetch, url)).splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {stat: int(value) for stat, _, value in pairs if value.isdigit()}


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
    return body.decode()


@asynccontextmanager
async def shop(
    home: Path,
    command: Command,
    block: str,
    *,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...] = (),
) -> AsyncIterator[Shop]:
    """Sidecars from what `smi-xds bootstrap` prints, the application, and a client that calls."""
    made = Shop()
    async with AsyncExitStack() as stack:
        for name in ("client", "web"):
            capsys.readouterr()
            proxy = ("--files", home / "objects", "--proxy", f"shop/{name}")
            assert run_cli("bootstrap", *proxy, "--server", command.address, *flags) == 0
            printed = capsys.readouterr().out
            made.sidecars[name] = await stack.enter_async_context(
                started_sidecar(name, home, printed)
            )
        await stack.enter_async_context(application(f"{block}.103"))
        await stack.enter_async_context(_load(f"{block}.2", made.answers))
        await made.goes_on()
        yield made


@asynccontextmanager
async def started_sidecar(name: str, home: Path, bootstrap: str) -> AsyncIterator[Sidecar]:
    """An Envoy with this bootstrap, ready; its files are in `home`."""
    path = home / f"{name}.json"
    path.write_text(bootstrap)
    admin = json.loads(bootstrap)["admin"]["address"]["socket_address"]["address"]
    async with running_sidecar(
        name=name,
        binary=envoy_binary(),
        bootstrap=path,
        admin_host=admin,
        logs=home,
    ) as (sidecar, _):
        await sidecar.wait_until_ready()
        yield sidecar


@asynccontextmanager
async def application(address: str) -> AsyncIterator[None]:
    """What `web` does: it answers on port 8080."""

    async def answer(_: http1.Message) -> bytes:
        return http1.response(200, b"web", headers={})

    server = await http1.serve(address, 8080, answer)
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def _load(sidecar: str, found: Counter[int]) -> AsyncIterator[None]:
    """Call `web` all the time, on one connection, without retries."""
    request = http1.request("GET", "/", host="web.shop:8080", headers={})

    connection: http1.Connection | None = None

    async def call() -> None:
        nonlocal connection
        while True:
            try:
                if connection is None or not connection.is_open:
                    connection = await http1.Connection.open(sidecar, 15001)
                found[int((await connection.send(request)).first_line[1])] += 1
            except http1.HttpError:
                found[0] += 1
                connection = None

    async with asyncio.TaskGroup() as group:
        task = group.create_task(call())
        try:
            yield
        finally:
            task.cancel()
            if connection is not None:
                connection.close()
