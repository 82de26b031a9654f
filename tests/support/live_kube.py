"""The bookstore story with Kubernetes as its source, for tests in a network namespace.

A real API server has the objects, `smi-xds serve --kubernetes` is a process, real Envoys listen at
the addresses of the pods, and the applications of the demo call all the time and count every
answer. Nothing here looks into the server: what is seen is what users see.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from smi_xds.demo import story
from smi_xds.demo.envoy import Sidecar, envoy_binary, running_sidecar
from smi_xds.demo.fleet import Counted, Fleet, running_fleet
from smi_xds.demo.report import StepResult, failures
from smi_xds.demo.story import BUYER, MEMBERS, PORT, STORE_V1, STORE_V2, THIEF, Member, Step
from smi_xds.mesh.model import Sidecar as SidecarMode
from smi_xds.mesh.model import Workload
from smi_xds.values import AccessMode, Mode, ProxyId, ServiceAccountRef, SpiffeId
from smi_xds.xds.bootstrap import admin_address
from smi_xds.xds.bootstrap import sidecar as bootstrap
from smi_xds.xds.dump import to_json
from tests.kube.api import Kube
from tests.support.plane import ControlPlane, control_plane
from tests.support.wait import eventually_async

POD_PREFIX = "10.244.0"
"""Where pods are, and their sidecars listen."""
APP_PREFIX = "127.64.0"
"""Where applications listen; only an annotation may say so: the API server refuses loopback."""
XDS_ADDRESS = "127.0.0.1:15010"

STORE_V2B = "bookstore-v2b"
BUYER_2 = "bookbuyer-2"

Shares = Mapping[str, int]


def _copy(of: str, name: str, number: int) -> Member:
    [member] = [member for member in MEMBERS if member.name == of]
    return replace(member, proxy=ProxyId(member.proxy.namespace, name), number=number)


LATECOMERS = (_copy(STORE_V2, STORE_V2B, 16), _copy(BUYER, BUYER_2, 17))
"""Those who are not in the story from the beginning."""

_ALL = {member.name: member for member in (*MEMBERS, *LATECOMERS)}
_SAME_POD = {STORE_V2B: STORE_V2, BUYER_2: BUYER}

# Requests a second: two thirds of what two cores do beside an API server.
_RATES = {BUYER: 500.0, THIEF: 100.0, BUYER_2: 100.0}
# Enough to tell one step of the story from the next.
_ENOUGH_TO_SEE = {BUYER: 100, THIEF: 20}
_TIME_TO_COUNT = 30.0
_TIME_TO_SHOW = 40.0


def pod_address(name: str) -> str:
    """Where the pod of a member is."""
    return f"{POD_PREFIX}.{_ALL[name].number}"


def _app_address(name: str) -> str:
    return f"{APP_PREFIX}.{_ALL[name].number}"


def _documents() -> list[dict[str, Any]]:
    """The story's own files, as it begins, without what TrafficSplit says."""
    folder = Path(story.__file__).parent / "story"
    texts = [path.read_text() for path in sorted(folder.glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def objects() -> str:
    """All objects of the story but its pods, as JSON for kubectl; the split is 90/10."""
    order = ["Namespace", "ServiceAccount", "Service"]
    found = [document for document in _documents() if document["kind"] != "Pod"]
    found.sort(key=lambda it: order.index(it["kind"]) if it["kind"] in order else len(order))
    for it in found:
        if it["kind"] == "TrafficSplit":
            it["spec"]["backends"] = weights(90, 10)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": found})


def weights(v1: int, v2: int) -> list[dict[str, object]]:
    """The backends of the story's TrafficSplit."""
    return [{"service": STORE_V1, "weight": v1}, {"service": STORE_V2, "weight": v2}]


def patch_weights(kube: Kube, v1: int, v2: int) -> None:
    """Change the split as a user does."""
    kube.kubectl(
        "patch", "trafficsplit", "bookstore", "--namespace=bookstore", "--type=merge",
        f"--patch={json.dumps({'spec': {'backends': weights(v1, v2)}})}",
    )  # fmt: skip


def thief_target() -> str:
    """The TrafficTarget that lets the thief in, as it stands commented out in the story."""
    [step] = [step for step in story.STEPS if step.name == "the thief is allowed"]
    found = [
        document
        for document in yaml.safe_load_all(step.edit(story.packaged(step.file)))
        if document["kind"] == "TrafficTarget" and document["metadata"]["name"] == "thief"
    ]
    return json.dumps(found[0])


def make_pod(kube: Kube, name: str, *, ready: bool = True) -> None:
    """Apply the pod of a member, and give it its address."""
    as_written = _SAME_POD.get(name, name)
    [pod] = [
        it for it in _documents() if it["kind"] == "Pod" and it["metadata"]["name"] == as_written
    ]
    member = _ALL[name]
    kube.make_pod(
        name,
        namespace=member.proxy.namespace,
        service_account=pod["spec"]["serviceAccountName"],
        labels=pod["metadata"]["labels"],
        annotations={"smi-xds.io/app-address": _app_address(name)},
        ports={"http": PORT} if member.serves else {},
    )
    mark_ready(kube, name, ready=ready)


def mark_ready(kube: Kube, name: str, *, ready: bool) -> None:
    """Say what a readiness probe would."""
    namespace = _ALL[name].proxy.namespace
    kube.mark_ready(name, pod_address(name), namespace=namespace, ready=ready)


def _workload(name: str) -> Workload:
    """As much of it as a bootstrap says."""
    proxy = _ALL[name].proxy
    account = ServiceAccountRef(proxy.namespace, proxy.namespace)
    return Workload(
        proxy=proxy,
        identity=SpiffeId.of("cluster.local", account),
        address=pod_address(name),
        app_address=_app_address(name),
        sidecar=SidecarMode.BOUND,
        access=AccessMode.STRICT,
        mtls=Mode.STRICT,
    )


@asynccontextmanager
async def envoy_of(name: str, folder: Path) -> AsyncIterator[Sidecar]:
    """Run the Envoy of a member; its files are in the folder."""
    workload = _workload(name)
    host, _, port = XDS_ADDRESS.rpartition(":")
    file = folder / f"{name}.json"
    message = bootstrap(workload, server_host=host, server_port=int(port))
    file.write_text(json.dumps(to_json(message)))
    async with running_sidecar(
        name=name,
        binary=envoy_binary(),
        bootstrap=file,
        admin_host=admin_address(workload),
        logs=folder,
        access_log=Path(os.devnull),
    ) as (sidecar, _):
        yield sidecar


@dataclass(slots=True)
class Bookstore:
    """The story while it runs."""

    kube: Kube
    plane: ControlPlane
    fleet: Fleet
    folder: Path
    stack: AsyncExitStack
    callers: tuple[str, ...] = ()
    """Who calls all the time."""
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    _stops: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def start_sidecar(self, name: str) -> Sidecar:
        """Start the Envoy of a member; it is not awaited."""
        stop = await self.stack.enter_async_context(AsyncExitStack())
        sidecar = await stop.enter_async_context(envoy_of(name, self.folder))
        self.sidecars[name], self._stops[name] = sidecar, stop
        return sidecar

    async def start_sidecars(self, names: Collection[str]) -> None:
        """Start several, and wait until they are ready."""
        for sidecar in [await self.start_sidecar(name) for name in names]:
            await sidecar.wait_until_ready()

    async def stop_sidecar(self, name: str) -> None:
        """End the Envoy of a member."""
        del self.sidecars[name]
        await self._stops.pop(name).aclose()

    async def change(
        self,
        what: str,
        act: Callable[[], object],
        *,
        shares: Shares,
        thief: str = "403",
        enough: int = 200,
    ) -> None:
        """Do something (that may block) while all call, and see that it shows, as `watched`."""
        async with self.watched(what, shares=shares, thief=thief, enough=enough):
            await asyncio.to_thread(act)

    @asynccontextmanager
    async def watched(
        self, what: str, *, shares: Shares, thief: str = "403", enough: int = 200
    ) -> AsyncIterator[None]:
        """Let all call, from before the block until its effect has been seen and counted.

        The effect: traffic is spread within 5 standard deviations of the shares, and the thief
        sees that code only. AssertionError says what failed, at any time: a request (5xx, 403 of
        anyone but the thief, a lost connection), or a connection that was not kept.
        `enough` requests are judged after it was seen.
        """
        step = Step(
            name=what,
            change=what,
            file="",
            edit=lambda text: text,
            shares=dict.fromkeys((BUYER, BUYER_2), shares),
            thief=thief,
        )
        parts = [await self._turn()]
        yield
        missing: list[str] = []
        try:
            async with asyncio.timeout(_TIME_TO_SHOW):
                while True:
                    parts.append(await self.epoch(_ENOUGH_TO_SEE))
                    if not (missing := failures(_result(step, parts[-1]))):
                        break
        except TimeoutError:
            raise AssertionError(f"{what} is not seen: {missing}") from None
        measured = await self.epoch({BUYER: enough})
        # With messages: in a network namespace nobody rewrites assertions.
        failed = failures(_result(step, measured, during=Counted.sum(parts)))
        assert not failed, failed
        opened = Counted.sum([*parts, measured]).opened
        anew = {name: opened[name] for name in self.callers if opened[name]}
        assert not anew, f"{what}: connections were not kept: {anew}"

    async def updates(self) -> dict[str, int]:
        """How many updates each Envoy has taken so far."""
        found = {}
        for name, sidecar in self.sidecars.items():
            stats = json.loads(await sidecar._get("/stats?format=json&filter=update_success$"))
            found[name] = sum(stat["value"] for stat in stats["stats"])
        return found

    async def state(self, name: str) -> str:
        """The state of an Envoy, in its own words."""
        info = json.loads(await self.sidecars[name]._get("/server_info"))
        return str(info["state"])

    async def begin(self, *callers: str) -> None:
        """Let these call too, from now on, on connections that are kept."""
        self.callers += callers
        await self._turn()
        await self.epoch(dict.fromkeys(callers, 50))

    async def epoch(self, enough: Mapping[str, int]) -> Counted:
        """Wait until so many requests have been made since the last turn; what became of them."""

        def counted() -> bool:
            tally = self.fleet.now().tally
            return all(tally.requests(name) >= number for name, number in enough.items())

        await eventually_async(counted, deadline=_TIME_TO_COUNT, what=f"{enough} requests")
        return await self._turn()

    async def _turn(self) -> Counted:
        """Begin an epoch; what was counted in the one that ends."""
        return await self.fleet.turn({name: _RATES[name] for name in self.callers})


def _result(step: Step, measured: Counted, *, during: Counted | None = None) -> StepResult:
    """In the words of the demo's report, which judges it."""
    return StepResult(
        step=step, converged_ms=0, retries=0, during=during or Counted(), measured=measured
    )


def plane_arguments(kubeconfig: Path, *, xds_address: str, state: Path) -> tuple[object, ...]:
    """How `smi-xds serve` is called here."""
    return (
        *("--kubernetes", "--kubeconfig", kubeconfig),
        *("--xds-address", xds_address, "--state-folder", state),
    )


@asynccontextmanager
async def bookstore(
    kube: Kube,
    folder: Path,
    *,
    kubeconfig: Path | None = None,
    xds_address: str = XDS_ADDRESS,
) -> AsyncIterator[Bookstore]:
    """Apply the story, and start everyone but the latecomers; all call already.

    The applications of the latecomers listen from the start; what they lack is a pod and a sidecar.
    The control plane may take another way to the API server, and its sidecars one to it.
    """
    arguments = plane_arguments(
        kubeconfig or kube.kubeconfig, xds_address=xds_address, state=folder / "state"
    )
    specs = [
        replace(member.spec(APP_PREFIX), address=_app_address(name), sidecar=pod_address(name))
        for name, member in _ALL.items()
    ]
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        applied = tasks.create_task(apply_story(kube))
        plane = await stack.enter_async_context(control_plane(*arguments, folder=folder))
        await plane.start()
        fleet = await stack.enter_async_context(running_fleet(specs, tasks=tasks))
        await applied
        running = Bookstore(kube=kube, plane=plane, fleet=fleet, folder=folder, stack=stack)
        await running.start_sidecars([member.name for member in MEMBERS])
        await running.begin(BUYER, THIEF)
        yield running


async def apply_story(kube: Kube) -> None:
    """Apply all objects of the story, and make its pods ready."""
    await asyncio.to_thread(kube.apply, objects())
    async with asyncio.TaskGroup() as tasks:
        for member in MEMBERS:
            tasks.create_task(asyncio.to_thread(make_pod, kube, member.name))
