"""`smi-xds serve` is told to stop: an orderly end, that no request notices."""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from smi_xds.demo import http1
from smi_xds.demo.addresses import free_block
from smi_xds.demo.envoy import envoy_binary, running_sidecar
from smi_xds.xds.resources import CLUSTER
from tests.ads.client import stream
from tests.support.cli import run_cli
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

# The command, with as much time to drain as a server of many more proxies would take.
SLOW = """
from dataclasses import replace
from smi_xds.ads import limits
limits.DEFAULTS = replace(limits.DEFAULTS, drain_rate={rate}, drain_longest=60.0)
from smi_xds.cli.main import main
main()
"""

SHOP = """
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
async def serving(folder: Path, home: Path, *, drain_rate: float) -> AsyncIterator[Command]:
    """The command, serving that folder on a free port."""
    words = [sys.executable, "-c", SLOW.format(rate=drain_rate), "serve", "--files", str(folder)]
    words += ["--xds-address", "127.0.0.1:0", "--monitoring-address", "127.0.0.1:0"]
    words += ["--state-folder", str(home / "state"), "--log-format", "json"]
    with (home / "serve.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
    try:
        address = await eventually_async(
            lambda: _address(log.name), deadline=30, retry_on=(ValueError,)
        )
        yield Command(process, address)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _address(log: str) -> str:
    events = [json.loads(line) for line in Path(log).read_text().splitlines()]
    return next((each["xds_address"] for each in events if each["event"] == "serving"), "")


@dataclass(slots=True)
class Streams:
    """Streams that wait for news, and when each was ended."""

    calls: list[Any]
    ended: list[float]


@asynccontextmanager
async def waiting(target: str, count: int) -> AsyncIterator[Streams]:
    """As many streams, of both dialects, each on a connection of its own and up to date."""
    clock, ended = asyncio.get_running_loop().time, list[float]()
    async with AsyncExitStack() as stack:
        calls = []
        for number in range(count):
            opened = stream(target, is_delta=number % 2 == 0, node="shop/web")
            client = await stack.enter_async_context(opened)
            await client.ask(CLUSTER)
            await client.answer(await client.hear())
            client.call.add_done_callback(lambda _: ended.append(clock()))
            calls.append(client.call)
        yield Streams(calls, ended)


async def _is_refused(target: str) -> bool:
    async with stream(target, node="shop/web") as late:
        code: grpc.StatusCode = await late.call.code()
    return code is grpc.StatusCode.UNAVAILABLE


async def test_a_signal_drains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """New streams are refused, open ones end one after another, no request fails, the end is 0."""
    async with AsyncExitStack() as stack:
        folder, block = _objects(tmp_path, stack.enter_context(free_block()))
        command = await stack.enter_async_context(serving(folder, tmp_path, drain_rate=4.0))
        for name in ("client", "web"):
            await _start_sidecar(name, command, folder, stack, capsys=capsys)
        await stack.enter_async_context(_application(f"{block}.103"))
        load = await stack.enter_async_context(_load(f"{block}.2"))
        await eventually_async(lambda: load[200] > 10, deadline=30)
        streams = await stack.enter_async_context(waiting(command.address, 8))

        command.terminate()
        await eventually_async(lambda: streams.ended, deadline=30)
        assert await _is_refused(command.address)
        for call in streams.calls:
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
            assert "connect to another" in await call.details()
        assert await command.exit_code() == 0

        assert max(streams.ended) - min(streams.ended) > 1.0
        answered = load[200]
        await eventually_async(lambda: load[200] > answered + 10, deadline=30)
        assert set(load) == {200}
    assert _events(tmp_path)[-1] == "stopped"


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Who cannot wait a minute for the drain need not."""
    folder, _ = _objects(tmp_path, "127.1.0")
    async with (
        serving(folder, tmp_path, drain_rate=0.1) as command,
        waiting(command.address, 6) as streams,
    ):
        command.terminate()
        await eventually_async(lambda: streams.ended, deadline=30)
        assert command.is_alive

        command.terminate()
        code = await command.exit_code()
        for call in streams.calls:
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert code == 0
    assert _events(tmp_path)[-1] == "stopped"


def _objects(tmp_path: Path, block: str) -> tuple[Path, str]:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "shop.yaml").write_text(SHOP.replace("BLOCK", block))
    return folder, block


def _events(home: Path) -> list[str]:
    """What was logged, in order; a line that is no event fails the test."""
    return [json.loads(line)["event"] for line in (home / "serve.log").read_text().splitlines()]


async def _start_sidecar(
    name: str,
    command: Command,
    folder: Path,
    stack: AsyncExitStack,
    *,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Start the Envoy of a pod from what `smi-xds bootstrap` prints, and wait for it."""
    capsys.readouterr()
    proxy = ("--files", folder, "--proxy", f"shop/{name}", "--server", command.address)
    assert run_cli("bootstrap", *proxy) == 0
    printed = capsys.readouterr().out
    path = folder.parent / f"{name}.json"
    path.write_text(printed)
    admin = json.loads(printed)["admin"]["address"]["socket_address"]["address"]
    sidecar, _ = await stack.enter_async_context(
        running_sidecar(
            name=name,
            binary=envoy_binary(),
            bootstrap=path,
            admin_host=admin,
            logs=folder.parent,
        )
    )
    await sidecar.wait_until_ready()


@asynccontextmanager
async def _application(address: str) -> AsyncIterator[None]:
    async def answer(_: http1.Message) -> bytes:
        return http1.response(200, b"web", headers={})

    server = await http1.serve(address, 8080, answer)
    try:
        yield
    finally:
        server.close()


@asynccontextmanager
async def _load(sidecar: str) -> AsyncIterator[Counter[int]]:
    """Call `web` all the time, on one connection, without retries; 0 is a lost connection."""
    found: Counter[int] = Counter()
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
        yield found
        task.cancel()
    if connection is not None:
        connection.close()
