"""The server as a library: no mesh, no objects, messages of envoy-data-plane in, xDS out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
)
from envoy_data_plane.envoy.config.core.v3 import SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)

from smi_xds.ads import holdoff
from smi_xds.config import Address
from smi_xds.debug.client import list_proxies
from smi_xds.library import Resources, Server, serving
from smi_xds.problems import ConfigError, ServeError
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, ROUTES
from tests.ads.client import NODE, Stream, names, stream
from tests.support.wait import eventually_async

BOTH = pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])


def cluster(name: str, *, seconds: int = 1) -> Cluster:
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(),
        connect_timeout=timedelta(seconds=seconds),
    )


def endpoints(name: str) -> ClusterLoadAssignment:
    return ClusterLoadAssignment(cluster_name=name)


def routes(name: str, to: str) -> RouteConfiguration:
    route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster=to))
    host = VirtualHost(name="all", domains=["*"], routes=[route])
    return RouteConfiguration(name=name, virtual_hosts=[host])


@pytest.fixture
def resources() -> Resources:
    return Resources()


@pytest.fixture
async def server(resources: Resources) -> AsyncIterator[Server]:
    async with serving(resources, "127.0.0.1:0", identifier="mine") as running:
        yield running


def label(response: Any) -> str:
    """The version of the whole, in either dialect."""
    for field in ("version_info", "system_version_info"):
        if hasattr(response, field):
            return str(getattr(response, field))
    raise AssertionError(response)


async def ask(client: Stream) -> Any:
    """The first clusters, acknowledged."""
    await client.ask(CLUSTER)
    response = await client.hear()
    await client.answer(response)
    return response


async def silent(server: Server, client: Stream) -> bool:
    """Whether the client has heard all there was: what it asks next is answered next."""
    await client.ask(ROUTES, "r")
    response = await client.hear()
    await client.answer(response, *(() if client.is_delta else ("r",)))
    await server.converged()
    return bool(response.type_url == ROUTES)


@BOTH
async def test_the_label_is_sent_as_it_is(
    server: Server, resources: Resources, is_delta: bool
) -> None:
    """As version_info, or as system_version_info; also where it says nothing new."""
    resources.set(NODE, [cluster("a")], version="release 7 / ü")
    async with stream(server.address, is_delta=is_delta) as client:
        first = await ask(client)
        resources.update(NODE, [cluster("a", seconds=2)], version="release 7 / ü")
        second = await client.hear()
        await client.answer(second)
        resources.update(NODE, [cluster("b")], version="8")
        third = await client.hear()

    assert [label(each) for each in (first, second, third)] == ["release 7 / ü"] * 2 + ["8"]
    assert first.control_plane.identifier == "mine"


@BOTH
async def test_without_a_label_the_version_is_the_content(
    server: Server, resources: Resources, is_delta: bool
) -> None:
    """The same content has the same version, another one another; a label counts for one call."""
    seen = []
    resources.set(NODE, [cluster("a")], version="mine")
    async with stream(server.address, is_delta=is_delta) as client:
        seen.append(label(await ask(client)))
        for seconds in (2, 1, 2):
            resources.set(NODE, [cluster("a", seconds=seconds)])
            seen.append(label(response := await client.hear()))
            await client.answer(response)

    mine, two, one, again = seen
    assert mine == "mine"
    assert two == again
    assert len({mine, one, two}) == 3


@BOTH
async def test_who_publishes_without_a_pause_starves_nobody(
    server: Server, resources: Resources, is_delta: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many changes in a row the first is one round, and all others together are another."""
    resources.set(NODE, [cluster("a")])
    async with stream(server.address, is_delta=is_delta) as client:
        await ask(client)
        await server.converged()
        monkeypatch.setattr(holdoff, "HOLD_OFF", 3600.0)
        before = server.status.rounds[-1].number
        for seconds in range(2, 102):
            resources.set(NODE, [cluster("a", seconds=seconds)], version=str(seconds))
        at_once = server.status.rounds[-1].number
        assert at_once in (before, before + 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.converged())
            heard = ""
            while heard != "101":
                heard = label(response := await client.hear())
                await client.answer(response)
        assert server.status.rounds[-1].number == at_once + 1


@BOTH
async def test_what_changes_nothing_sends_nothing(
    server: Server, resources: Resources, is_delta: bool
) -> None:
    """Equal content under another label, the same again, and the removal of what is not there."""
    resources.set(NODE, [cluster("a"), routes("r", "a")], version="1")
    async with stream(server.address, is_delta=is_delta) as client:
        await ask(client)
        resources.set(NODE, [cluster("a"), routes("r", "a")], version="2")
        resources.update(NODE, [cluster("a")], version="3")
        resources.remove(NODE, Cluster, ["z"], version="4")
        assert await silent(server, client)


@BOTH
async def test_add_update_remove_and_clear(
    server: Server, resources: Resources, is_delta: bool
) -> None:
    """Each leaves alone what it does not name."""
    resources.add(NODE, [cluster("a")])
    async with stream(server.address, is_delta=is_delta) as client:
        await ask(client)
        seen = []
        changes: list[Callable[[], None]] = [
            lambda: resources.add(NODE, [cluster("b")]),
            lambda: resources.update(NODE, [cluster("b", seconds=5), cluster("c")]),
            lambda: resources.remove(NODE, Cluster, ["a"]),
            lambda: resources.clear(NODE, version="empty"),
        ]
        for change in changes:
            change()
            response = await client.hear()
            await client.answer(response)
            seen.append((sorted(resources.names(NODE, Cluster)), response))
        last = seen[-1][1]

    assert [known for known, _ in seen] == [["a", "b"], ["a", "b", "c"], ["b", "c"], []]
    assert label(last) == "empty"
    if is_delta:
        told = [(names(each), list(each.removed_resources)) for _, each in seen]
        assert told == [(["b"], []), (["b", "c"], []), ([], ["a"]), ([], ["b", "c"])]
    else:
        assert [len(each.resources) for _, each in seen] == [2, 3, 2, 0]


async def test_a_call_tells_each_node_its_own(server: Server, resources: Resources) -> None:
    """Others are not even woken."""
    resources.set(NODE, [cluster("a"), routes("r", "a")])
    resources.set("default/b", [cluster("b")])
    async with stream(server.address) as one, stream(server.address, node="default/b") as other:
        assert names(await ask(one)) == ["a"]
        assert names(await ask(other)) == ["b"]
        resources.set("default/b", [cluster("c")])
        response = await other.hear()
        assert (names(response), list(response.removed_resources)) == (["c"], ["b"])
        await other.answer(response)
        assert await silent(server, one)


@BOTH
async def test_a_node_that_was_given_nothing_waits(
    server: Server, resources: Resources, is_delta: bool
) -> None:
    """It is not told to drop what it has; the first configuration comes on the open stream."""
    async with stream(server.address, is_delta=is_delta) as client:
        await client.ask(CLUSTER)
        await eventually_async(lambda: server.status.streams)
        await server.converged()
        (status,) = server.status.streams.values()
        assert (status.is_known, [each.responses for each in status.types.values()]) == (False, [0])

        resources.set(NODE, [cluster("a")])

        assert len((await client.hear()).resources) == 1
        assert status.is_known


async def test_a_node_that_is_forgotten_keeps_what_it_has(
    server: Server, resources: Resources
) -> None:
    """Until it is given something again."""
    resources.set(NODE, [cluster("a")])
    async with stream(server.address) as client:
        await ask(client)
        resources.forget(NODE)
        resources.forget("never/there")
        assert NODE not in resources
        await server.converged()
        (status,) = server.status.streams.values()
        assert (status.is_known, status.types[CLUSTER].responses) == (False, 1)

        resources.set(NODE, [cluster("b")])

        response = await client.hear()
        assert (names(response), list(response.removed_resources)) == (["b"], ["a"])


async def test_order_and_removal_follow_what_messages_refer_to(
    server: Server, resources: Resources
) -> None:
    """W2, W3: endpoints follow their cluster at once; a cluster goes after the routes to it."""
    resources.set(NODE, [cluster("a"), endpoints("a"), routes("r", "a")])
    async with stream(server.address) as client:
        for type_, name in ((CLUSTER, "*"), (ENDPOINTS, "a"), (ROUTES, "r")):
            await client.ask(type_, name)
            await client.answer(await client.hear())
        await server.converged()

        resources.update(NODE, [cluster("a", seconds=9)])
        again = [await client.hear(), await client.hear()]
        assert [each.type_url for each in again] == [CLUSTER, ENDPOINTS]
        for response in again:
            await client.answer(response)

        resources.set(NODE, [cluster("b"), endpoints("b"), routes("r", "b")])
        told = [await client.hear()]
        await client.answer(told[0])
        told.append(await client.hear())
        assert told[1].type_url == ROUTES
        assert not told[0].removed_resources, "it is in use until the routes are acknowledged"
        await client.answer(told[1])
        assert list((await client.hear()).removed_resources) == ["a"]


async def test_messages_may_be_changed_afterwards(server: Server, resources: Resources) -> None:
    """What was handed over is what is served."""
    message = cluster("a")
    resources.set(NODE, [message])
    message.name = "changed"
    async with stream(server.address) as client:
        assert names(await ask(client)) == ["a"]


def test_what_cannot_be_served_is_refused_and_changes_nothing(resources: Resources) -> None:
    """The error names the message; what was there before stays."""
    resources.set(NODE, [cluster("a")])
    for wrong, kind, words in [
        ([cluster("b"), cluster("b")], ValueError, "two Cluster are named b"),
        ([cluster("b"), cluster("")], ValueError, "Cluster without name"),
        ([endpoints("")], ValueError, "ClusterLoadAssignment without cluster_name"),
        ([Bootstrap()], TypeError, "Bootstrap is no resource"),
        ([SocketAddress()], TypeError, "SocketAddress is no resource"),
    ]:
        for method in (resources.set, resources.update, resources.add):
            with pytest.raises(kind, match=words):
                method(NODE, wrong)  # type: ignore[arg-type]  # lists of various messages
    with pytest.raises(ValueError, match=r"default/a has a Cluster a already"):
        resources.add(NODE, [cluster("b"), cluster("a")])
    with pytest.raises(ValueError, match=r"node\.id"):
        resources.set("", [cluster("a")])
    with pytest.raises(TypeError, match="list of names"):
        resources.remove(NODE, Cluster, "a")

    assert resources.names(NODE, Cluster) == {"a"}
    assert "" not in resources


async def test_reflection_health_and_the_debug_api_are_served(
    server: Server, resources: Resources
) -> None:
    """`smi-xds proxies` works for it, too."""
    resources.set(NODE, [cluster("a")], version="7")
    async with stream(server.address) as client:
        await ask(client)
        await server.converged()
        (found,) = await asyncio.to_thread(list_proxies, Address(server.host, server.port))

    assert (found["node"], found["state"]) == (NODE, "STATE_SYNCED")
    versions = {each["type"]: each["version_acked"] for each in found["streams"][0]["types"]}
    assert versions["Cluster"] == "7"


async def test_addresses_that_cannot_be_used(server: Server, resources: Resources) -> None:
    """One line each, that names the address."""
    with pytest.raises(ConfigError, match=r"address 'nonsense' is not HOST:PORT"):
        async with serving(resources, "nonsense"):
            pytest.fail("must not serve")
    with pytest.raises(ServeError, match=server.address):
        async with serving(resources, server.address):
            pytest.fail("must not serve")


async def test_resources_outlive_their_server(resources: Resources) -> None:
    """One set of resources may be served again, or at two addresses at a time."""
    resources.set(NODE, [cluster("a")])
    for _ in range(2):
        async with serving(resources, "127.0.0.1:0") as one, serving(resources, "[::1]:0") as two:
            for server in (one, two):
                async with stream(server.address) as client:
                    assert names(await ask(client)) == ["a"]
                    await server.converged()
    assert not resources._cache._observers
    assert not resources._cache._watchers


async def test_a_stream_without_node_is_refused(server: Server) -> None:
    """E2 holds here as everywhere."""
    async with stream(server.address, node="") as client:
        await client.ask(CLUSTER)
        assert await client.call.code() == grpc.StatusCode.INVALID_ARGUMENT
