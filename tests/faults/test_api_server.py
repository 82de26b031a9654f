"""The API server and the way to it fail in every manner, and nobody who calls notices.

The bookstore runs on real Envoys, everyone calls all the time on connections that are kept, and
each answer is counted. `make faults` makes the same faults last longer.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from smi_xds.demo.story import BUYER, STORE_V1, STORE_V2, THIEF
from tests.faults.sizes import Sizes
from tests.faults.storm import storm
from tests.faults.watching import tell
from tests.kube.api import KubectlError
from tests.kube.cluster import KubeCluster
from tests.kube.netns import in_netns
from tests.kube.plugin import CRDS
from tests.support.etcd import compact
from tests.support.live_kube import Bookstore, bookstore, objects, patch_weights
from tests.support.relay import Relay, relaying
from tests.support.wait import eventually

pytestmark = [pytest.mark.kube, pytest.mark.envoy]

V1_ONLY = {STORE_V1: 100, STORE_V2: 0}
V2_ONLY = {STORE_V1: 0, STORE_V2: 100}
HALF = {STORE_V1: 50, STORE_V2: 50}


@in_netns()
async def test_traffic_outlives_what_happens_to_the_api_server(
    kube_binary: Path, tmp_path: Path
) -> None:
    """It stops for long, etcd is compacted, watches are cut every second, CRDs come and go, and a
    thousand objects change at once: each change is followed, no request fails, and nothing has to
    be started again.
    """
    with KubeCluster(binary=kube_binary) as kube:
        kube.apply_crds(CRDS)
        async with _at_a_distance(kube, tmp_path) as (story, relay):
            await story.change("0/100", partial(patch_weights, kube, 0, 100), shares=V2_ONLY)
            tell("all is up")
            await _stopped_for_long(story, kube)
            compacted = await _compacted(story, kube, relay)
            await _cut_every_second(story, kube, relay, compacted=compacted)
            await _splits_without_crd(story, kube)
            await _everything_without_crds(story, kube)
            await storm(story, kube, relay)


@asynccontextmanager
async def _at_a_distance(kube: KubeCluster, folder: Path) -> AsyncIterator[tuple[Bookstore, Relay]]:
    """The bookstore, whose control plane reaches the API server through a relay."""
    async with relaying(("127.0.0.1", kube.port)) as relay:
        kubeconfig = folder / "kubeconfig"
        text = kube.kubeconfig.read_text()
        kubeconfig.write_text(text.replace(kube.url, f"https://127.0.0.1:{relay.port}"))
        async with bookstore(kube, folder, kubeconfig=kubeconfig) as story:
            yield story, relay


def _codes(story: Bookstore, event: str = "problem_found") -> list[str]:
    return [str(problem["code"]) for problem in story.plane.events(event)]


async def _stopped_for_long(story: Bookstore, kube: KubeCluster) -> None:
    """One problem tells, nothing is sent; what changes as soon as it is back is followed."""
    seconds = Sizes.chosen().outage
    sent = await story.updates()
    async with story.watched(f"no API server for {seconds:g} s", shares=V2_ONLY):
        await asyncio.to_thread(kube.stop_apiserver)
        await story.plane.logged("problem_found")
        await asyncio.sleep(seconds)
    assert await story.updates() == sent
    assert _codes(story) == ["SourceUnavailable"]

    async with (
        story.watched("it is back, and changes at once", shares=V1_ONLY),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(asyncio.to_thread(kube.start_apiserver))
        await asyncio.to_thread(_patch_as_soon_as_possible, kube, 100, 0)
        written = time.monotonic()
        await story.plane.logged("problem_solved", deadline=30)
        waited = time.monotonic() - written
    tell(f"{seconds:g} s without an API server: in touch again {waited:.1f} s after a change")
    assert _codes(story) == ["SourceUnavailable"]


def _patch_as_soon_as_possible(kube: KubeCluster, v1: int, v2: int) -> None:
    def patched() -> bool:
        patch_weights(kube, v1, v2)
        return True

    eventually(patched, deadline=90, retry_on=(KubectlError,))


async def _compacted(story: Bookstore, kube: KubeCluster, relay: Relay) -> int:
    """While watches are cut their versions are forgotten: all is listed, and what changed seen.

    How many listings there had been before.
    """
    story_so_far = len(story.plane.events("listing_anew"))
    async with story.watched("etcd is compacted", shares=V1_ONLY):
        relay.is_open = False
        relay.cut()
        await asyncio.to_thread(patch_weights, kube, 0, 100)
        await asyncio.to_thread(compact, kube)
        # Its memory of what happened is beside that of etcd, and begins anew with it.
        await asyncio.to_thread(kube.stop_apiserver)
        await asyncio.to_thread(kube.start_apiserver)
    async with story.watched("watches go on", shares=V2_ONLY):
        relay.is_open = True
    anew = story.plane.events("listing_anew")[story_so_far:]
    gone = [event["kind"] for event in anew if "gone" in event["reason"]]
    tell(f"after compaction {len(anew)} kinds were listed again, {len(gone)} of them for a 410")
    # Where the API server took its time to start, all is listed without asking for a watch.
    assert "trafficsplits.split.smi-spec.io" in [event["kind"] for event in anew], anew
    return story_so_far


async def _cut_every_second(
    story: Bookstore, kube: KubeCluster, relay: Relay, *, compacted: int
) -> None:
    """Each watch goes on from where it was: nothing is missed, nothing listed, nobody told."""
    await story.plane.logged("problem_solved")
    told, listed = (len(story.plane.events(it)) for it in ("problem_found", "listing_anew"))
    cuts_before, end = relay.cuts, time.monotonic() + Sizes.chosen().cuts
    moves = 0
    async with asyncio.TaskGroup() as tasks:
        cutting = tasks.create_task(relay.cut_every(1.0))
        while time.monotonic() < end:
            for v1, v2, shares in ((100, 0, V1_ONLY), (0, 100, V2_ONLY)):
                move = partial(patch_weights, kube, v1, v2)
                await story.change(f"{v1}/{v2}, cut every second", move, shares=shares)
                moves += 1
        cutting.cancel()
    tell(f"{relay.cuts - cuts_before} watches were cut while the split moved {moves} times")
    assert relay.cuts - cuts_before > 10 * (Sizes.chosen().cuts - 2)
    assert len(story.plane.events("problem_found")) == told
    # A kind without news since the compaction may yet ask for a version that is gone; but once.
    anew = story.plane.events("listing_anew")[compacted:]
    assert all("gone" in event["reason"] for event in anew[listed - compacted :]), anew
    kinds = [event["kind"] for event in anew if "gone" in event["reason"]]
    assert len(kinds) == len(set(kinds)), anew


async def _splits_without_crd(story: Bookstore, kube: KubeCluster) -> None:
    """Without the CRD there is no split: the root's own pods serve, until there is one again."""
    delete = partial(kube.kubectl, "delete", "crd", "trafficsplits.split.smi-spec.io", "--wait")
    await story.change("kubectl delete crd trafficsplits", delete, shares=HALF)
    await story.plane.logged("problem_found")

    def again() -> None:
        kube.apply_crds(CRDS)
        kube.apply(objects())
        patch_weights(kube, 100, 0)

    await story.change("the CRD is back, and a split", again, shares=V1_ONLY)
    move = partial(patch_weights, kube, 0, 100)
    await story.change("and it moves", move, shares=V2_ONLY)
    tell("the CRD of TrafficSplits was deleted and made again")


async def _everything_without_crds(story: Bookstore, kube: KubeCluster) -> None:
    """Without TrafficTargets nobody may call, which is an answer; applied again, they may."""
    await asyncio.to_thread(kube.kubectl, "delete", "-k", str(CRDS), "--wait")
    await _sees(story, {"403"})
    await asyncio.to_thread(kube.apply_crds, CRDS)
    await asyncio.to_thread(kube.apply, objects())
    await _sees(story, {"200"})
    async with story.watched("all CRDs are back", shares={STORE_V1: 90, STORE_V2: 10}):
        pass
    assert not story.plane.events("rebuild_failed")
    tell("all CRDs were deleted and made again")


async def _sees(story: Bookstore, codes: set[str]) -> None:
    """Wait until the buyer sees these codes only; no sidecar ever fails it.

    502 is what a store says that may not call the warehouse: its TrafficTarget may be the last.
    """
    async with asyncio.timeout(40):
        while True:
            counted = await story.epoch({BUYER: 100})
            seen = set(counted.tally.codes(BUYER))
            assert seen <= {"200", "403", "502"}, seen
            assert set(counted.tally.codes(THIEF)) <= {"403"}
            if seen == codes:
                return
