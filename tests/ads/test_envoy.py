"""A real Envoy, state of the world and delta, fed with small resources made by hand."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from smi_xds.ads.cache import Cache
from smi_xds.ads.server import listening
from smi_xds.ads.session import Session
from smi_xds.ads.status import Status, StreamStatus, Sync
from smi_xds.debug.service import debug_services
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource
from tests.ads.client import Served, serving
from tests.ads.envoy_config import NODE, bootstrap, cluster, endpoints, listener, routes, served
from tests.ads.upstream import free_port, traffic, upstream
from tests.support.cli import run_cli
from tests.support.envoy import EnvoyProcess, envoy
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

BOTH = pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])

# Envoy asks for routes as soon as it has a listener: when nobody asks for so long, it is done.
QUIET = 0.1


@dataclass
class Mesh:
    """An Envoy and the server that feeds it."""

    server: Served
    proxy: EnvoyProcess

    @property
    def stream(self) -> StreamStatus:
        """The only stream."""
        (stream,) = self.server.status.streams.values()
        return stream

    async def give(self, *resources: Resource) -> float:
        """Publish, wait until Envoy answered everything; the seconds that it took."""
        begin = time.monotonic()
        self.server.cache.publish(served(*resources))
        async with asyncio.timeout(30):
            await self.server.status.converged(quiet=QUIET)
        return self.server.status.answered_at - begin

    async def rejections(self) -> dict[str, int]:
        """Counters of refused updates that are not zero."""
        stats = await self.proxy.stats("update_rejected")
        return {name: value for name, value in stats.items() if value}


@asynccontextmanager
async def running(*resources: Resource, is_delta: bool) -> AsyncIterator[Mesh]:
    """An Envoy that has these."""
    async with serving(debug_services) as server:
        server.cache.publish(served(*resources))
        async with envoy(bootstrap(server.port, is_delta=is_delta)) as proxy:
            await eventually_async(lambda: server.status.streams)
            async with asyncio.timeout(30):
                await server.status.converged(quiet=QUIET)
            yield Mesh(server, proxy)


@BOTH
async def test_starts_with_everything(is_delta: bool) -> None:
    """Each type is sent once and acknowledged, and traffic flows."""
    port = free_port()
    async with (
        upstream("one") as one,
        running(
            *(cluster("a"), endpoints("a", one), listener("l", port), routes("l", "a")),
            is_delta=is_delta,
        ) as mesh,
    ):
        types = mesh.stream.types
        assert {type_: status.sync for type_, status in types.items()} == dict.fromkeys(
            (CLUSTER, ENDPOINTS, LISTENER, ROUTES), Sync.SYNCED
        )
        assert {status.responses for status in types.values()} == {1}
        assert mesh.stream.node.user_agent == "envoy"
        async with traffic(port) as seen:
            await eventually_async(lambda: seen.seen["200 one"] > 10)
        assert set(seen.seen) == {"200 one"}
        assert await mesh.rejections() == {}


@BOTH
async def test_w3_a_changed_cluster_is_warm_at_once(is_delta: bool) -> None:
    """W3: Envoy withholds its ACK until the endpoints come again; without them, for 15 s."""
    port = free_port()
    rest = (listener("l", port), routes("l", "a"))
    async with (
        upstream("one") as one,
        running(cluster("a"), endpoints("a", one), *rest, is_delta=is_delta) as mesh,
        traffic(port) as seen,
    ):
        for seconds in range(2, 12):
            changed = cluster("a", timeout=f"{seconds}s")
            assert await mesh.give(changed, endpoints("a", one), *rest) < 5
        assert mesh.stream.types[CLUSTER].acks == mesh.stream.types[ENDPOINTS].acks == 11
        stats = await mesh.proxy.stats("cluster_manager")
        assert stats["cluster_manager.warming_clusters"] == 0
        assert stats["cluster_manager.cluster_modified"] == 10
        assert set(seen.seen) == {"200 one"}


@BOTH
async def test_w4_a_changed_listener_gets_its_routes(is_delta: bool) -> None:
    """W4: it is warm at once, too."""
    port = free_port()
    rest = (cluster("a"), endpoints("a", 1), routes("l", "a"))
    async with running(listener("l", port), *rest, is_delta=is_delta) as mesh:
        assert await mesh.give(listener("l", port, prefix="y"), *rest) < 5
        stats = await mesh.proxy.stats("listener_manager")
        assert stats["listener_manager.listener_modified"] == 1
        assert stats["listener_manager.total_listeners_warming"] == 0


@BOTH
async def test_w2_traffic_moves_from_cluster_to_cluster_without_a_failure(is_delta: bool) -> None:
    """W1, W2: the cluster in use is replaced 50 times under load; no request fails."""
    port = free_port()
    async with upstream("even") as even, upstream("odd") as odd:

        def picture(number: int) -> list[Resource]:
            name, to = f"c{number}", (even, odd)[number % 2]
            parts = (cluster(name), endpoints(name, to), listener("l", port), routes("l", name))
            return list(parts)

        async with running(*picture(0), is_delta=is_delta) as mesh, traffic(port) as seen:
            await eventually_async(lambda: seen.seen["200 even"])
            for number in range(1, 51):
                await mesh.give(*picture(number))
            before = seen.seen["200 even"]
            await eventually_async(lambda: seen.seen["200 even"] > before)

            assert set(seen.seen) == {"200 even", "200 odd"}, seen.seen
            assert seen.connections == 1
            stats = await mesh.proxy.stats("cluster_manager")
            assert stats["cluster_manager.cluster_removed"] == 50
            assert stats["cluster_manager.active_clusters"] == 2  # the last one, and xds
            assert await mesh.rejections() == {}


@BOTH
async def test_d9_a_refused_cluster_is_shown_and_the_rest_served(
    is_delta: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """S4, D9: good clusters beside it are used at once; it is not sent again, and heals."""

    async def proxies() -> tuple[int, str]:
        """What an operator sees, and the exit code."""
        capsys.readouterr()
        target = mesh.server.target
        code = await asyncio.to_thread(run_cli, "proxies", "--server", target)
        return code, capsys.readouterr().out

    port = free_port()
    async with (
        upstream("one") as one,
        upstream("two") as two,
        running(
            *(cluster("a"), endpoints("a", one), listener("l", port), routes("l", "a")),
            is_delta=is_delta,
        ) as mesh,
        traffic(port) as seen,
    ):
        rest = (cluster("b"), endpoints("b", two), listener("l", port), routes("l", "b"))
        await eventually_async(lambda: seen.seen["200 one"])

        took = await mesh.give(cluster("bad", is_bad=True), *rest)

        clusters = mesh.stream.types[CLUSTER]
        assert took < 5
        assert (clusters.sync, clusters.refused) == (Sync.NACKED, frozenset({"bad"}))
        assert "no.such.socket" in clusters.error
        code, shown = await proxies()
        assert code == 1
        assert "NACKED" in shown
        (refusal,) = (line for line in shown.splitlines() if "refused" in line)
        assert refusal.startswith(f"{NODE}: Cluster refused (bad): ")
        assert "no.such.socket" in refusal
        # State of the world repeats it when it tells that `a` is gone.
        refusals = (await mesh.rejections())["cluster_manager.cds.update_rejected"]
        assert refusals == clusters.nacks == (1 if is_delta else 2)
        await eventually_async(lambda: seen.seen["200 two"])

        responses = clusters.responses
        await mesh.give(cluster("bad", is_bad=True), *rest)
        assert clusters.responses == responses

        await mesh.give(cluster("bad"), endpoints("bad", two), *rest)
        assert (clusters.sync, clusters.error) == (Sync.SYNCED, "")
        code, shown = await proxies()
        assert code == 0
        assert "NACKED" not in shown
        assert set(seen.seen) == {"200 one", "200 two"}


@BOTH
async def test_w2_refused_routes_keep_their_cluster(is_delta: bool) -> None:
    """W2: as long as the new routes are refused, the cluster of the old ones serves."""
    port = free_port()
    async with (
        upstream("one") as one,
        running(
            *(cluster("a"), endpoints("a", one), listener("l", port), routes("l", "a")),
            is_delta=is_delta,
        ) as mesh,
        traffic(port) as seen,
    ):
        there = (cluster("b"), endpoints("b", one), listener("l", port))
        await mesh.give(*there, routes("l", "b", is_bad=True))
        assert mesh.stream.types[ROUTES].sync == Sync.NACKED
        assert "wildcard domain" in mesh.stream.types[ROUTES].error
        before = seen.seen["200 one"]
        await eventually_async(lambda: seen.seen["200 one"] > before + 10)
        assert (await mesh.proxy.stats("cluster_removed"))["cluster_manager.cluster_removed"] == 0

        await mesh.give(*there, routes("l", "b"))

        stats = await mesh.proxy.stats("cluster_removed")
        assert stats["cluster_manager.cluster_removed"] == 1
        assert set(seen.seen) == {"200 one"}


@BOTH
async def test_a_restarted_server_changes_nothing(is_delta: bool) -> None:
    """D7, S2: Envoy comes back to another server with the same resources: nothing is touched."""
    port = free_port()
    async with upstream("one") as one:
        parts = (cluster("a"), endpoints("a", one), listener("l", port), routes("l", "a"))
        xds_port = free_port()
        async with envoy(bootstrap(xds_port, is_delta=is_delta)) as proxy, asyncio.timeout(60):
            cache, status = Cache(), Status()
            cache.publish(served(*parts))
            async with listening(cache, status, host="127.0.0.1", port=xds_port):
                await eventually_async(lambda: status.streams, deadline=40)
                await status.converged(quiet=QUIET)
                async with traffic(port) as seen:
                    await eventually_async(lambda: seen.seen["200 one"])
            assert set(seen.seen) == {"200 one"}

            cache, status = Cache(), Status()
            cache.publish(served(*parts))
            async with traffic(port) as seen:
                async with listening(cache, status, host="127.0.0.1", port=xds_port):
                    await eventually_async(lambda: status.streams, deadline=40)
                    await status.converged(quiet=QUIET)
                    (stream,) = status.streams.values()
                    stats = await proxy.stats()
                assert set(seen.seen) == {"200 one"}
    if is_delta:
        # Two empty answers to the wildcards, and nothing else.
        assert {t for t, s in stream.types.items() if s.responses} == {CLUSTER, LISTENER}
        assert sum(each.bytes for each in stream.types.values()) < 200
    assert {each.sync for each in stream.types.values()} <= {Sync.SYNCED, Sync.IDLE}
    assert stats["cluster_manager.cluster_modified"] == 0
    assert stats["listener_manager.listener_modified"] == 0
    assert stats["cluster_manager.cds.update_rejected"] == 0


@BOTH
async def test_a_service_removed_while_the_server_was_away(is_delta: bool) -> None:
    """W2, D7: on delta the old cluster goes after the routes, also for a new server."""
    port = free_port()
    async with upstream("one") as one, upstream("two") as two:
        xds_port = free_port()
        async with envoy(bootstrap(xds_port, is_delta=is_delta)) as proxy, asyncio.timeout(90):
            cache, status = Cache(), Status()
            old = (cluster("a"), endpoints("a", one), listener("l", port), routes("l", "a"))
            cache.publish(served(*old))
            async with listening(cache, status, host="127.0.0.1", port=xds_port):
                await eventually_async(lambda: status.streams, deadline=40)
                await status.converged(quiet=QUIET)

            cache, status = Cache(), Status()
            new = (cluster("b"), endpoints("b", two), listener("l", port), routes("l", "b"))
            cache.publish(served(*new))
            async with traffic(port) as seen:
                await eventually_async(lambda: seen.seen["200 one"])
                async with listening(cache, status, host="127.0.0.1", port=xds_port):
                    await eventually_async(lambda: status.streams, deadline=40)
                    await status.converged(quiet=QUIET)
                    await eventually_async(lambda: seen.seen["200 two"])
                    stats = await proxy.stats("cluster_manager")
    assert stats["cluster_manager.cluster_removed"] == 1
    if is_delta:  # a full state cannot keep what the server does not know
        assert set(seen.seen) == {"200 one", "200 two"}


@BOTH
async def test_w6_a_proxy_cut_off_while_it_warms_is_warm_at_once(
    is_delta: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W6: it comes back asking for endpoints first, with the version it has, and waits for them."""
    port, xds_port = free_port(), free_port()
    rest = (endpoints("a", 1), listener("l", port), routes("l", "a"))
    changed = served(cluster("a", timeout="3s"), *rest)
    async with envoy(bootstrap(xds_port, is_delta=is_delta)) as proxy, asyncio.timeout(60):

        async def warming() -> int:
            stats = await proxy.stats("warming_clusters")
            return stats["cluster_manager.warming_clusters"]

        async def is_warm() -> bool:
            return await warming() == 0

        cache, status = Cache(), Status()
        cache.publish(served(cluster("a"), *rest))
        async with listening(cache, status, host="127.0.0.1", port=xds_port):
            await eventually_async(lambda: status.streams, deadline=40)
            await status.converged(quiet=QUIET)
            with monkeypatch.context() as patch:
                # A server that dies between the cluster and its endpoints.
                patch.setattr(Session, "_warm", lambda _self, _response: None)
                cache.publish(changed)
                await eventually_async(warming)

        cache, status = Cache(), Status()
        cache.publish(changed)
        async with listening(cache, status, host="127.0.0.1", port=xds_port):
            await eventually_async(lambda: status.streams, deadline=40)
            await eventually_async(is_warm, deadline=5, what="the cluster to be warm")
            await status.converged(quiet=QUIET)
            assert status.rounds[-1].converged_at is not None
