"""A shop for writers: an API server with all our CRDs and webhooks, our server, real Envoys.

One client calls one service all the time, through its sidecar, on connections that are kept, and
counts who answers and what fails. In a network namespace, where ports can be fixed.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import sqrt
from pathlib import Path

from smi_xds.demo.apps import Call, Spec
from smi_xds.demo.envoy import Sidecar, envoy_binary, running_sidecar
from smi_xds.demo.fleet import Counted, Fleet, running_fleet
from smi_xds.demo.tally import Tally
from smi_xds.mesh.model import Sidecar as SidecarMode
from smi_xds.mesh.model import Workload
from smi_xds.values import AccessMode, Mode, ProxyId, ServiceAccountRef, SpiffeId
from smi_xds.xds.bootstrap import admin_address
from smi_xds.xds.bootstrap import sidecar as bootstrap
from smi_xds.xds.dump import to_json
from tests.kube.api import KubectlError
from tests.kube.cluster import KubeCluster
from tests.kube.installed import as_list, install, webhooks_answer
from tests.support.plane import ControlPlane, control_plane
from tests.support.wait import eventually, eventually_async

NAMESPACE = "shop"
PORT = 8080
CLIENT = "client"

_XDS_ADDRESS = "127.0.0.1:15010"
_WEBHOOK_ADDRESS = "127.0.0.1:15017"  # where the manifests lead
_CONNECTIONS = 8
# Requests a second: what two cores do with time to spare, beside an API server.
_RATE = 600.0
# A change has been seen when so many requests are spread as they should be, within 2 standard
# deviations: the next step of a rollout, 20 percent points away, is 6 of them.
_TO_SEE, _SEEN = 200, 2.0
# Then so many are judged, once. 5 standard deviations are off by chance once in 1.7 million.
_TO_JUDGE, _ALLOWED = 400, 5.0
_TIME_TO_SHOW = 60.0
# Seconds after a change in which a writer may begin: no status is written within two of them
# (docs/writers.md), and what it does takes its time.
_QUIET = 1.5

Shares = Mapping[str, int]
"""By pod; they are relative."""


@dataclass(slots=True)
class Shop:
    """The shop while it is open."""

    kube: KubeCluster
    plane: ControlPlane
    fleet: Fleet
    pods: Mapping[str, int]
    """The last numbers of their addresses."""
    access_log: Path
    """Of the client's sidecar."""
    seen: list[Counted] = field(default_factory=list)
    ready_pods: set[str] = field(default_factory=set)
    wrote: float = 0.0
    """When a writer wrote last."""

    async def shows(self, what: str, shares: Shares) -> None:
        """See that requests are spread so; AssertionError where they are not, or some fail."""
        off = "nothing was called"
        try:
            async with asyncio.timeout(_TIME_TO_SHOW):
                while off:
                    off = _off(await self._epoch(_TO_SEE), shares, deviations=_SEEN)
        except TimeoutError:
            raise AssertionError(f"{what} is not seen: {off}") from None
        off = _off(await self._epoch(_TO_JUDGE), shares, deviations=_ALLOWED)
        # With messages: in a network namespace nobody rewrites assertions.
        assert not off, f"{what}: {off}"
        self._nothing_failed(what)

    async def write(self, split: str, act: Callable[[], object]) -> None:
        """Let a writer do something that a status in between would undo.

        At once, where it is soon after the last time: then nobody writes a status. Else after the
        status has been written, for as long as a test takes.
        """
        now = asyncio.get_running_loop().time
        if now() > self.wrote + _QUIET:
            await eventually_async(partial(self.is_told, split), deadline=_TIME_TO_SHOW)
        await asyncio.to_thread(act)
        self.wrote = now()

    async def is_told(self, split: str) -> bool:
        """Whether the conditions of a TrafficSplit, if there is one, are of its generation."""
        text = await self.kubectl("get", "ts", split, "-o", "json", "--ignore-not-found")
        if not text:
            return True
        found = json.loads(text)
        conditions = {it["type"]: it for it in found.get("status", {}).get("conditions", ())}
        assert "Programmed" in conditions, conditions
        assert conditions["Programmed"]["status"] == "True", conditions
        generations = {it["observedGeneration"] for it in conditions.values()}
        assert generations == {found["metadata"]["generation"]}, conditions
        return True

    async def ready(self, pod: str, *, ready: bool = True) -> None:
        """Say what a readiness probe would; a pod of a Deployment with no replicas is not ready."""
        await asyncio.to_thread(
            self.kube.mark_ready, pod, self.address(pod), namespace=NAMESPACE, ready=ready
        )
        (self.ready_pods.add if ready else self.ready_pods.discard)(pod)

    def address(self, pod: str) -> str:
        """Where its sidecar listens."""
        return _address(self.pods[pod])

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """As an administrator, in the shop."""
        command = (*arguments, f"--namespace={NAMESPACE}")
        return await asyncio.to_thread(self.kube.kubectl, *command, stdin=stdin)

    def _nothing_failed(self, what: str) -> None:
        for counted in self.seen:
            for tally in (counted.tally, counted.strays):
                codes = {code: n for code, n in tally.codes(CLIENT).items() if code != "200"}
                assert not codes, (
                    f"{what}: {codes} of {tally.requests(CLIENT)} requests{self._failures()}"
                )
        opened = sum(counted.opened[CLIENT] for counted in self.seen)
        assert not opened, f"{what}: {opened} connections were not kept"

    def _failures(self) -> str:
        """What the client's sidecar wrote down about the last requests that failed."""
        lines = self.access_log.read_text().splitlines()
        failed = [line for line in lines if json.loads(line).get("status") != 200]
        return "".join(f"\n  {line}" for line in failed[-5:])

    async def _epoch(self, enough: int) -> Tally:
        """So many requests, made from now on."""
        self.seen.append(await self._turn())

        def counted() -> bool:
            return self.fleet.now().tally.requests(CLIENT) >= enough

        await eventually_async(counted, deadline=_TIME_TO_SHOW, what=f"{enough} requests")
        measured = await self._turn()
        self.seen.append(measured)
        return measured.tally

    async def _turn(self) -> Counted:
        return await self.fleet.turn({CLIENT: _RATE})

    async def begin(self) -> None:
        """Let the client call from now on."""
        await self._epoch(50)
        self.seen.clear()


def _off(tally: Tally, shares: Shares, *, deviations: float) -> str:
    """Which pod got too much or too little; nothing where all is right."""
    backends, total = tally.backends(CLIENT), tally.requests(CLIENT)
    for pod in {*shares, *backends}:
        share = shares.get(pod, 0) / sum(shares.values())
        allowed = deviations * sqrt(total * share * (1 - share))
        if abs(backends[pod] - total * share) > allowed:
            return f"{pod} got {backends[pod]} of {total} requests, not {share:.0%}"
    return ""


def _address(number: int) -> str:
    return f"10.244.0.{number}"


def _app_address(number: int) -> str:
    return f"127.64.0.{number}"  # loopback, which only an annotation may say


@asynccontextmanager
async def shop(
    binary: Path,
    folder: Path,
    *,
    root: str,
    services: Mapping[str, Mapping[str, str]],
    pods: Mapping[str, Mapping[str, str]],
) -> AsyncIterator[Shop]:
    """Open it: the client calls `root`; services are given by their selectors, pods by labels.

    Pods are not ready before it is said.
    """
    numbers = {name: 11 + place for place, name in enumerate((CLIENT, *pods))}
    specs = [_spec(name, number, root) for name, number in numbers.items()]
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        kube = stack.enter_context(KubeCluster(binary=binary))
        account = await asyncio.to_thread(install, kube, folder)
        arguments = (
            *("--kubernetes", "--kubeconfig", account, "--state-folder", folder / "state"),
            *("--xds-address", _XDS_ADDRESS, "--webhook-address", _WEBHOOK_ADDRESS, "--write-back"),
        )
        plane = await stack.enter_async_context(control_plane(*arguments, folder=folder))
        await plane.start()
        await asyncio.to_thread(_furnish, kube, services)
        async with asyncio.TaskGroup() as makers:
            for name, labels in {CLIENT: {"app": CLIENT}, **pods}.items():
                makers.create_task(asyncio.to_thread(_make_pod, kube, name, numbers[name], labels))
        fleet = await stack.enter_async_context(running_fleet(specs, tasks=tasks))
        sidecars = [
            await stack.enter_async_context(_envoy(name, number, folder))
            for name, number in numbers.items()
        ]
        for sidecar in sidecars:
            await sidecar.wait_until_ready()
        log = sidecars[0].access_log
        yield Shop(kube=kube, plane=plane, fleet=fleet, pods=numbers, access_log=log)


def _spec(name: str, number: int, root: str) -> Spec:
    is_client = name == CLIENT
    call = Call(service=root, host=f"{root}.{NAMESPACE}", method="GET", path="/")
    return Spec(
        name=name,
        address=_app_address(number),
        sidecar=_address(number),
        port=0 if is_client else PORT,
        call=call if is_client else None,
        connections=_CONNECTIONS if is_client else 0,
    )


def _furnish(kube: KubeCluster, services: Mapping[str, Mapping[str, str]]) -> None:
    """Everything but pods and splits; the client may call."""
    eventually(
        lambda: webhooks_answer(kube), deadline=60, retry_on=(KubectlError,), what="webhooks"
    )
    kube.make_namespace(NAMESPACE)
    kube.kubectl(
        "annotate", "namespace", NAMESPACE, "smi-xds.io/sidecar=bound", "smi-xds.io/access=strict"
    )
    accounts = [_object("v1", "ServiceAccount", name) for name in (CLIENT, "server")]
    ports = [{"name": "http", "port": PORT, "targetPort": PORT}]
    target = {
        "destination": {"kind": "ServiceAccount", "name": "server"},
        "sources": [{"kind": "ServiceAccount", "name": CLIENT}],
        "rules": [{"kind": "TCPRoute", "name": "all"}],
    }
    found = [
        *accounts,
        *(
            _object("v1", "Service", name, spec={"selector": selector, "ports": ports})
            for name, selector in services.items()
        ),
        _object("specs.smi-spec.io/v1alpha3", "TCPRoute", "all", spec={}),
        _object("access.smi-spec.io/v1alpha3", "TrafficTarget", "server", spec=target),
    ]
    kube.kubectl("apply", "-f", "-", stdin=as_list(found))


def _object(api_version: str, kind: str, name: str, **rest: object) -> dict[str, object]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def _make_pod(kube: KubeCluster, name: str, number: int, labels: Mapping[str, str]) -> None:
    kube.make_pod(
        name,
        namespace=NAMESPACE,
        service_account=CLIENT if name == CLIENT else "server",
        labels=labels,
        annotations={"smi-xds.io/app-address": _app_address(number)},
        ports={} if name == CLIENT else {"http": PORT},
    )
    kube.mark_ready(name, _address(number), namespace=NAMESPACE, ready=name == CLIENT)


@asynccontextmanager
async def _envoy(name: str, number: int, folder: Path) -> AsyncIterator[Sidecar]:
    account = CLIENT if name == CLIENT else "server"
    workload = Workload(
        proxy=ProxyId(NAMESPACE, name),
        identity=SpiffeId.of("cluster.local", ServiceAccountRef(NAMESPACE, account)),
        address=_address(number),
        app_address=_app_address(number),
        sidecar=SidecarMode.BOUND,
        access=AccessMode.STRICT,
        mtls=Mode.STRICT,
    )
    host, _, port = _XDS_ADDRESS.rpartition(":")
    file = folder / f"{name}.json"
    file.write_text(
        json.dumps(to_json(bootstrap(workload, server_host=host, server_port=int(port))))
    )
    async with running_sidecar(
        name=name,
        binary=envoy_binary(),
        bootstrap=file,
        admin_host=admin_address(workload),
        logs=folder,
        access_log=None if name == CLIENT else Path(os.devnull),
    ) as (sidecar, _):
        yield sidecar
