"""Limits on the wire: storms, hostile clients, those that do not read, and how a server stops."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from smi_xds.ads.limits import DEFAULTS, Limits
from smi_xds.ads.services import AGGREGATED
from smi_xds.ads.session import MAX_TYPES
from smi_xds.ads.stream import Stream as ServerStream
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, ENDPOINTS
from tests.ads.client import NODE, Served, Stream, names, serving, stream
from tests.ads.play import resources
from tests.ads.relay import relay
from tests.support.wait import eventually_async

BOTH = pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
BIG = "x" * (8 << 20)  # more than gRPC buffers


@asynccontextmanager
async def serving_with(**limits: Any) -> AsyncIterator[Served]:
    """A server with one cluster and these limits."""
    async with serving(limits=replace(DEFAULTS, **limits)) as served:
        served.cache.publish({NODE: resources("cluster a 1")})
        yield served


async def answers(client: Stream) -> bool:
    """Whether a stream is served."""
    await client.ask(CLUSTER)
    heard = await client.hear()
    await client.answer(heard)
    return len(heard.resources) == 1


async def still_serves(served: Served, other: Stream) -> None:
    """A stream that was there before gets what is published now."""
    served.cache.publish({NODE: resources("cluster a other")})
    heard = await other.hear()
    assert heard.resources[0].resource.value == b"a@other"


# ---------------------------------------------------------------------- admission and age


@BOTH
async def test_who_comes_too_fast_waits_and_then_is_refused(is_delta: bool) -> None:
    """The line is bounded: RESOURCE_EXHAUSTED tells the client to back off."""
    async with (
        serving_with(rate=0.001, burst=1, longest_wait=10.0) as served,
        stream(served.target, is_delta=is_delta) as first,
    ):
        assert await answers(first)
        async with stream(served.target, is_delta=is_delta) as second:
            assert await second.call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "try again" in await second.call.details()
        assert served.status.meters.rejected.values == {"RESOURCE_EXHAUSTED": 1}


async def test_a_storm_is_let_in_at_the_rate() -> None:
    """Forty streams at once through a bucket of ten: all are served, and not all at once."""
    async with serving_with(rate=100.0, burst=10) as served, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(stream(served.target)) for _ in range(40)]
        begin = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answers(client)) for client in streams]

        assert all(task.result() for task in tasks)
        assert asyncio.get_running_loop().time() - begin > 0.2
        assert not served.status.meters.rejected.values


async def test_connections_age() -> None:
    """T2: an old connection is ended after its grace, and the next one is served."""
    async with serving_with(max_age=0.1, age_grace=0.1) as served:
        async with stream(served.target) as client:
            assert await answers(client)
            async with asyncio.timeout(20):
                assert await client.call.code() == grpc.StatusCode.UNAVAILABLE
        await eventually_async(lambda: not served.status.streams)
        async with stream(served.target) as again:
            assert await answers(again)


# ---------------------------------------------------------------------- clients that hang


@BOTH
async def test_t2_who_vanished_without_a_word_is_found(is_delta: bool) -> None:
    """T2: its pings are not answered, so its stream ends; one that is merely idle stays."""
    async with (
        serving_with(keepalive=0.3, keepalive_timeout=3.0) as served,
        relay(served.port) as way,
        stream(served.target) as idle,
        stream(way.target, is_delta=is_delta, node="default/lost") as lost,
    ):
        assert await answers(idle)
        await lost.ask(CLUSTER)
        await eventually_async(lambda: len(served.status.streams) == 2)
        way.fall_silent()

        await eventually_async(lambda: len(served.status.streams) == 1, deadline=30)
        await still_serves(served, idle)
        assert served.status.meters.unread.values == {"": 0}


@BOTH
async def test_who_never_reads_is_ended(is_delta: bool) -> None:
    """Its write times out, its state is freed, nobody else notices; if it reads, it is told."""
    async with (
        serving_with(write_timeout=0.4) as served,
        stream(served.target) as other,
        stream(served.target, node="default/hung", is_delta=is_delta) as hung,
    ):
        assert await answers(other)
        served.cache.publish(
            {NODE: resources("cluster a 1"), "default/hung": resources(f"cluster a {BIG}")}
        )
        await hung.ask(CLUSTER)
        await eventually_async(lambda: len(served.status.streams) == 2)
        await eventually_async(lambda: len(served.status.streams) == 1)
        assert served.status.meters.unread.values == {"": 1}

        await still_serves(served, other)
        assert len((await hung.hear()).resources) == 1
        assert await hung.call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "not read" in await hung.call.details()


# ---------------------------------------------------------------------- what a stream leaves


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@BOTH
@pytest.mark.parametrize("how", ["cancelled", "done", "refused"])
@pytest.mark.usefixtures("no_garbage_collection")
async def test_a_stream_that_ended_is_freed_at_once(how: str, is_delta: bool) -> None:
    """It leaves no cycles: an old one would wait for a million others to be collected."""
    async with serving_with() as served:
        async with stream(served.target, is_delta=is_delta) as client:
            assert await answers(client)
            assert len(list(_streams())) == 1
            if how == "done":
                await client.call.done_writing()
                assert await client.call.code() == grpc.StatusCode.OK
            elif how == "refused":
                await client.call.write(b"\xff")
                assert await client.call.code() == grpc.StatusCode.INVALID_ARGUMENT
        await eventually_async(lambda: not list(_streams()))


def _streams() -> Iterator[object]:
    return (each for each in gc.get_objects() if type(each) is ServerStream)


# ---------------------------------------------------------------------- hostile clients


async def test_a_thousand_streams_of_one_client() -> None:
    """One connection gets 100 streams, the rest of its own wait; other clients are served."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        serving_with(rate=1e6, burst=2000) as served,
        stream(served.target) as other,
        grpc.aio.insecure_channel(served.target, options) as channel,
    ):
        assert await answers(other)
        method: Any = channel.stream_stream(f"/{AGGREGATED}/DeltaAggregatedResources")
        calls = [method() for _ in range(100)]
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(_first_request(call))
        await eventually_async(lambda: len(served.status.streams) == 101)
        calls += [method() for _ in range(900)]

        await still_serves(served, other)
        assert len(served.status.streams) == 101
        for call in calls:
            call.cancel()
    assert not served.status.streams


async def _first_request(call: Any) -> None:
    client = Stream(call, is_delta=True, node="default/many")
    await client.ask(ENDPOINTS, "a")


@BOTH
async def test_hostile_requests_end_their_own_stream_alone(is_delta: bool) -> None:
    """40 MiB, no protobuf, no node: refused, each with its code; another stream goes on."""
    codes = []
    async with serving_with() as served, stream(served.target) as other:
        assert await answers(other)
        for raw in (b"\0" * (40 << 20), b"\xff" * 100, b"", b"\x0a\x00"):
            async with stream(served.target, is_delta=is_delta) as client:
                await client.call.write(raw)
                codes.append((await client.call.code()).name)
        await still_serves(served, other)

    assert codes == ["RESOURCE_EXHAUSTED", *["INVALID_ARGUMENT"] * 3]


@BOTH
async def test_e9_unknown_types_are_held(is_delta: bool) -> None:
    """E9: an unknown type costs nothing, and the next type is answered; too many are refused."""
    async with serving_with() as served, stream(served.target, is_delta=is_delta) as client:
        await client.ask(TypeUrl("type.googleapis.com/no.such.Type"), "x")
        if is_delta:
            assert list((await client.hear()).removed_resources) == ["x"]
        assert await answers(client)
        for number in range(MAX_TYPES - 2):
            await client.ask(TypeUrl(f"type.googleapis.com/no.such.Type{number}"))
        served.cache.publish({NODE: resources("cluster a 2")})
        await client.answer(await client.hear())
        await client.ask(TypeUrl("type.googleapis.com/one.too.many"))
        assert await client.call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "one.too.many" in await client.call.details()


@BOTH
async def test_ten_thousand_names_are_answered(is_delta: bool) -> None:
    """Most of them absent: delta says of each, state of the world sends what there is."""
    asked = [f"n{number}" for number in range(10_000)]
    async with serving_with() as served, stream(served.target, is_delta=is_delta) as client:
        served.cache.publish({NODE: resources("endpoints n7 1")})
        await client.ask(ENDPOINTS, *asked)
        answer = await client.hear()
        assert len(answer.resources) == 1
        if is_delta:
            assert names(answer) == ["n7"]
            assert len(answer.removed_resources) == 9_999
        served.cache.publish({NODE: resources("endpoints n7 2")})
        await client.answer(answer, *(() if is_delta else asked))
        assert len((await client.hear()).resources) == 1


async def test_garbage_on_the_socket_disturbs_nobody() -> None:
    """What is no HTTP/2 is cut off."""
    async with serving_with() as served, stream(served.target) as other:
        assert await answers(other)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for bad in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 50, preface + b"\xff" * 1000):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(bad)
            async with asyncio.timeout(20):
                while await reader.read(1 << 16):
                    pass
            writer.close()
        await still_serves(served, other)


# ---------------------------------------------------------------------- how it stops


async def test_it_stops_in_order(caplog: pytest.LogCaptureFixture) -> None:
    """Health says so first, each stream is told why, spread over time; nothing is logged."""
    ended: list[float] = []
    loop = asyncio.get_running_loop()
    with caplog.at_level(logging.WARNING):
        async with AsyncExitStack() as clients:
            async with serving_with(drain_rate=20.0) as served:
                calls = []
                for number in range(10):
                    each = stream(served.target, is_delta=number % 2 == 0)
                    client = await clients.enter_async_context(each)
                    assert await answers(client)
                    client.call.add_done_callback(lambda _: ended.append(loop.time()))
                    calls.append(client.call)
                watching = await _watch_health(served, clients)
                begin = loop.time()

            spread = loop.time() - begin
            assert 0.4 < spread < DEFAULTS.drain_longest
            assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            for call in calls:
                assert await call.code() == grpc.StatusCode.UNAVAILABLE
                assert "connect to another" in await call.details()
    await eventually_async(lambda: len(ended) == 10)
    assert max(ended) - min(ended) > 0.3
    assert not served.status.streams
    assert not caplog.records


async def _watch_health(served: Served, stack: AsyncExitStack) -> Any:
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(served.target))
    watch: Any = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    watching = watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
    return watching


async def test_it_stops_although_a_client_does_not_read() -> None:
    """A write that waits is given up."""
    async with stack_of_hung() as seconds:
        pass
    assert seconds[0] < DEFAULTS.drain_longest / 2


@asynccontextmanager
async def stack_of_hung() -> AsyncIterator[list[float]]:
    """A server that stops while a client does not read; how long that took."""
    seconds: list[float] = []
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as clients:
        async with serving() as served:
            served.cache.publish({NODE: resources(f"cluster a {BIG}")})
            hung = await clients.enter_async_context(stream(served.target))
            await hung.ask(CLUSTER)
            await eventually_async(lambda: bool(served.status.streams))
            begin = loop.time()
        seconds.append(loop.time() - begin)
        yield seconds


def test_the_defaults_fit_together() -> None:
    """Another server lets in what we send away, and all is over before Kubernetes kills."""
    limits = Limits()

    assert limits.drain_rate <= limits.rate
    assert limits.drain_longest < 30 / 2
