"""A thousand objects change at once, while everyone calls: all of it arrives, and soon."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from smi_xds.config import Address, KubernetesConfig
from smi_xds.debug import client
from smi_xds.demo.story import BUYER, PORT, STORE_V1, STORE_V2
from smi_xds.sources.kube_connection import Connection
from tests.faults.sizes import Sizes
from tests.faults.watching import memory_mb, metric, tell
from tests.kube.cluster import KubeCluster
from tests.support.live_kube import XDS_ADDRESS, Bookstore, weights
from tests.support.relay import Relay
from tests.support.wait import eventually_async

_NAMESPACE = "bookstore"
_GROUPS = f"/apis/specs.smi-spec.io/v1alpha4/namespaces/{_NAMESPACE}/httproutegroups"
_SPLITS = f"/apis/split.smi-spec.io/v1alpha4/namespaces/{_NAMESPACE}/trafficsplits"
_SERVICES = f"/api/v1/namespaces/{_NAMESPACE}/services"
_PAIRS_OF_A_SERVICE = 5
_AT_ONCE = 16
"""Writes under way: more make neither of two cores faster."""
_MOST_MB = 150
"""A thousand objects and what is made of them take a tenth of it."""

AS_APPLIED = {STORE_V1: 90, STORE_V2: 10}


async def storm(story: Bookstore, kube: KubeCluster, relay: Relay) -> None:
    """Made as fast as the API server takes them, and then all of them changed in one burst: no
    request fails, every object arrives as it was written last, and memory stays where it was.
    """
    async with _connected(kube) as connection:
        pairs = Pairs(story, connection, count=Sizes.chosen().objects // 2)
        async with story.watched("a thousand objects are made", shares=AS_APPLIED):
            await pairs.measured("made as fast as the API server takes them", pairs.make())
        async with story.watched("a thousand objects change at once", shares=AS_APPLIED):
            relay.is_open = False
            relay.cut()
            await pairs.write(1, _change)
            await pairs.measured("changed in one burst", _open(relay))


async def _open(relay: Relay) -> None:
    """Let the server in again, and wait until it tries."""
    before = relay.passed
    relay.is_open = True
    await eventually_async(lambda: relay.passed > before, what="a connection")


@asynccontextmanager
async def _connected(kube: KubeCluster) -> AsyncIterator[Connection]:
    connection = Connection(KubernetesConfig(kubeconfig=str(kube.kubeconfig)))
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


def _group(number: int, generation: int) -> dict[str, Any]:
    """Requests that carry a header of their own, which nobody sends."""
    match = {"name": "it", "headers": {"x-storm": f"{number}-{generation}-"}}
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": f"storm-{number}"},
        "spec": {"matches": [match]},
    }


def _service(number: int) -> dict[str, Any]:
    """One more name for all bookstores."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"storm-{number}"},
        "spec": {"selector": {"app": "bookstore"}, "ports": [{"name": "http", "port": PORT}]},
    }


def _split(number: int, generation: int) -> dict[str, Any]:
    """Those requests are split in a way of their own."""
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": f"storm-{number}"},
        "spec": {
            "service": f"storm-{number // _PAIRS_OF_A_SERVICE}",
            "matches": [{"kind": "HTTPRouteGroup", "name": f"storm-{number}"}],
            "backends": weights(10 + generation, 20 + generation),
        },
    }


Write = Callable[[Connection, str, dict[str, Any]], Coroutine[None, None, object]]


async def _create(connection: Connection, path: str, it: dict[str, Any]) -> object:
    return await connection.send("POST", path, json.dumps(it).encode())


async def _change(connection: Connection, path: str, it: dict[str, Any]) -> object:
    return await connection.send(
        "PATCH",
        f"{path}/{it['metadata']['name']}",
        json.dumps({"spec": it["spec"]}).encode(),
        content_type="application/merge-patch+json",
    )


class Pairs:
    """Pairs of a TrafficSplit and the HTTPRouteGroup that it names."""

    def __init__(self, story: Bookstore, connection: Connection, *, count: int) -> None:
        self._story = story
        self._connection = connection
        self._count = count

    async def make(self) -> None:
        """Write each object for the first time, and the services before them."""
        count = -(-self._count // _PAIRS_OF_A_SERVICE)
        await self._write([(_SERVICES, _service(number)) for number in range(count)], _create)
        await self.write(0, _create)

    async def write(self, generation: int, write: Write) -> None:
        """Write each object once."""
        self._generation = generation
        waiting = [
            (path, make(number, generation))
            for number in range(self._count)
            for path, make in ((_GROUPS, _group), (_SPLITS, _split))
        ]
        await self._write(waiting, write)

    async def _write(self, waiting: list[tuple[str, dict[str, Any]]], write: Write) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_ONCE):
                tasks.create_task(self._write_all(waiting, write))

    async def _write_all(self, waiting: list[tuple[str, dict[str, Any]]], write: Write) -> None:
        while waiting:
            await write(self._connection, *waiting.pop())

    async def arrived(self, generation: int) -> float:
        """Wait until the buyer's sidecar has taken all of it; when its last ACK was."""

        async def settled() -> float:
            proxy = await asyncio.to_thread(client.get_proxy, _address(), f"{BUYER}/{BUYER}")
            found = _storm_routes(proxy)
            assert found == self._routes(generation), f"{len(found)}: {min(found.items())}"
            assert proxy["state"] == "STATE_SYNCED", proxy["state"]
            return _last_ack(proxy)

        return await eventually_async(settled, deadline=60, what="all objects in the sidecar")

    def _routes(self, generation: int) -> dict[str, Sequence[int]]:
        return {
            f"(?:{number}-{generation}-)": (10 + generation, 20 + generation)
            for number in range(self._count)
        }

    async def measured(self, how: str, happening: Coroutine[None, None, None]) -> None:
        """Let it happen, and wait until all has arrived: how long after it, and at what price."""
        pid = int((await self._story.plane.logged("starting"))["pid"])
        rounds = await metric(self._story.plane, "smi_xds_rounds_total")
        before, began = memory_mb(pid), time.time()
        peak = [before]
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(_sample(pid, peak))
            await happening
            written = time.time()
            acked = await self.arrived(self._generation)
            sampling.cancel()
        rounds_after = await metric(self._story.plane, "smi_xds_rounds_total")
        tell(
            f"{2 * self._count} objects {how}: {written - began:.2f} s, "
            f"last ACK {1000 * (acked - written):.0f} ms after it, "
            f"{rounds_after[''] - rounds['']:g} rounds, "
            f"memory {before:.0f} MB, at most {max(peak):.0f} MB"
        )
        assert max(peak) - before < _MOST_MB


async def _sample(pid: int, peak: list[float]) -> None:
    while True:
        peak.append(memory_mb(pid))
        await asyncio.sleep(0.05)


def _address() -> Address:
    host, _, port = XDS_ADDRESS.rpartition(":")
    return Address(host, int(port))


def _storm_routes(proxy: dict[str, Any]) -> dict[str, Sequence[int]]:
    """The weights of each route of the storm, by the header that it asks for."""
    found: dict[str, Sequence[int]] = {}
    for resource in proxy["resources"]:
        if resource["type"] == "RouteConfiguration":
            for host in resource["content"].get("virtual_hosts", ()):
                for route in host.get("routes", ()):
                    found |= _storm_route(route)
    return found


def _storm_route(route: dict[str, Any]) -> dict[str, Sequence[int]]:
    asked = json.dumps(route["match"])
    if "x-storm" not in asked:
        return {}
    clusters = route["route"]["weighted_clusters"]["clusters"]
    header = next(it for it in route["match"]["headers"] if it["name"] == "x-storm")
    value = header["string_match"]["safe_regex"]["regex"]
    return {value: tuple(int(cluster["weight"]) for cluster in clusters)}


def _last_ack(proxy: dict[str, Any]) -> float:
    moments = [
        datetime.fromisoformat(it["acked_at"]).timestamp()
        for stream in proxy["streams"]
        for it in stream["types"]
        if it.get("acked_at")
    ]
    return max(moments)
