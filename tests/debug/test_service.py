"""The debug API over real sockets: proxies, resources, problems, events; and the real grpcurl."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import betterproto2
import grpc
import pytest
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls

from smi_xds._proto.smi_xds.debug.v1 import (
    Event,
    EventKind,
    GetProxyRequest,
    ListProblemsRequest,
    ListProxiesRequest,
    Mode,
    Proxy,
    State,
    WatchEventsRequest,
)
from smi_xds._proto.smi_xds.debug.v1 import Problem as ProblemMessage
from smi_xds.ads import feed
from smi_xds.debug.service import DEBUG, debug_services
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, Secret
from smi_xds.xds.encode import encode
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, SECRET, Resource, ResourceSet
from smi_xds.xds.secrets import leaf_secret
from tests.ads.client import NODE, Served, serving, stream
from tests.ads.play import resources
from tests.support.grpcurl import needs_grpcurl, run_grpcurl
from tests.support.wait import eventually_async

BOTH = pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
M = TypeVar("M", bound=betterproto2.Message)

PROBLEM = Problem(
    ref=ObjectRef("TrafficSplit", "shop", "canary"),
    field="spec.backends",
    code=ProblemCode.NO_BACKENDS,
    message="It has no backends.",
    cure="List at least one.",
)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    problems = lambda: [PROBLEM]  # noqa: E731 - as short as it gets
    async with serving(lambda c, s: debug_services(c, s, problems=problems)) as here:
        yield here


@asynccontextmanager
async def channel(served: Served) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(
        served.target, [("grpc.max_receive_message_length", -1)]
    ) as opened:
        yield opened


async def every(
    served: Served, method: str, request: betterproto2.Message, kind: type[M]
) -> list[M]:
    """All that a streaming method says."""
    async with channel(served) as opened:
        call = opened.unary_stream(f"/{DEBUG}/{method}", bytes, kind.parse)
        return [each async for each in call(request)]


async def proxies(served: Served) -> list[Proxy]:
    return await every(served, "ListProxies", ListProxiesRequest(), Proxy)


async def proxy(served: Served, node: str = NODE, **fields: Any) -> Proxy:
    async with channel(served) as opened:
        call = opened.unary_unary(f"/{DEBUG}/GetProxy", bytes, Proxy.parse)
        found = await call(GetProxyRequest(node=node, **fields))
        assert isinstance(found, Proxy)
        return found


@BOTH
async def test_a_proxy_is_shown_with_the_state_of_each_type(served: Served, is_delta: bool) -> None:
    """Synced, NACKed with its text, waiting for something to send, never asked."""
    served.cache.publish({NODE: resources("cluster a 1", "endpoints e 1")})
    async with stream(served.target, is_delta=is_delta) as client:
        await client.ask(CLUSTER)
        clusters = await client.hear()
        await client.answer(clusters)
        await client.ask(ENDPOINTS, "e")
        endpoints = await client.hear()
        await client.answer(endpoints, error="e: no such locality")
        await served.status.converged()

        (found,) = await proxies(served)

    assert (found.node, found.state, found.configured) == (NODE, State.NACKED, True)
    (shown,) = found.streams
    assert shown.mode == (Mode.DELTA if is_delta else Mode.SOTW)
    assert shown.peer.startswith("ipv4:127.0.0.1:")
    assert shown.connected_since is not None
    by_type = {each.type: each for each in shown.types}
    assert list(by_type) == [
        "Secret",
        "Cluster",
        "ClusterLoadAssignment",
        "Listener",
        "RouteConfiguration",
    ]
    synced = by_type["Cluster"]
    assert synced.state is State.SYNCED
    assert synced.nonce_sent == synced.nonce_acked == clusters.nonce
    assert synced.version_sent == synced.version_acked != ""
    assert (synced.responses, synced.acks, synced.nacks) == (1, 1, 0)
    assert synced.bytes == synced.last_bytes > 0
    assert synced.sent_at is not None
    assert synced.acked_at is not None
    assert synced.last_change == synced.acked_at >= synced.sent_at >= shown.connected_since
    refused = by_type["ClusterLoadAssignment"]
    assert refused.state is State.NACKED
    assert (refused.error, refused.nonce_nacked) == ("e: no such locality", endpoints.nonce)
    assert refused.refused == ["e"]
    assert by_type["Listener"].state is State.NOT_ASKED
    assert by_type["Listener"].last_change is None


async def test_states_between(served: Served) -> None:
    """Configured and not connected; asked for what there is not; sent and not answered."""
    served.cache.publish({NODE: resources("cluster a 1")})
    (found,) = await proxies(served)
    assert (found.state, found.streams) == (State.NOT_CONNECTED, [])
    async with stream(served.target, is_delta=False) as client:
        await client.ask(ENDPOINTS, "nonsense")  # absence cannot be told (S14)
        await eventually_async(lambda: served.status.streams)
        await served.status.converged()
        (found,) = await proxies(served)
        assert found.state is State.IDLE
        assert {each.type: each.state for each in found.streams[0].types}[
            "ClusterLoadAssignment"
        ] is State.IDLE

        await client.ask(CLUSTER)
        response = await client.hear()
        (found,) = await proxies(served)
        assert found.state is State.STALE

        await client.answer(response)
        await served.status.converged()
        (found,) = await proxies(served)
        assert found.state is State.SYNCED


async def test_a_proxy_that_nothing_is_configured_for_is_shown(served: Served) -> None:
    """It is connected, and that it is unknown is what an operator wants to see."""
    served.cache.publish({})
    async with stream(served.target) as client:
        await client.ask(CLUSTER)
        await client.hear()
        (found,) = await proxies(served)

    assert (found.node, found.configured) == (NODE, False)


async def test_the_resources_of_a_proxy_are_json(served: Served) -> None:
    """As Envoy reads them; also for a proxy that is not connected."""
    key = b"-----BEGIN PRIVATE KEY-----"
    secret = leaf_secret(b"-----BEGIN CERTIFICATE-----", Secret(key))
    cluster = Resource.of(CLUSTER, "web", encode(mk_cluster("web", key)))
    served.cache.publish(
        {NODE: ResourceSet({SECRET: ({"identity": secret},), CLUSTER: ({"web": cluster},)})}
    )

    found = await proxy(served)

    assert found.state is State.NOT_CONNECTED
    shown = {(each.type, each.name): each for each in found.resources}
    assert set(shown) == {("Secret", "identity"), ("Cluster", "web")}
    assert shown["Cluster", "web"].version == cluster.version
    content = shown["Cluster", "web"].content
    assert content is not None
    assert content.to_dict()["name"] == "web"
    assert (await proxy(served, without_resources=True)).resources == []


def mk_cluster(name: str, key: bytes) -> Any:
    """A cluster with a key of its own, in its transport socket."""
    from envoy_data_plane.envoy.config.cluster.v3 import Cluster
    from envoy_data_plane.envoy.config.core.v3 import DataSource

    from smi_xds.xds.common import transport_socket

    certificate = tls.TlsCertificate(private_key=DataSource(inline_bytes=key))
    common = tls.CommonTlsContext(tls_certificates=[certificate])
    context = tls.UpstreamTlsContext(common_tls_context=common)
    return Cluster(name=name, transport_socket=transport_socket("tls", context))


async def test_secrets_never_appear(served: Served) -> None:
    """Neither as text nor as base64, neither in secrets nor where they stand inline."""
    key = b"-----BEGIN PRIVATE KEY-----"
    password = tls.GenericSecret(secret=mk_data(b"hunter2"))
    named = tls.Secret(name="generic", generic_secret=password)
    secrets = {
        "identity": leaf_secret(b"-----BEGIN CERTIFICATE-----", Secret(key)),
        "generic": Resource.of(SECRET, "generic", encode(named)),
    }
    cluster = Resource.of(CLUSTER, "web", encode(mk_cluster("web", key)))
    served.cache.publish({NODE: ResourceSet({SECRET: (secrets,), CLUSTER: ({"web": cluster},)})})

    async with channel(served) as opened:
        raw = await opened.unary_unary(f"/{DEBUG}/GetProxy")(bytes(GetProxyRequest(node=NODE)))

    assert b"<redacted>" in raw
    assert b"-----BEGIN CERTIFICATE-----" in raw or b"LS0tLS1CRUdJTiBDRVJU" in raw
    for hidden in (b"PRIVATE KEY", b"LS0tLS1CRUdJTiBQUk", b"hunter2", b"aHVudGVyMg"):
        assert hidden not in raw


def mk_data(value: bytes) -> Any:
    from envoy_data_plane.envoy.config.core.v3 import DataSource

    return DataSource(inline_bytes=value)


async def test_a_resource_that_cannot_be_shown_hides_no_other(served: Served) -> None:
    """Its place says why."""
    served.cache.publish({NODE: resources("cluster a 1")})  # no protobuf

    (shown,) = (await proxy(served)).resources

    assert shown.content is not None
    assert "cannot be shown" in shown.content.to_dict()["error"]


async def test_an_unknown_proxy_is_one_line_with_those_that_there_are(served: Served) -> None:
    """Up to twenty of them; and an empty name is told apart."""
    served.cache.publish({f"default/p{n:02}": resources() for n in range(22)})

    for node, words in [("no/body", "no proxy no/body; there are "), ("", "set node to")]:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await proxy(served, node)
        details = raised.value.details()
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
        assert details is not None
        assert words in details
        assert details.endswith("default/p19 and 2 more")


async def test_problems_are_those_of_the_objects_and_of_the_responses(served: Served) -> None:
    """A response over 4 MiB is a problem as long as it is the last one of its type."""
    big = "x" * (4 << 20)
    served.cache.publish({NODE: resources(f"cluster a {big}")})
    async with stream(served.target) as client:
        await client.ask(CLUSTER)
        await client.answer(await client.hear())
        found = await every(served, "ListProblems", ListProblemsRequest(), ProblemMessage)

        served.cache.publish({NODE: resources("cluster a small")})
        await client.answer(await client.hear())
        mended = await every(served, "ListProblems", ListProblemsRequest(), ProblemMessage)

    large, split = found
    assert (large.severity, large.code) == ("warning", "OversizedResponse")
    assert (large.kind, large.namespace, large.name) == ("Proxy", "default", "a")
    assert large.field == "Cluster"
    assert "4.0 MiB" in large.message
    assert (split.code, split.field, split.cure) == ("NoBackends", PROBLEM.field, PROBLEM.cure)
    assert mended == [split]
    assert served.status.meters.oversized.values == {"Cluster": 1}


@asynccontextmanager
async def watching(served: Served, node: str = "") -> AsyncIterator[Any]:
    """A watcher that misses nothing from here on."""
    async with channel(served) as opened:
        call = opened.unary_stream(f"/{DEBUG}/WatchEvents", bytes, Event.parse)(
            WatchEventsRequest(node=node)
        )
        await call.initial_metadata()
        yield call
        call.cancel()


async def test_events_are_told_as_they_happen(served: Served) -> None:
    """Round, connection, sent, acknowledged, refused, stale, disconnection."""
    served.cache.publish({})
    async with watching(served) as watch, asyncio.timeout(20):
        served.cache.publish({NODE: resources("cluster a 1")})
        async with stream(served.target, is_delta=False) as client:
            await client.ask(CLUSTER)
            first = await client.hear()
            await client.answer(first)
            await client.ask(LISTENER)
            second = await client.hear()
            await client.answer(second, error="no")
            await client.ask(LISTENER, response_nonce="0")
            seen = [await watch.read() for _ in range(7)]
        seen.append(await watch.read())

    kinds = [each.kind for each in seen]
    assert kinds == [
        EventKind.ROUND_PUBLISHED,
        EventKind.CONNECTED,
        EventKind.SENT,
        EventKind.ACKED,
        EventKind.SENT,
        EventKind.NACKED,
        EventKind.STALE_NONCE,
        EventKind.DISCONNECTED,
    ]
    published, connected, sent, acked, _, nacked, stale, _ = seen
    assert published.round == 2
    assert (connected.node, connected.stream) == (NODE, 1)
    assert (sent.type, sent.nonce, sent.version) == ("Cluster", first.nonce, first.version_info)
    assert sent.bytes > 0
    assert acked.nonce == first.nonce
    assert (nacked.type, nacked.error) == ("Listener", "no")
    assert stale.nonce == "0"
    assert all(each.at is not None for each in seen)


async def test_events_of_one_proxy(served: Served) -> None:
    """Others, and rounds, are left out."""
    served.cache.publish({})
    async with (
        watching(served, "default/b") as watch,
        stream(served.target) as other,
        stream(served.target, node="default/b") as mine,
        asyncio.timeout(20),
    ):
        await other.ask(CLUSTER)
        await other.hear()
        await mine.ask(CLUSTER)
        await mine.hear()
        first, second = await watch.read(), await watch.read()

    assert [(each.node, each.kind) for each in (first, second)] == [
        ("default/b", EventKind.CONNECTED),
        ("default/b", EventKind.SENT),
    ]


async def test_a_slow_watcher_is_told_and_dropped(served: Served) -> None:
    """It gets what was kept for it, one last notice, and an error; nobody waits for it."""
    served.cache.publish({})
    async with watching(served) as watch:
        for _ in range(feed.LIMIT + 2):  # the loop has no turn, and so nobody reads
            served.cache.publish({})
        async with asyncio.timeout(60):
            seen = [(await watch.read()).kind for _ in range(feed.LIMIT + 1)]
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await watch.read()

    assert seen == [*[EventKind.ROUND_PUBLISHED] * feed.LIMIT, EventKind.DROPPED]
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await eventually_async(lambda: not served.status.feed.is_watched)


async def test_a_watcher_that_leaves_is_forgotten(served: Served) -> None:
    """Nothing is kept for it."""
    async with watching(served):
        assert served.status.feed.is_watched
    await eventually_async(lambda: not served.status.feed.is_watched)


async def test_watchers_do_not_hold_up_the_end_of_the_server() -> None:
    """Their streams end well, at once."""
    async with asyncio.timeout(5):
        async with serving(debug_services) as served:
            served.cache.publish({})
            call = await _watch_on_a_channel_of_its_own(served)
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def _watch_on_a_channel_of_its_own(served: Served) -> Any:
    opened = grpc.aio.insecure_channel(served.target)
    call: Any = opened.unary_stream(f"/{DEBUG}/WatchEvents", bytes, Event.parse)
    watch = call(WatchEventsRequest())
    await watch.initial_metadata()
    return watch


@needs_grpcurl
@pytest.mark.timeout(600)  # the first build takes a minute and a half
async def test_the_real_grpcurl_prints_json(served: Served) -> None:
    """`list`, `describe`, and every method, as a user would type them."""
    served.cache.publish({NODE: ResourceSet({SECRET: ({"identity": mk_leaf()},)})})
    async with stream(served.target) as client:
        await client.ask(SECRET, "identity")
        await client.answer(await client.hear())
        await served.status.converged()

        assert DEBUG in (await run_grpcurl(served.target, "list")).splitlines()
        described = await run_grpcurl(served.target, "describe", DEBUG)
        assert "rpc ListProxies" in described
        listed = json.loads(await run_grpcurl(served.target, f"{DEBUG}/ListProxies"))
        asked = ("-d", json.dumps({"node": NODE}), served.target, f"{DEBUG}/GetProxy")
        got = json.loads(await run_grpcurl(*asked))
        problems = json.loads(await run_grpcurl(served.target, f"{DEBUG}/ListProblems"))

    assert (listed["node"], listed["state"]) == (NODE, "STATE_SYNCED")
    (resource,) = got["resources"]
    assert resource["content"]["tls_certificate"]["private_key"] == "<redacted>"
    assert problems["code"] == "NoBackends"


def mk_leaf() -> Resource:
    return leaf_secret(b"-----BEGIN CERTIFICATE-----", Secret(b"-----BEGIN PRIVATE KEY-----"))
