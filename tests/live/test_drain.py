"""`smi-xds serve` is told to stop: an orderly end, that no request notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from smi_xds.demo.addresses import free_block
from smi_xds.xds.resources import CLUSTER
from tests.ads.client import stream
from tests.support.command import COMMAND, logged, serving, shop, write_objects
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy


def draining_at(rate: float) -> str:
    """The command, with as much time to drain as a server of many more proxies would take."""
    return f"""
from dataclasses import replace
from smi_xds.ads import limits
limits.DEFAULTS = replace(limits.DEFAULTS, drain_rate={rate}, drain_longest=60.0)
{COMMAND}
"""


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
    with free_block() as block:
        write_objects(tmp_path, block)
        async with (
            serving(tmp_path, code=draining_at(4.0)) as command,
            shop(tmp_path, command, block, capsys=capsys) as mesh,
            waiting(command.address, 8) as streams,
        ):
            command.terminate()
            await eventually_async(lambda: streams.ended, deadline=30)
            assert await _is_refused(command.address)
            for call in streams.calls:
                assert await call.code() is grpc.StatusCode.UNAVAILABLE
                assert "connect to another" in await call.details()
            assert await command.exit_code() == 0

            assert max(streams.ended) - min(streams.ended) > 1.0
            await mesh.goes_on()
    assert set(mesh.answers) == {200}
    assert logged(tmp_path)[-1] == "stopped"


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Who cannot wait a minute for the drain need not."""
    write_objects(tmp_path, "127.1.0")
    async with (
        serving(tmp_path, code=draining_at(0.1)) as command,
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
    assert logged(tmp_path)[-1] == "stopped"
