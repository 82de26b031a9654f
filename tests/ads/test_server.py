"""The server over real sockets: both dialects, pushes, refusals, and what it keeps account of."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from smi_xds.ads.cache import Cache
from smi_xds.ads.quiet import Quiet
from smi_xds.ads.server import listening
from smi_xds.ads.services import AGGREGATED
from smi_xds.ads.status import Status, Sync
from smi_xds.problems import ServeError
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET
from tests.ads.client import NODE, Served, names, serving, stream
from tests.ads.play import resources
from tests.support.wait import eventually_async

BOTH = pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as here:
        yield here


@BOTH
async def test_e5_serves_pushes_and_takes_acknowledgements(served: Served, is_delta: bool) -> None:
    """E5, E6: what is published reaches the client, is acknowledged, and so is the next round."""
    served.cache.publish({NODE: resources("cluster a 1")})
    async with stream(served.target, is_delta=is_delta) as client:
        await client.ask(CLUSTER)
        first = await client.hear()
        assert first.type_url == CLUSTER
        assert first.control_plane.identifier == "test"
        assert len(first.resources) == 1
        await client.answer(first)
        await served.status.converged()

        served.cache.publish({NODE: resources("cluster a 2")})
        second = await client.hear()
        assert second.nonce not in {"", first.nonce}
        await client.answer(second)
        last = await served.status.converged()

    assert last.number == 2
    assert last.streams == 1
    assert last.converged_at is not None
    assert last.converged_at >= last.published_at


async def test_is_unavailable_before_the_first_round(served: Served) -> None:
    """Nothing is better than an empty configuration: the client keeps what it has and retries."""
    async with stream(served.target) as client:
        assert await client.call.code() == grpc.StatusCode.UNAVAILABLE
        assert "first sync" in await client.call.details()


@BOTH
async def test_an_unknown_node_gets_nothing_until_it_is_known(
    served: Served, is_delta: bool
) -> None:
    """A proxy whose pod is not known yet is served an empty set and flagged."""
    served.cache.publish({})
    async with stream(served.target, is_delta=is_delta) as client:
        await client.ask(CLUSTER)
        empty = await client.hear()
        assert not empty.resources
        (status,) = served.status.streams.values()
        assert (status.is_known, status.node.id) == (False, NODE)
        await client.answer(empty)

        served.cache.publish({NODE: resources("cluster a 1")})

        assert len((await client.hear()).resources) == 1
        assert status.is_known


@pytest.mark.parametrize("node", [None, ""])
async def test_e2_without_a_node_the_stream_is_refused(served: Served, node: str | None) -> None:
    """E2: with one line that says what to do."""
    served.cache.publish({})
    async with stream(served.target, node=node) as client:
        await client.ask(CLUSTER)
        assert await client.call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "node.id" in await client.call.details()


@BOTH
async def test_e1_a_request_without_type_ends_the_stream(served: Served, is_delta: bool) -> None:
    """E1: as the first request and as a later one."""
    served.cache.publish({})
    async with stream(served.target, is_delta=is_delta) as client:
        await client.ask(TypeUrl(""))
        assert await client.call.code() == grpc.StatusCode.INVALID_ARGUMENT
    async with stream(served.target, is_delta=is_delta) as client:
        await client.ask(CLUSTER)
        await client.hear()
        await client.ask(TypeUrl(""))
        assert await client.call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "type_url" in await client.call.details()
    await eventually_async(lambda: not served.status.streams)


@BOTH
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_malformed_message_ends_the_stream_alone(
    served: Served, is_delta: bool, is_first: bool
) -> None:
    """What is no protobuf is refused; another stream goes on."""
    served.cache.publish({NODE: resources("cluster a 1")})
    async with stream(served.target) as other, stream(served.target, is_delta=is_delta) as client:
        await other.ask(CLUSTER)
        await other.answer(await other.hear())
        if not is_first:
            await client.ask(CLUSTER)
            await client.hear()
        await client.call.write(b"\xff\xff\xff")
        assert await client.call.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "no discovery request" in await client.call.details()

        served.cache.publish({NODE: resources("cluster a 2")})
        assert names(await other.hear()) == ["a"]


async def test_requests_may_be_large_but_not_without_limit(served: Served) -> None:
    """D7: 5 MB of initial versions are read; 40 MB are refused."""
    served.cache.publish({NODE: resources("cluster a 1")})
    async with stream(served.target) as client:
        known = {f"{n:064}": "v" * 32 for n in range(50_000)}
        await client.ask(CLUSTER, initial_resource_versions=known)
        assert names(await client.hear()) == ["a"]
    async with stream(served.target) as client:
        await client.ask(CLUSTER, error_detail={"message": "x" * (40 << 20)})
        assert await client.call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_log_does_not_say_all_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of clients may refuse the same at once; the first ones are named."""
    monkeypatch.setattr("smi_xds.ads.server.Quiet", lambda: Quiet(rate=1e-9))
    async with serving() as served, stream(served.target) as client:
        with capture_logs() as logs:
            for number in range(100):
                served.cache.publish({NODE: resources(f"cluster a {number}")})
                if number == 0:
                    await client.ask(CLUSTER)
                await client.answer(await client.hear(), error="no")
            await served.status.converged()

    said = [it for it in logs if it["event"] == "resources_rejected"]
    [status] = served.status.meters.nacks.values.values()
    assert status == 100
    assert len(said) == 50
    assert said[0]["error"] == "no"


@BOTH
async def test_a_refusal_is_kept_with_its_text(served: Served, is_delta: bool) -> None:
    """S4, D9: the status tells who refused what, and why; it is not sent again."""
    served.cache.publish({NODE: resources("cluster a bad", "routes r 1")})
    async with stream(served.target, is_delta=is_delta) as client:
        await client.ask(CLUSTER)
        bad = await client.hear()
        await client.answer(bad, error="a: " + "x" * 5000)
        await client.ask(ROUTES, "r")
        routes = await client.hear()
        assert routes.type_url == ROUTES, "the refused type is not sent again"
        await client.answer(routes, *(() if is_delta else ("r",)))
        last = await served.status.converged()

        (status,) = served.status.streams.values()
        clusters = status.types[CLUSTER]
        assert clusters.sync == Sync.NACKED
        assert clusters.error.startswith("a: xxx")
        assert len(clusters.error) == 2001
        assert (clusters.nonce_nacked, clusters.nacks, clusters.acks) == (bad.nonce, 1, 0)
        assert status.types[ROUTES].sync == Sync.SYNCED
        assert last.converged_at is not None

        served.cache.publish({NODE: resources("cluster a good", "routes r 1")})
        await client.answer(await client.hear())
        await served.status.converged()
        assert (clusters.sync, clusters.error) == (Sync.SYNCED, "")


async def test_e7_a_refusal_never_closes_the_stream(served: Served) -> None:
    """E7: however often a client refuses, its other types and the next round are served."""
    async with stream(served.target) as client:
        for number in range(20):
            served.cache.publish({NODE: resources(f"cluster a {number}")})
            if number == 0:
                await client.ask(CLUSTER)
            await client.answer(await client.hear(), error="never")
        await client.ask(LISTENER)
        assert (await client.hear()).type_url == LISTENER


@BOTH
async def test_e8_large_responses_are_sent_whole(served: Served, is_delta: bool) -> None:
    """E8: 8 MB in one response; it is for the client to limit what it takes."""
    big = "x" * (8 << 20)
    served.cache.publish({NODE: resources(f"cluster a {big}")})
    async with stream(served.target, is_delta=is_delta) as client:
        await client.ask(CLUSTER)
        response = await client.hear()
    assert response.ByteSize() > 8 << 20


async def test_many_streams_get_the_same_bytes(served: Served) -> None:
    """A response is joined once, and every stream is sent the same nonce."""
    sets = resources("cluster a 1")
    served.cache.publish({f"default/{n}": sets for n in range(20)})
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:

        async def one(node: str) -> bytes:
            async with stream(served.target, node=node) as client:
                await client.ask(CLUSTER)
                raw: bytes = await client.call.read()
                return raw

        tasks = [group.create_task(one(f"default/{n}")) for n in range(20)]

    assert len({task.result() for task in tasks}) == 1


async def test_a_stream_that_never_reads_holds_up_nobody(served: Served) -> None:
    """Its one slot is overwritten by later rounds; the others get each of them."""
    big = "x" * (1 << 20)
    slow_node = "default/slow"

    def picture(number: int) -> dict[str, object]:
        both = resources(f"cluster a {number}{big}")
        return {NODE: both, slow_node: both}

    served.cache.publish(picture(0))  # type: ignore[arg-type]  # ResourceSets
    async with stream(served.target, node=slow_node) as slow, stream(served.target) as client:
        await slow.ask(CLUSTER)
        # Its first response is on its way, or it would begin with a later round.
        await eventually_async(
            lambda: any(each.types[CLUSTER].responses for each in served.status.streams.values())
        )
        await client.ask(CLUSTER)
        for number in range(1, 20):
            await client.answer(await client.hear())
            served.cache.publish(picture(number))  # type: ignore[arg-type]  # ResourceSets
        last = await client.hear()
        assert last.resources[0].resource.value.startswith(b"a@19")

        first = await slow.hear()
        assert first.resources[0].resource.value.startswith(b"a@0")
        await slow.answer(first)
        latest = await slow.hear()
        assert latest.resources[0].resource.value.startswith(b"a@19")


async def test_the_order_holds_on_the_wire(served: Served) -> None:
    """W1, W3: types go in order, and the endpoints of a changed cluster follow at once."""
    lines = ("secret s 1", "cluster a 1 > endpoints a", "endpoints a 1", "listener l 1")
    served.cache.publish({NODE: resources(*lines, "routes r 1")})
    order = [SECRET, CLUSTER, ENDPOINTS, LISTENER, ROUTES]
    async with stream(served.target) as client:
        for type_, name in zip(order, "saalr", strict=True):
            await client.ask(type_, name)
            await client.answer(await client.hear())
        await served.status.converged()

        changed = ("secret s 2", "cluster a 2 > endpoints a", "endpoints a 1", "listener l 2")
        served.cache.publish({NODE: resources(*changed, "routes r 2")})

        assert [(await client.hear()).type_url for _ in order] == order


@BOTH
async def test_closing_ends_the_account(served: Served, is_delta: bool) -> None:
    """A client that leaves in the middle is no longer waited for, watched or shown."""
    served.cache.publish({NODE: resources("cluster a 1")})
    async with stream(served.target, is_delta=is_delta) as client:
        await client.ask(CLUSTER)
        await client.hear()
        assert len(served.status.streams) == 1
    await eventually_async(lambda: not served.status.streams)
    assert not served.cache._watchers
    await served.status.converged()


async def test_a_half_closed_stream_ends_well(served: Served) -> None:
    """A client that has nothing more to say is let go without an error."""
    served.cache.publish({NODE: resources("cluster a 1")})
    async with stream(served.target) as client:
        await client.ask(CLUSTER)
        await client.hear()
        await client.call.done_writing()
        assert await client.call.code() == grpc.StatusCode.OK
    async with stream(served.target) as client:
        await client.call.done_writing()
        assert await client.call.code() == grpc.StatusCode.OK


async def test_an_occupied_port_is_one_clear_line() -> None:
    """The message names the address and the cure."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ServeError, match=rf"127\.0\.0\.1:{port}: .*in use.*another") as caught:
            async with listening(Cache(), Status(), host="127.0.0.1", port=port):
                pytest.fail("must not listen")

    assert "\n" not in str(caught.value)


async def test_an_address_of_another_machine_is_one_clear_line() -> None:
    """The same for an address that is not ours."""
    with pytest.raises(ServeError, match=r"192\.0\.2\.1:1.*assign"):
        async with listening(Cache(), Status(), host="192.0.2.1", port=1):
            pytest.fail("must not listen")


async def test_two_servers_do_not_share_a_port(served: Served) -> None:
    """gRPC's default would divide the connections between them in silence."""
    with pytest.raises(ServeError):
        async with listening(Cache(), Status(), host="127.0.0.1", port=served.port):
            pytest.fail("must not listen")


async def test_serves_on_ipv6() -> None:
    """`::1` is an address like any other."""
    cache = Cache()
    cache.publish({NODE: resources("cluster a 1")})
    async with (
        listening(cache, Status(), host="::1", port=0) as port,
        stream(f"[::1]:{port}") as client,
    ):
        await client.ask(CLUSTER)
        assert names(await client.hear()) == ["a"]


@asynccontextmanager
async def health(target: str, method: str) -> AsyncIterator[Callable[[str], Any]]:
    """A method of the health service."""
    async with grpc.aio.insecure_channel(target) as channel:
        kind = channel.unary_unary if method == "Check" else channel.unary_stream
        call: Any = kind(
            f"/grpc.health.v1.Health/{method}",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        yield lambda service: call(health_pb2.HealthCheckRequest(service=service))


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", ["", AGGREGATED])
async def test_health_follows_the_first_round(served: Served, service: str) -> None:
    """grpc.health.v1 says NOT_SERVING until there is something to serve."""
    async with health(served.target, "Check") as check, health(served.target, "Watch") as watch:
        watching = watch(service)
        assert (await check(service)).status == NOT_SERVING
        assert (await watching.read()).status == NOT_SERVING

        served.cache.publish({})

        assert (await check(service)).status == SERVING
        assert (await watching.read()).status == SERVING
        watching.cancel()
        again = watch(service)
        assert (await again.read()).status == SERVING
        again.cancel()


async def test_health_of_an_unknown_service(served: Served) -> None:
    """As grpc.health.v1 demands: NOT_FOUND, or SERVICE_UNKNOWN for who watches."""
    async with health(served.target, "Check") as check, health(served.target, "Watch") as watch:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check("nonsense")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watching = watch("nonsense")
        answer = await watching.read()
        assert answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watching.cancel()


async def test_an_error_of_the_caller_leaves_as_it_is() -> None:
    """What is raised inside the block is not wrapped on its way out."""
    with pytest.raises(ZeroDivisionError):
        async with serving():
            raise ZeroDivisionError
