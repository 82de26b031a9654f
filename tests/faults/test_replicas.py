"""Two control planes serve the same sidecars: one dies, and only certificates are sent again."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smi_xds.config import Address
from smi_xds.debug import client
from smi_xds.demo.story import MEMBERS, STORE_V1, STORE_V2
from tests.faults.sizes import Sizes
from tests.faults.watching import Sent, metric, sent, tell
from tests.kube.cluster import KubeCluster
from tests.kube.netns import in_netns
from tests.kube.plugin import CRDS
from tests.support.live_kube import Bookstore, bookstore, patch_weights, plane_arguments
from tests.support.plane import ControlPlane, control_plane
from tests.support.relay import relaying
from tests.support.wait import eventually_async

pytestmark = [pytest.mark.kube, pytest.mark.envoy]

PORTS = (15110, 15210)
V1_ONLY = {STORE_V1: 100, STORE_V2: 0}
V2_ONLY = {STORE_V1: 0, STORE_V2: 100}
# Bytes of a response with nothing in it: its type's URL, a nonce, a version.
_EMPTY = 150
NODES = [f"{member.proxy.namespace}/{member.proxy.name}" for member in MEMBERS]


@in_netns()
async def test_a_replica_dies_and_its_sidecars_move(kube_binary: Path, tmp_path: Path) -> None:
    """Both serve the same versions; sidecars that lose one get from the other what is new to them:
    certificates, and nothing else. While splits move too nobody who calls notices.
    """
    with KubeCluster(binary=kube_binary) as kube:
        kube.apply_crds(CRDS)
        async with _two_replicas(kube, tmp_path) as (story, second):
            await story.change("0/100", partial(patch_weights, kube, 0, 100), shares=V2_ONLY)
            await _both_say_the_same()
            await _dies_in_silence(story, second)
            await story.plane.start()
            await _dies_while_splits_move(story, kube, second)


@asynccontextmanager
async def _two_replicas(
    kube: KubeCluster, folder: Path
) -> AsyncIterator[tuple[Bookstore, ControlPlane]]:
    """The bookstore with another replica, which shares the state, and a balancer before both."""
    (folder / "second").mkdir()
    arguments = plane_arguments(
        kube.kubeconfig, xds_address=f"127.0.0.1:{PORTS[1]}", state=folder / "state"
    )
    async with (
        relaying(*(("127.0.0.1", port) for port in PORTS), port=15010),
        control_plane(*arguments, folder=folder / "second") as second,
    ):
        await second.start()
        first_address = f"127.0.0.1:{PORTS[0]}"
        async with bookstore(kube, folder, xds_address=first_address) as story:
            yield story, second


async def _both_say_the_same() -> None:
    """Every resource of every sidecar has the same version on both, but for their certificates."""

    def said(port: int) -> Mapping[str, Mapping[tuple[str, str], str]]:
        return {
            node: _versions(client.get_proxy(Address("127.0.0.1", port), node)) for node in NODES
        }

    async def equal() -> bool:
        first, second = [await asyncio.to_thread(said, port) for port in PORTS]
        assert first == second
        assert all(len(versions) > 5 for versions in first.values())
        return True

    await eventually_async(equal, what="equal versions")


def _versions(proxy: Mapping[str, Any]) -> Mapping[tuple[str, str], str]:
    return {
        (it["type"], it["name"]): it["version"]
        for it in proxy["resources"]
        if (it["type"], it["name"]) != ("Secret", "identity")
    }


async def _dies_in_silence(story: Bookstore, second: ControlPlane) -> None:
    """Nothing changes meanwhile: what is sent again is certificates."""
    before = await sent(second)
    moving = len(NODES) - await _streams(second)
    assert moving >= 2, "the balancer gives each replica some"
    async with story.watched("a replica is killed", shares=V2_ONLY):
        await story.plane.kill()
        await _all_are_with(second)
    new = _since(before, await sent(second))
    tell(f"{moving} sidecars moved, and were sent: {new}")
    assert new.pop("Secret").responses == moving
    _assert_no_resources(new, connections=moving)


def _since(before: Mapping[str, Sent], after: Mapping[str, Sent]) -> dict[str, Sent]:
    nothing = Sent(0, 0)
    return {
        type_: Sent(
            now.responses - before.get(type_, nothing).responses,
            now.bytes - before.get(type_, nothing).bytes,
        )
        for type_, now in after.items()
    }


def _assert_no_resources(new: Mapping[str, Sent], *, connections: int) -> None:
    """Who asks for all of a type is answered once, if only that there is nothing new (S16)."""
    for type_, it in new.items():
        assert it.responses <= connections, (type_, new)
        assert it.bytes <= _EMPTY * it.responses, (type_, new)


async def _streams(plane: ControlPlane) -> int:
    return int((await metric(plane, "smi_xds_streams"))[""])


async def _all_are_with(plane: ControlPlane) -> None:
    """Wait until all sidecars are there, and have taken all."""

    async def arrived() -> bool:
        proxies = await metric(plane, "smi_xds_proxies")
        assert proxies['state="synced"'] == len(NODES), proxies
        return True

    await eventually_async(arrived, deadline=40, what="all sidecars on the survivor")


async def _dies_while_splits_move(
    story: Bookstore, kube: KubeCluster, second: ControlPlane
) -> None:
    """The one that has all sidecars dies in the midst of moves: each of them arrives."""
    moves = 0
    async with asyncio.timeout(Sizes.chosen().replicas + 60), asyncio.TaskGroup() as tasks:
        dying = tasks.create_task(_die_after(Sizes.chosen().replicas / 2, second))
        end = asyncio.get_running_loop().time() + Sizes.chosen().replicas
        while not dying.done() or asyncio.get_running_loop().time() < end:
            for v1, v2, shares in ((100, 0, V1_ONLY), (0, 100, V2_ONLY)):
                move = partial(patch_weights, kube, v1, v2)
                await story.change(f"{v1}/{v2}, a replica dies", move, shares=shares)
                moves += 1
    await _all_are_with(story.plane)
    new = dict(await sent(story.plane))
    tell(f"the split moved {moves} times; the survivor sent: {new}")
    # What moved is in the routes; what did not is not sent again.
    for type_ in ("Secret", "RouteConfiguration"):
        new.pop(type_)
    _assert_no_resources(new, connections=len(NODES))


async def _die_after(seconds: float, plane: ControlPlane) -> None:
    await asyncio.sleep(seconds)
    await plane.kill()
