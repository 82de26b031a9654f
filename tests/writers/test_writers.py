"""Flagger, Argo Rollouts and k8s-deploy, unmodified: their calls against a real API server.

Each takes whole rollouts from 0 to 100, in each version that it speaks, while a client calls the
service `web` through real Envoys: the shares are right at each step, and no request fails from
first to last. All of it happens in one shop, which takes longer to open than a rollout.
"""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from smi_xds.crds.definition import WEBHOOK_PORT
from tests.kube.api import KubectlError
from tests.kube.installed import lead_to
from tests.kube.netns import in_netns
from tests.support.wait import eventually_async
from tests.writers import argo_rollouts, flagger
from tests.writers.argo_rollouts import ArgoRollouts, NotOwnedError
from tests.writers.client import controller, owner
from tests.writers.flagger import Flagger
from tests.writers.k8s_deploy import K8sDeploy
from tests.writers.shop import Shop, shop

pytestmark = [pytest.mark.kube, pytest.mark.envoy, pytest.mark.timeout(600)]

ONE, TWO, THREE = "one", "two", "three"
VERSIONS = {"v1alpha1": (20, 40, 60, 80, 100), "v1alpha2": (50, 100), "v1alpha3": (50, 100)}
"""With the steps of a rollout: all of them once, and a few in the other versions."""


@in_netns()
async def test_writers_of_splits_work_unmodified(kube_binary: Path, tmp_path: Path) -> None:
    """What they read is what they wrote, shares are right at each step, and no request fails."""
    services = ("web", "web-primary", "web-stable", "web-baseline", "web-canary", "web-green")
    async with shop(
        kube_binary,
        tmp_path,
        root="web",
        services={name: {"role": ONE} for name in services},
        pods={name: {"role": name, "app": "web"} for name in (ONE, TWO, THREE)},
    ) as it:
        await it.ready(ONE)
        await it.begin()
        await _flagger(it)
        await _argo_rollouts(it)
        await _k8s_deploy(it, tmp_path)
        await _without_webhooks(it, tmp_path)


# ------------------------------------------------------------------ Flagger


async def _flagger(it: Shop) -> None:
    """The apex leads to the primary, so that without a split all is well."""
    await _select(it, "web-canary", TWO)
    client = await asyncio.to_thread(controller, it.kube, "flagger", verbs=flagger.VERBS)
    canary = await asyncio.to_thread(owner, it.kube, "Canary", "flagger.app", "v1beta1", "web")
    router = partial(Flagger, client, owner=canary, apex="web")
    await it.write("web", router("v1alpha1").reconcile)
    await it.shows("Flagger has initialized", {ONE: 100})
    for version, steps in VERSIONS.items():
        await _flagger_rolls_out(it, router(version), *steps)
        await it.kubectl("delete", "trafficsplit", "web")
    # One that is aborted, of a Canary that names its host.
    await _flagger_rolls_out(it, router("v1alpha3", host="web.shop"), 50)
    # Another provider in the Canary is another version of what is there already.
    for version in VERSIONS:
        other = router(version, host="web.shop")
        await asyncio.to_thread(other.reconcile)
        assert not other.resets, version
    await it.kubectl("delete", "canary", "web")

    async def is_collected() -> bool:
        return not await it.kubectl("get", "trafficsplits", "-o", "name")

    await eventually_async(is_collected, deadline=30)


async def _flagger_rolls_out(it: Shop, router: Flagger, *steps: int) -> None:
    """From 0 to the last step, and back to a primary that has the new version by then."""
    what = f"Flagger {router.version}"
    await it.write("web", router.reconcile)
    await it.ready(TWO)
    was = (100, 0)
    for canary in steps:
        await asyncio.to_thread(router.reconcile)
        assert await asyncio.to_thread(router.routes) == was
        was = (100 - canary, canary)
        await it.write("web", partial(router.set_routes, *was))
        await it.shows(f"{what}: {canary} %", {ONE: 100 - canary, TWO: canary})
    await asyncio.to_thread(router.reconcile)
    await it.write("web", partial(router.set_routes, 100, 0))
    await it.shows(f"{what}: all to the primary", {ONE: 100})
    await it.ready(TWO, ready=False)
    await eventually_async(partial(it.is_told, "web"), deadline=30)
    await asyncio.to_thread(router.reconcile)
    assert not router.resets, f"{what} began anew {router.resets} times"


# ------------------------------------------------------------------ Argo Rollouts


async def _argo_rollouts(it: Shop) -> None:
    """The stable service is root and backend at once; a split of somebody else is left alone."""
    await it.ready(TWO)
    client = await asyncio.to_thread(
        controller, it.kube, "argo-rollouts", verbs=argo_rollouts.VERBS
    )
    rollout = await asyncio.to_thread(owner, it.kube, "Rollout", "argoproj.io", "v1alpha1", "web")
    router = partial(ArgoRollouts, client, owner=rollout, stable="web", canary="web-canary")
    pods = (ONE, TWO)
    for version, steps in VERSIONS.items():
        await _argo_rolls_out(it, router(version), pods, *steps)
        pods = (pods[1], pods[0])
    old, new = pods
    await _select(it, "web-canary", new)
    await asyncio.to_thread(router("v1alpha1").set_weight, 50)
    await it.shows("half of it", {old: 50, new: 50})
    await asyncio.to_thread(router("v1alpha1").set_weight, 0)
    await it.shows("aborted", {old: 100})
    stranger = router("v1alpha2", owner={**rollout, "uid": "another"})
    with pytest.raises(NotOwnedError):
        await asyncio.to_thread(stranger.set_weight, 100)
    await it.kubectl("delete", "trafficsplit", "web")


async def _argo_rolls_out(
    it: Shop, router: ArgoRollouts, pods: tuple[str, str], *steps: int
) -> None:
    """From 0 to the last step; then the stable service leads to the new pods, at weight 0."""
    (old, new), what = pods, f"Argo Rollouts {router.version}"
    await _select(it, "web-canary", new)
    await asyncio.to_thread(router.set_weight, 0)
    for weight in steps:
        await asyncio.to_thread(router.set_weight, weight)
        await asyncio.to_thread(router.set_weight, weight)  # each reconciliation, and no patch
        await it.shows(f"{what}: {weight} %", {old: 100 - weight, new: weight})
    assert router.patches <= len(steps), f"{what} patched {router.patches} times"
    await _select(it, "web", new)
    await asyncio.to_thread(router.set_weight, 0)
    await it.shows(f"{what} is done", {new: 100})


# ------------------------------------------------------------------ k8s-deploy


async def _k8s_deploy(it: Shop, folder: Path) -> None:
    """It takes the first version that is served, and writes whole numbers into it."""
    await _select(it, "web", ONE)
    for name, pod in {"stable": ONE, "baseline": THREE, "canary": TWO, "green": TWO}.items():
        await _select(it, f"web-{name}", pod)
    action = K8sDeploy(it.kube, folder, "web")
    await _canary_workflow(it, action)
    assert action.api_version == "split.smi-spec.io/v1alpha1"
    action.flags = ("--server-side",)
    await _blue_green_workflow(it, action)


async def _canary_workflow(it: Shop, action: K8sDeploy) -> None:
    """Deploy, and reject; deploy again, and promote."""
    await asyncio.to_thread(action.to_stable)
    await it.ready(THREE)
    await asyncio.to_thread(action.canary, 30)
    await it.shows("k8s-deploy: 30 %", {ONE: 700, THREE: 150, TWO: 150})
    await asyncio.to_thread(action.to_stable)
    await it.shows("k8s-deploy: rejected", {ONE: 100})
    await asyncio.to_thread(action.canary, 60)
    await it.shows("k8s-deploy: 60 %", {ONE: 400, THREE: 300, TWO: 300})
    await asyncio.to_thread(action.to_canary)
    await it.shows("k8s-deploy: while stable is replaced", {TWO: 100})
    await asyncio.to_thread(action.to_stable)
    await it.shows("k8s-deploy: promoted", {ONE: 100})
    await it.ready(THREE, ready=False)
    await asyncio.to_thread(action.delete, "workflow-rollout")


async def _blue_green_workflow(it: Shop, action: K8sDeploy) -> None:
    await asyncio.to_thread(action.blue_green, is_green=False)
    await asyncio.to_thread(action.blue_green, is_green=True)
    await it.shows("k8s-deploy: green", {TWO: 100})
    assert await asyncio.to_thread(action.is_green)
    await asyncio.to_thread(action.blue_green, is_green=False)
    await it.shows("k8s-deploy: blue again", {ONE: 100})
    await asyncio.to_thread(action.delete, "trafficsplit")


# ------------------------------------------------------------------ nobody converts


async def _without_webhooks(it: Shop, folder: Path) -> None:
    """Traffic and the stored version go on; a writer of another one is told, and tries again."""
    action = K8sDeploy(it.kube, folder, "web")
    await asyncio.to_thread(action.blue_green, is_green=False)
    await asyncio.to_thread(lead_to, it.kube, 1)

    async def is_refused() -> bool:
        try:
            await asyncio.to_thread(action.blue_green, is_green=False)
        except KubectlError as error:
            return "conversion webhook" in str(error)
        return False

    await eventually_async(is_refused, deadline=60)
    half = [{"service": f"web-{name}", "weight": 1} for name in ("stable", "green")]
    patch = f"--patch={json.dumps({'spec': {'backends': half}})}"
    await it.kubectl("patch", "ts", "web-trafficsplit", "--type=merge", patch)
    await it.shows("without webhooks: half", {ONE: 50, TWO: 50})
    await asyncio.to_thread(lead_to, it.kube, WEBHOOK_PORT)

    async def is_written() -> bool:
        await asyncio.to_thread(action.blue_green, is_green=True)
        return True

    await eventually_async(is_written, deadline=60, retry_on=(KubectlError,))
    await it.shows("with webhooks again", {TWO: 100})


async def _select(it: Shop, service: str, pod: str) -> None:
    """As Argo Rollouts does with the hash of a ReplicaSet."""
    patch = json.dumps({"spec": {"selector": {"role": pod}}})
    await it.kubectl("patch", "service", service, "--type=merge", f"--patch={patch}")
    addresses = [it.address(pod)] if pod in it.ready_pods else []
    await asyncio.to_thread(
        it.kube.wait_for_addresses, service, addresses, namespace="shop", deadline=30
    )
