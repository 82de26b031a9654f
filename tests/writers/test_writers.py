"""Flagger, Argo Rollouts and k8s-deploy, unmodified: their calls against a real API server.

Each takes whole rollouts from 0 to 100, in each version that it speaks, while a client calls
through real Envoys: the shares are right at each step, and no request fails from first to last.
"""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.kube.api import KubectlError
from tests.kube.netns import in_netns
from tests.support.wait import eventually_async
from tests.writers import argo_rollouts, flagger
from tests.writers.argo_rollouts import ArgoRollouts, NotOwnedError
from tests.writers.client import controller, owner
from tests.writers.flagger import Flagger
from tests.writers.k8s_deploy import K8sDeploy
from tests.writers.shop import Shop, shop

pytestmark = [pytest.mark.kube, pytest.mark.envoy, pytest.mark.timeout(600)]

VERSIONS = {"v1alpha1": (20, 40, 60, 80, 100), "v1alpha2": (50, 100), "v1alpha3": (50, 100)}
"""With the steps of a rollout: all of them once, and a few in the other versions."""


@in_netns()
async def test_flagger(kube_binary: Path, tmp_path: Path) -> None:
    """It reads what it wrote in each version, so no rollout begins anew; one is aborted, too."""
    async with shop(
        kube_binary,
        tmp_path,
        root="podinfo",
        # The apex leads to the primary, so that without a split all is well.
        services={
            "podinfo": {"app": "podinfo-primary"},
            "podinfo-primary": {"app": "podinfo-primary"},
            "podinfo-canary": {"app": "podinfo"},
        },
        pods={"primary": {"app": "podinfo-primary"}, "canary": {"app": "podinfo"}},
    ) as it:
        await it.ready("primary")
        await it.begin()
        client = await asyncio.to_thread(controller, it.kube, "flagger", verbs=flagger.VERBS)
        canary = await asyncio.to_thread(
            owner, it.kube, "Canary", "flagger.app", "v1beta1", "podinfo"
        )
        router = partial(Flagger, client, owner=canary, apex="podinfo")
        await it.write("podinfo", router("v1alpha1").reconcile)
        await it.shows("initialized", {"primary": 100})
        for version, steps in VERSIONS.items():
            await _flagger_rolls_out(it, router(version), *steps)
            await it.kubectl("delete", "trafficsplit", "podinfo")
        await _flagger_rolls_out(it, router("v1alpha3", host="podinfo.shop"), 50)
        # Another provider in the Canary is another version of what is there already.
        for version in VERSIONS:
            other = router(version, host="podinfo.shop")
            await asyncio.to_thread(other.reconcile)
            assert not other.resets, version
        await it.kubectl("delete", "canary", "podinfo")
        await eventually_async(partial(_is_gone, it, "podinfo"), deadline=30)
        await it.shows("garbage collected", {"primary": 100})


async def _flagger_rolls_out(it: Shop, router: Flagger, *steps: int) -> None:
    """From 0 to the last step, and back to a primary that has the new version by then."""
    what = f"Flagger {router.version}"
    await it.write("podinfo", router.reconcile)
    await it.ready("canary")
    was = (100, 0)
    for canary in steps:
        await asyncio.to_thread(router.reconcile)
        assert await asyncio.to_thread(router.routes) == was
        was = (100 - canary, canary)
        await it.write("podinfo", partial(router.set_routes, *was))
        await it.shows(f"{what}: {canary} %", {"primary": 100 - canary, "canary": canary})
    await asyncio.to_thread(router.reconcile)
    await it.write("podinfo", partial(router.set_routes, 100, 0))
    await it.shows(f"{what}: all to the primary", {"primary": 100})
    await it.ready("canary", ready=False)
    await eventually_async(partial(it.is_told, "podinfo"), deadline=30)
    await asyncio.to_thread(router.reconcile)
    assert not router.resets, f"{what} began anew {router.resets} times"


async def _is_gone(it: Shop, name: str) -> bool:
    try:
        await it.kubectl("get", "trafficsplit", name)
    except KubectlError:
        return True
    return False


@in_netns()
async def test_argo_rollouts(kube_binary: Path, tmp_path: Path) -> None:
    """The stable service is root and backend at once; a split of somebody else is left alone."""
    async with shop(
        kube_binary,
        tmp_path,
        root="stable",
        services={"stable": {"hash": "old"}, "canary": {"hash": "new"}},
        pods={"old": {"hash": "old"}, "new": {"hash": "new"}},
    ) as it:
        await it.ready("old")
        await it.ready("new")
        await it.begin()
        client = await asyncio.to_thread(
            controller, it.kube, "argo-rollouts", verbs=argo_rollouts.VERBS
        )
        rollout = await asyncio.to_thread(
            owner, it.kube, "Rollout", "argoproj.io", "v1alpha1", "web"
        )
        router = partial(ArgoRollouts, client, owner=rollout, stable="stable", canary="canary")
        pods = ("old", "new")
        for version, steps in VERSIONS.items():
            await _argo_rolls_out(it, router(version), pods, *steps)
            pods = (pods[1], pods[0])
        await _argo_aborts(it, router("v1alpha1"), pods)
        stranger = router("v1alpha2", owner={**rollout, "uid": "another"})
        with pytest.raises(NotOwnedError):
            await asyncio.to_thread(stranger.set_weight, 100)


async def _argo_rolls_out(
    it: Shop, router: ArgoRollouts, pods: tuple[str, str], *steps: int
) -> None:
    """From 0 to the last step; then the stable service leads to the new pods, at weight 0."""
    (old, new), what = pods, f"Argo Rollouts {router.version}"
    await _select(it, "canary", new)
    await asyncio.to_thread(router.set_weight, 0)
    for weight in steps:
        await asyncio.to_thread(router.set_weight, weight)
        await asyncio.to_thread(router.set_weight, weight)  # each reconciliation, and no patch
        await it.shows(f"{what}: {weight} %", {old: 100 - weight, new: weight})
    assert router.patches <= len(steps), f"{what} patched {router.patches} times"
    await _select(it, "stable", new)
    await asyncio.to_thread(router.set_weight, 0)
    await it.shows(f"{what} is done", {new: 100})


async def _argo_aborts(it: Shop, router: ArgoRollouts, pods: tuple[str, str]) -> None:
    old, new = pods
    await _select(it, "canary", new)
    await asyncio.to_thread(router.set_weight, 50)
    await it.shows("half of it", {old: 50, new: 50})
    await asyncio.to_thread(router.set_weight, 0)
    await it.shows("aborted", {old: 100})


async def _select(it: Shop, service: str, pod: str) -> None:
    """As Argo Rollouts does with the hash of a ReplicaSet."""
    patch = f'{{"spec": {{"selector": {{"hash": "{pod}"}}}}}}'
    await it.kubectl("patch", "service", service, "--type=merge", f"--patch={patch}")
    address = f"10.244.0.{it.pods[pod]}"
    await asyncio.to_thread(it.kube.wait_for_addresses, service, [address], namespace="shop")


@in_netns()
async def test_k8s_deploy(kube_binary: Path, tmp_path: Path) -> None:
    """It takes the first version that is served, and writes whole numbers into it."""
    color, version = "k8s.deploy.color", "workflow/version"
    async with shop(
        kube_binary,
        tmp_path,
        root="web",
        services={
            "web": {"app": "web"},
            "web-stable": {"app": "web", version: "stable", color: "none"},
            "web-baseline": {"app": "web", version: "baseline"},
            "web-canary": {"app": "web", version: "canary"},
            "web-green": {"app": "web", color: "green"},
        },
        pods={
            "stable": {"app": "web", version: "stable", color: "none"},
            "baseline": {"app": "web", version: "baseline"},
            "new": {"app": "web", version: "canary", color: "green"},
        },
    ) as it:
        await it.ready("stable")
        await it.begin()
        action = K8sDeploy(it.kube, tmp_path, "web")
        await _canary_workflow(it, action)
        assert action.api_version == "split.smi-spec.io/v1alpha1"
        action.flags = ("--server-side", "--force-conflicts")
        await _canary_workflow(it, action)
        await _blue_green_workflow(it, action)


async def _canary_workflow(it: Shop, action: K8sDeploy) -> None:
    """Deploy, reject, deploy again, promote."""
    what = f"k8s-deploy {' '.join(action.flags)}"
    shares = {"stable": 700, "baseline": 150, "new": 150}
    await asyncio.to_thread(action.to_stable)
    await it.ready("baseline")
    await it.ready("new")
    await asyncio.to_thread(action.canary, 30)
    await it.shows(f"{what}: 30 %", shares)
    await asyncio.to_thread(action.to_stable)
    await it.shows(f"{what}: rejected", {"stable": 100})
    await asyncio.to_thread(action.canary, 30)
    await asyncio.to_thread(action.to_canary)
    await it.shows(f"{what}: while stable is replaced", {"new": 100})
    await asyncio.to_thread(action.to_stable)
    await it.shows(f"{what}: promoted", {"stable": 100})
    await it.ready("baseline", ready=False)
    await it.ready("new", ready=False)
    await asyncio.to_thread(action.delete, "workflow-rollout")


async def _blue_green_workflow(it: Shop, action: K8sDeploy) -> None:
    await asyncio.to_thread(action.blue_green, is_green=False)
    await it.ready("new")
    await it.shows("blue", {"stable": 100})
    await asyncio.to_thread(action.blue_green, is_green=True)
    await it.shows("green", {"new": 100})
    assert await asyncio.to_thread(action.is_green)
    await asyncio.to_thread(action.blue_green, is_green=False)
    await it.shows("promoted", {"stable": 100})
    await it.ready("new", ready=False)
    await asyncio.to_thread(action.delete, "trafficsplit")
    await it.shows("cleaned up", {"stable": 100})
