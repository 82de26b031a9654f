"""The monitoring port of a running server: the metrics move with what happens."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from smi_xds import app
from smi_xds.config import Address, ServeConfig, parse_serve
from smi_xds.problems import ServeError
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER
from tests.ads.client import stream
from tests.app.test_running import NeverReady
from tests.support.wait import eventually_async

OBJECTS = """
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/address: 127.0.0.11}
spec: {serviceAccountName: web}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec: {service: web, backends: [{service: web-v1, weight: 1}]}
"""

Samples: TypeAlias = Mapping[tuple[str, ...], float]


@pytest.fixture
def config(tmp_path: Path) -> ServeConfig:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "web.yaml").write_text(OBJECTS)
    return parse_serve(
        files=[folder],
        xds_address="127.0.0.1:0",
        monitoring_address="127.0.0.1:0",
        state_folder=tmp_path / "state",
    )


@pytest.fixture
async def server(config: ServeConfig) -> AsyncIterator[app.Running]:
    async with app.running(config) as running:
        yield running


async def get(server: app.Running, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.monitoring}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def scrape(server: app.Running) -> Samples:
    """What Prometheus would read of ours."""
    _, text = await get(server, "/metrics")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("smi_xds_")
    }


async def test_metrics_follow_a_proxy(server: app.Running, config: ServeConfig) -> None:
    """Streams, pushes, NACKs, stale nonces, states, convergence: each where it should be."""
    before = await scrape(server)
    assert before["smi_xds_rounds_total",] == 1
    assert before["smi_xds_failed_rounds_total",] == 0
    assert before["smi_xds_build_seconds_count",] == 1
    assert before["smi_xds_streams",] == 0
    assert before["smi_xds_proxies", "not_connected"] == 1
    assert before["smi_xds_problems", "MissingService"] == 1

    target = f"127.0.0.1:{server.xds_port}"
    async with stream(target, is_delta=False, node="shop/web") as client:
        await client.ask(CLUSTER)
        await client.answer(await client.hear())
        await client.ask(LISTENER)
        await client.answer(await client.hear(), error="no")
        await client.ask(LISTENER, response_nonce="0")
        await client.ask(ENDPOINTS, "nonsense")

        async def stale() -> float | None:
            return (await scrape(server)).get(("smi_xds_stale_nonces_total", "Listener"))

        await eventually_async(stale)  # nobody answers it
        await server.status.converged()
        during = await scrape(server)

    assert during["smi_xds_streams",] == 1
    assert during["smi_xds_proxies", "nacked"] == 1
    assert during["smi_xds_proxies", "not_connected"] == 0
    assert during["smi_xds_pushes_total", "Cluster"] == 1
    assert during["smi_xds_acks_total", "Cluster"] == 1
    assert during["smi_xds_nacks_total", "Listener"] == 1
    assert during["smi_xds_stale_nonces_total", "Listener"] == 1
    assert during["smi_xds_config_bytes_count", "Cluster"] == 1
    assert during["smi_xds_push_queue_seconds_count",] == 2
    assert during["smi_xds_push_send_seconds_count",] == 2

    file = config.files[0] / "web.yaml"
    file.write_text(OBJECTS.replace("127.0.0.11", "127.0.0.12"))
    await eventually_async(lambda: server.round == 2)
    assert (await scrape(server))["smi_xds_rounds_total",] == 2


async def test_convergence_is_from_the_change_to_the_last_answer(
    server: app.Running, config: ServeConfig
) -> None:
    """Only rounds that concern somebody count."""
    async with stream(f"127.0.0.1:{server.xds_port}", node="shop/web") as client:
        await client.ask(LISTENER)
        await client.answer(await client.hear())
        await server.status.converged()
        before = await scrape(server)

        (config.files[0] / "web.yaml").write_text(OBJECTS.replace("127.0.0.11", "127.0.0.12"))
        await client.answer(await client.hear())
        await eventually_async(lambda: server.status.rounds[-1].converged_at)
        after = await scrape(server)

    name = "smi_xds_convergence_seconds_count"
    assert after[name,] == before[name,] + 1
    total = "smi_xds_convergence_seconds_sum"
    last = server.status.rounds[-1]
    assert last.converged_at is not None
    assert last.since < last.published_at <= last.converged_at
    assert after[total,] - before[total,] == pytest.approx(last.converged_at - last.since)


async def test_rejected_streams_count(server: app.Running) -> None:
    """By the code that they got."""
    async with stream(f"127.0.0.1:{server.xds_port}", node="") as client:
        await client.ask(CLUSTER)
        await client.call.code()

    assert (await scrape(server))["smi_xds_rejected_streams_total", "INVALID_ARGUMENT"] == 1


async def test_types_that_nobody_knows_share_one_label(server: app.Running) -> None:
    """A client may ask for any type; the metrics do not grow with its fantasy."""
    async with stream(f"127.0.0.1:{server.xds_port}", node="shop/web") as client:
        for number in range(3):
            type_ = type(CLUSTER)(f"type.googleapis.com/made.up.Type{number}")
            await client.ask(type_, "x")
            await client.answer(await client.hear())
        pushes = {key for key in await scrape(server) if key[0] == "smi_xds_pushes_total"}

    assert pushes == {("smi_xds_pushes_total", "other")}


async def test_health_and_readiness(server: app.Running) -> None:
    """Both are fine once a server is up."""
    assert await get(server, "/healthz") == (200, "ok\n")
    assert await get(server, "/readyz") == (200, "ready\n")


async def test_not_ready_before_the_first_sync(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """The port is there from the start: alive, and no place to send proxies to yet."""
    late, opened = NeverReady(), app._opened

    async def with_late(config: ServeConfig) -> object:
        return [*await opened(config), late]

    async def serve_for_ever() -> None:
        address = Address("127.0.0.1", unused_tcp_port)
        async with app.running(replace(config, monitoring_address=address)):
            await asyncio.Event().wait()

    async def code(path: str) -> int:
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://127.0.0.1:{unused_tcp_port}{path}")
            return answer.status

    async def is_ready() -> bool:
        return await code("/readyz") == 200

    monkeypatch.setattr(app, "_opened", with_late)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve_for_ever())
        await eventually_async(lambda: code("/healthz"), retry_on=(aiohttp.ClientError,))
        assert (await code("/healthz"), await code("/readyz")) == (200, 503)
        late.may_sync.set()
        await eventually_async(is_ready)
        serving.cancel()


async def test_the_lag_of_the_loop_is_measured(server: app.Running) -> None:
    """A few times a second."""

    async def is_measured() -> bool:
        return (await scrape(server))["smi_xds_event_loop_lag_seconds_count",] > 0

    await eventually_async(is_measured)


async def test_the_end_of_the_authority_can_be_watched(server: app.Running) -> None:
    """And the phase of a rotation: one of them is 1."""
    found = await scrape(server)

    ends = server.keeper.state.signer.not_after.timestamp()
    assert found["smi_xds_authority_ends_timestamp_seconds",] == ends
    phases = {key[1]: value for key, value in found.items() if "authority_phase" in key[0]}
    assert phases == {"steady": 1, "trust": 0, "sign": 0, "fade": 0}


async def test_an_occupied_monitoring_port_is_an_error_of_its_own(
    server: app.Running, config: ServeConfig, tmp_path: Path
) -> None:
    """The line names the address and the flag."""
    assert server.monitoring is not None
    taken = replace(config, monitoring_address=server.monitoring, state_folder=tmp_path / "other")
    with pytest.raises(ServeError, match=rf"{server.monitoring}: .*--monitoring-address"):
        async with app.running(taken):
            pytest.fail("must not start")


async def test_nobody_has_to_be_monitored(config: ServeConfig) -> None:
    """Without an address there is no HTTP server."""
    async with app.running(replace(config, monitoring_address=None)) as server:
        assert server.monitoring is None
