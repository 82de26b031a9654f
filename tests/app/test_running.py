"""A server as a context: rounds, convergence, and nothing before the first sync."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from smi_xds import app
from smi_xds.ads.services import AGGREGATED
from smi_xds.app.pipeline import Pipeline
from smi_xds.config import Address, ServeConfig, parse_serve
from smi_xds.objects.store import Origin, Sink, Synced
from smi_xds.problems import IdentityError, ServeError, SourceError
from smi_xds.xds.resources import LISTENER
from smi_xds.xds.translate import warm_up
from tests.ads.client import Stream
from tests.support.wait import eventually_async

OBJECTS = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/address: 127.0.0.11}
spec: {serviceAccountName: web}
"""


@pytest.fixture
def config(tmp_path: Path) -> ServeConfig:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "web.yaml").write_text(OBJECTS)
    return parse_serve(files=[folder], xds_address="127.0.0.1:0", state_folder=tmp_path / "state")


def edit(config: ServeConfig, text: str) -> None:
    """Replace the file in one go, as editors do."""
    file = config.files[0] / "web.yaml"
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").replace(file)


@asynccontextmanager
async def sotw_call(port: int) -> AsyncIterator[Stream]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.stream_stream(f"/{AGGREGATED}/StreamAggregatedResources")
        yield Stream(method(), is_delta=False, node="shop/web")


async def test_classes_are_warm_before_anything_is_made_of_them(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A translator makes messages when it is made; of cold classes it takes half a second."""
    order: list[str] = []

    def noted_warm_up() -> None:
        order.append("warm up")
        warm_up()

    def noted_make(*arguments: Any, **named: Any) -> Pipeline:
        order.append("make")
        return Pipeline(*arguments, **named)

    monkeypatch.setattr(app, "warm_up", noted_warm_up)
    monkeypatch.setattr(app, "Pipeline", noted_make)
    async with app.running(config):
        assert order == ["warm up", "make"]


async def test_a_running_server_has_a_mesh(config: ServeConfig) -> None:
    """The context begins when the first round is published."""
    async with app.running(config) as server:
        assert [str(proxy) for proxy in server.mesh.workloads] == ["shop/web"]
        assert (server.round, server.failed_rounds) == (1, 0)
        assert server.xds_port > 0


async def test_an_edit_makes_a_round(config: ServeConfig) -> None:
    """Whoever waits for the round after the one it knows gets the mesh of the edit."""
    async with app.running(config) as server, asyncio.timeout(10):
        edit(config, OBJECTS.replace("127.0.0.11", "127.0.0.12"))
        began = await server.next_round(1)

        assert began <= server.latest.published
        assert [w.address for w in server.mesh.workloads.values()] == ["127.0.0.12"]


async def test_a_broken_file_is_a_problem_and_changes_nothing_else(config: ServeConfig) -> None:
    """The last good objects stay, and the problem is on the mesh until it is mended."""
    async with app.running(config) as server:
        edit(config, "kind: [")
        await eventually_async(lambda: server.mesh.problems)
        assert len(server.mesh.workloads) == 1

        edit(config, OBJECTS)
        await eventually_async(lambda: not server.mesh.problems)


async def test_convergence_waits_for_the_proxies_that_are_named(config: ServeConfig) -> None:
    """A server without proxies has converged; one that is awaited has to come."""
    async with app.running(config) as server:
        async with asyncio.timeout(5):
            await server.converged()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await server.converged(["shop/web"])


class NeverReady:
    """A source that has nothing to say yet."""

    name = "late"

    def __init__(self) -> None:
        self.may_sync = asyncio.Event()

    async def run(self, sink: Sink) -> NoReturn:
        await self.may_sync.wait()
        sink.apply(Origin(self.name), [Synced()])
        await asyncio.Event().wait()
        raise AssertionError("cancelled before")


async def test_nothing_is_served_before_every_source_has_said_all(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """Until the first complete sync a stream is refused with UNAVAILABLE, not given nothing."""
    late = NeverReady()
    opened = app._opened

    async def with_late(config: ServeConfig) -> object:
        return [*await opened(config), late]

    monkeypatch.setattr(app, "_opened", with_late)
    address = Address("127.0.0.1", unused_tcp_port)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(_serve_for_ever(replace(config, xds_address=address)))
        async with sotw_call(unused_tcp_port) as stream:
            await eventually_async(lambda: _is_refused(unused_tcp_port))
            late.may_sync.set()
            await eventually_async(lambda: _is_served(unused_tcp_port))
            stream.call.cancel()
        serving.cancel()


async def _serve_for_ever(config: ServeConfig) -> None:
    async with app.running(config):
        await asyncio.Event().wait()


async def _is_refused(port: int) -> bool:
    return await _code(port) is grpc.StatusCode.UNAVAILABLE


async def _is_served(port: int) -> bool:
    return await _code(port) is None


async def _code(port: int) -> grpc.StatusCode | None:
    """The status that a stream ends with before it got a response; None if it got one."""
    async with sotw_call(port) as stream:
        try:
            await stream.ask(LISTENER)
            answer = await stream.call.read()
        except grpc.aio.AioRpcError as error:
            return error.code()
        if answer is grpc.aio.EOF:
            code = await stream.call.code()
            assert isinstance(code, grpc.StatusCode)
            return code
        stream.call.cancel()
        return None


async def test_what_hinders_the_start_is_an_error_of_its_own(
    config: ServeConfig, tmp_path: Path
) -> None:
    """A missing folder, a corrupt key and an occupied port are told apart, each in one line."""

    async def start(config: ServeConfig) -> None:
        async with app.running(config):
            raise AssertionError("started")

    with pytest.raises(SourceError, match="nowhere"):
        await start(replace(config, files=(tmp_path / "nowhere",)))
    async with app.running(config) as server:
        taken = Address("127.0.0.1", server.xds_port)
        with pytest.raises(ServeError, match=str(server.xds_port)):
            await start(replace(config, xds_address=taken))
    (config.state_folder / "ca.key").write_text("garbage")
    with pytest.raises(IdentityError, match=r"ca\.key"):
        await start(config)


async def test_a_source_that_fails_ends_the_server(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of a source reaches whoever runs the server."""

    class Failing(NeverReady):
        async def run(self, sink: Sink) -> NoReturn:
            raise SourceError("the disk is full of bees")

    async def only_failing(config: ServeConfig) -> object:
        return [Failing()]

    monkeypatch.setattr(app, "_opened", only_failing)
    with pytest.raises(ExceptionGroup) as raised:
        await _serve_for_ever(config)

    assert raised.group_contains(SourceError, match="bees")
