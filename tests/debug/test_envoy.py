"""What `smi-xds proxies` says of a real Envoy that is given something it refuses, and its cure."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from smi_xds.ads.status import Status
from smi_xds.debug.service import debug_services
from tests.ads.client import NODE, Served, serving
from tests.ads.envoy_config import bootstrap, cluster, endpoints, listener, routes, served
from tests.ads.upstream import free_port, traffic, upstream
from tests.support.cli import run_cli
from tests.support.envoy import envoy
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy


async def answered(status: Status) -> None:
    """Envoy asks for more once it has read an answer; nothing for so long means that it is done."""
    async with asyncio.timeout(30):
        await status.converged(quiet=0.1)


@pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
async def test_a_refused_resource_is_shown_until_it_heals(
    is_delta: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text of Envoy and the name of the cluster; the rest is served; exit codes 0, 1, 0."""

    async def run(here: Served, *arguments: str) -> int:
        return await asyncio.to_thread(run_cli, "proxies", "--server", here.target, *arguments)

    def shown() -> Any:
        return json.loads(capsys.readouterr().out)

    port = free_port()
    with capture_logs():
        async with upstream("one") as one, serving(debug_services) as here:
            rest = (cluster("a"), endpoints("a", one), listener("l", port), routes("l", "a"))
            here.cache.publish(served(*rest))
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(envoy(bootstrap(here.port, is_delta=is_delta)))
                await eventually_async(lambda: here.status.streams)
                await answered(here.status)
                seen = await stack.enter_async_context(traffic(port))
                assert await run(here, "--output", "json") == 0
                (proxy,) = shown()["proxies"]
                assert (proxy["node"], proxy["state"]) == (NODE, "STATE_SYNCED")
                (stream,) = proxy["streams"]
                assert stream["mode"] == ("MODE_DELTA" if is_delta else "MODE_SOTW")
                assert stream["user_agent"] == "envoy"

                here.cache.publish(served(cluster("bad", is_bad=True), *rest))
                await answered(here.status)
                assert await run(here) == 1
                table = capsys.readouterr().out
                assert f"{NODE}: Cluster refused (bad): " in table
                assert "no.such.socket" in table
                before = seen.seen["200 one"]
                await eventually_async(lambda: seen.seen["200 one"] > before)

                here.cache.publish(served(cluster("bad"), endpoints("bad", one), *rest))
                await answered(here.status)
                assert await run(here, NODE) == 0
                assert "refused" not in capsys.readouterr().out
    assert set(seen.seen) == {"200 one"}
