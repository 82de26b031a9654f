"""The bookstore story with a real API server: what users do with kubectl, real Envoys obey.

Everyone calls all the time, on connections that are kept, and every answer is counted: each change
and each outage ends with traffic where it should be, and without one request that failed.
"""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from smi_xds.demo.story import STORE_V1, STORE_V2
from tests.kube.cluster import KubeCluster
from tests.kube.netns import in_netns
from tests.kube.plugin import CRDS
from tests.support.live_kube import (
    BUYER_2,
    STORE_V2B,
    Bookstore,
    bookstore,
    make_pod,
    mark_ready,
    patch_weights,
    thief_target,
)

pytestmark = [pytest.mark.kube, pytest.mark.envoy]

HALF = {STORE_V1: 50, STORE_V2: 50}
V2_ONLY = {STORE_V1: 0, STORE_V2: 100, STORE_V2B: 0}
V2_AND_V2B = {STORE_V1: 0, STORE_V2: 50, STORE_V2B: 50}
ALL = {STORE_V1: 50, STORE_V2: 25, STORE_V2B: 25}

ENOUGH = 1000
"""Requests for a share: 5 standard deviations of 90/10 are 5 percent points."""


@in_netns()
async def test_traffic_follows_kubectl_through_outages_without_a_failed_request(
    kube_binary: Path, tmp_path: Path
) -> None:
    """Weights, access and pods change, API server and control plane go away: nobody who calls
    notices anything but that requests go elsewhere, and that the thief is let in and thrown out.
    """
    with KubeCluster(binary=kube_binary) as kube:
        kube.apply_crds(CRDS)
        async with bookstore(kube, tmp_path) as story:
            await _weights_change(story)
            await _api_server_goes_away(story, kube)
            await _access_changes(story)
            await _pods_come_and_go(story)
            await _control_plane_goes_away(story)


async def _weights_change(story: Bookstore) -> None:
    async with story.watched("90/10", shares={STORE_V1: 90, STORE_V2: 10}, enough=ENOUGH):
        pass  # as applied
    half = partial(patch_weights, story.kube, 50, 50)
    await story.change("kubectl patch: 50/50", half, shares=HALF, enough=ENOUGH)
    problems = story.plane.events("problem_found")
    assert not problems, problems


async def _api_server_goes_away(story: Bookstore, kube: KubeCluster) -> None:
    """All stays as it was, and nothing is sent again; one problem tells. Then watches go on."""
    sent = await story.updates()
    async with story.watched("the API server is away", shares=HALF, enough=ENOUGH):
        await asyncio.to_thread(kube.stop_apiserver)
        await story.plane.logged("problem_found")
    async with story.watched("the API server is back", shares=HALF):
        await asyncio.to_thread(kube.start_apiserver)
        await story.plane.logged("problem_solved")
    sent_now = await story.updates()
    assert sent_now == sent, f"{sent} became {sent_now}"

    await story.change("kubectl patch: 0/100", partial(patch_weights, kube, 0, 100), shares=V2_ONLY)
    found, solved = (story.plane.events(f"problem_{word}") for word in ("found", "solved"))
    assert [problem["code"] for problem in found] == ["SourceUnavailable"], found
    assert len(solved) == 1, solved


async def _access_changes(story: Bookstore) -> None:
    allow = partial(story.kube.apply, thief_target())
    await story.change("kubectl apply: TrafficTarget", allow, shares=V2_ONLY, thief="200")
    deny = partial(story.kube.kubectl, "delete", "traffictarget", "thief", "--namespace=bookstore")
    await story.change("kubectl delete: TrafficTarget", deny, shares=V2_ONLY, thief="403")


async def _pods_come_and_go(story: Bookstore) -> None:
    """One more, which fails its probe, is ready again, and is deleted: it drains before it goes."""
    kube, namespace = story.kube, "bookstore"
    ready = partial(mark_ready, kube, STORE_V2B, ready=True)
    not_ready = partial(mark_ready, kube, STORE_V2B, ready=False)
    delete = partial(
        kube.kubectl, "delete", "pod", STORE_V2B, f"--namespace={namespace}", "--wait=false"
    )
    await asyncio.to_thread(make_pod, kube, STORE_V2B, ready=False)
    await story.start_sidecars([STORE_V2B])
    await story.change("one more pod", ready, shares=V2_AND_V2B)
    await story.change("it is not ready", not_ready, shares=V2_ONLY)
    await story.change("it is ready again", ready, shares=V2_AND_V2B)
    await story.change("kubectl delete: pod", delete, shares=V2_ONLY)
    async with story.watched("it is gone", shares=V2_ONLY):
        await story.stop_sidecar(STORE_V2B)
        await asyncio.to_thread(kube.remove_pod, STORE_V2B, namespace=namespace)


async def _control_plane_goes_away(story: Bookstore) -> None:
    """Sidecars go on; those that start meanwhile wait; then all take what was said meanwhile."""
    kube, latecomers = story.kube, (STORE_V2B, BUYER_2)
    async with story.watched("the control plane is away", shares=V2_ONLY):
        await story.plane.kill()
        await asyncio.to_thread(patch_weights, kube, 50, 50)
        await asyncio.to_thread(make_pod, kube, STORE_V2B, ready=False)
        await asyncio.to_thread(make_pod, kube, BUYER_2)
        for name in latecomers:
            await story.start_sidecar(name)
    for name in latecomers:
        state = await story.state(name)
        assert state == "PRE_INITIALIZING", f"{name}: {state}"

    async with story.watched("the control plane is back", shares=HALF, enough=ENOUGH):
        await story.plane.start()
        for name in latecomers:
            await story.sidecars[name].wait_until_ready()
    await story.begin(BUYER_2)
    ready = partial(mark_ready, kube, STORE_V2B, ready=True)
    await story.change("the new pod is ready", ready, shares=ALL, enough=ENOUGH)
