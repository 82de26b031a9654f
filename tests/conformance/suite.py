"""What the official suites run on: a real API server, our server beside it, and real Envoys.

The pods of a suite are made by its Deployments; what a node would do for them (an address,
readiness, running what is in them) is done here. The suite itself calls from within the mesh, as
`harness`, with a right of its own.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smi_xds.demo import http1
from smi_xds.demo.envoy import Sidecar, envoy_binary, running_sidecar
from smi_xds.mesh.model import Sidecar as SidecarMode
from smi_xds.mesh.model import Workload
from smi_xds.values import AccessMode, Mode, ProxyId, ServiceAccountRef, SpiffeId
from smi_xds.xds.bootstrap import admin_address, sidecar
from smi_xds.xds.dump import to_json
from tests.conformance.application import PORT, Application, Metrics, request, serving
from tests.kube.cluster import KubeCluster
from tests.kube.plugin import CRDS
from tests.support.plane import control_plane
from tests.support.wait import eventually_async

XDS_ADDRESS = "127.0.0.1:15010"
HARNESS = "harness"
APPS = ("app-a", "app-b", "app-c")

# The suite allows 5 s; a busy machine gets more time, and what it takes is told.
_TIME_TO_SHOW = 25.0

Check = Callable[[], Awaitable[str]]
"""Does what a step does; what is wrong, or nothing."""


@dataclass(slots=True)
class Suite:
    """One suite in a namespace of its own."""

    kube: KubeCluster
    namespace: str
    folder: Path
    stack: AsyncExitStack
    apps: dict[str, Application] = field(default_factory=dict)
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def address(self, name: str) -> str:
        """Where a pod is: the numbers are those of the applications."""
        return f"10.244.0.{(*APPS, HARNESS).index(name) + 11}"

    def url(self, name: str, path: str, *, dot: str = "") -> str:
        """A page of a service, by its full name."""
        return f"http://{name}.{self.namespace}.svc.cluster.local{dot}:{PORT}{path}"

    # ------------------------------------------------------------ objects

    async def apply(self, *objects: Mapping[str, object]) -> None:
        """Apply objects, into the namespace of the suite."""
        items = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        await asyncio.to_thread(self.kube.apply, json.dumps(items), namespace=self.namespace)

    async def delete(self, *names: str) -> None:
        """Delete objects, each as `KIND/NAME`."""
        await asyncio.to_thread(
            self.kube.kubectl, "delete", *names, f"--namespace={self.namespace}", "--wait"
        )

    async def get(self, *arguments: str) -> Any:
        """What the API server has."""
        return await asyncio.to_thread(self.kube.get, *arguments, f"--namespace={self.namespace}")

    async def check_crd(self, step: str, plural: str, *, kind: str, short: str) -> None:
        """The step 01 of each suite: the API is there, under its names."""
        crd = await asyncio.to_thread(self.kube.get, "crd", plural)
        names = crd["spec"]["names"]
        found = (crd["spec"]["group"], names["kind"], names["shortNames"])
        self.expect(step, found == (plural.partition(".")[2], kind, [short]), found)

    async def check_applied(self, step: str, *objects: Mapping[str, Any]) -> None:
        """What was applied is what the API server gives back."""
        names = [f"{it['kind']}.{it['apiVersion'].partition('/')[0]}" for it in objects]
        found = [
            (await self.get(name, it["metadata"]["name"]))["spec"]
            for name, it in zip(names, objects, strict=True)
        ]
        self.expect(step, found == [it["spec"] for it in objects], found)

    # ------------------------------------------------------------ installing

    async def install(
        self, step: str, *, accounts: Mapping[str, str], services: Mapping[str, str]
    ) -> None:
        """The step 02 of each suite: accounts, Deployments that get ready, Services.

        `accounts` are those of the applications, by name (empty: the default one); `services` are
        the values of the label `app` that they select, by name.
        """
        names = (*APPS, HARNESS)
        objects = [_account(it) for it in (*dict.fromkeys(accounts.values()), HARNESS) if it]
        objects += [self._deployment(name, accounts.get(name, HARNESS)) for name in names]
        objects += [_service(name, label) for name, label in services.items()]
        await self.apply(*objects)
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                account = accounts.get(name, HARNESS) or "default"
                tasks.create_task(self._run_pod(name, account))
        for it in self.sidecars.values():
            await it.wait_until_ready()
        await asyncio.to_thread(
            self.kube.kubectl, "wait", "--for=condition=Available", "deployment", "--all",
            f"--namespace={self.namespace}", "--timeout=30s",
        )  # fmt: skip
        found = {it["metadata"]["name"] for it in (await self.get("services"))["items"]}
        self.expect(step, set(services) <= found, found)

    def _deployment(self, name: str, account: str) -> dict[str, object]:
        labels = {"name": name, "app": "app" if name in APPS[1:] else name}
        spec: dict[str, object] = {"containers": [{"name": "app", "image": "example.test/app"}]}
        if account:
            spec["serviceAccountName"] = account
        annotations = {"smi-xds.io/app-address": self._app_address(name)}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"{name}-deployment"},
            "spec": {
                "selector": {"matchLabels": {"name": name}},
                "template": {
                    "metadata": {"labels": labels, "annotations": annotations},
                    "spec": spec,
                },
            },
        }

    def _app_address(self, name: str) -> str:
        # The API server refuses loopback addresses but in annotations.
        return self.address(name).replace("10.244.0", "127.64.0")

    async def _run_pod(self, name: str, account: str) -> None:
        """Do what the node of a pod does."""
        selector = f"--selector=name={name}"

        async def made() -> str:
            items = (await self.get("pods", selector))["items"]
            return items[0]["metadata"]["name"] if items else ""

        pod = await eventually_async(made, deadline=30, what=f"the pod of {name}")
        self.apps[name] = Application(name=name, sidecar=self.address(name))
        await self.stack.enter_async_context(serving(self.apps[name], self._app_address(name)))
        await asyncio.to_thread(
            self.kube.mark_ready, pod, self.address(name), namespace=self.namespace
        )
        await self._start_sidecar(name, pod, account)

    async def _start_sidecar(self, name: str, pod: str, account: str) -> None:
        workload = Workload(
            proxy=ProxyId(self.namespace, pod),
            identity=SpiffeId.of("cluster.local", ServiceAccountRef(self.namespace, account)),
            address=self.address(name),
            app_address=self._app_address(name),
            sidecar=SidecarMode.BOUND,
            access=AccessMode.STRICT,
            mtls=Mode.STRICT,
        )
        host, _, port = XDS_ADDRESS.rpartition(":")
        path = self.folder / f"{name}.json"
        message = sidecar(workload, server_host=host, server_port=int(port))
        path.write_text(json.dumps(to_json(message)))
        self.sidecars[name], _ = await self.stack.enter_async_context(
            running_sidecar(
                name=name,
                binary=envoy_binary(),
                bootstrap=path,
                admin_host=admin_address(workload),
                logs=self.folder,
                access_log=Path(os.devnull),
            )
        )

    # ------------------------------------------------------------ traffic

    async def traffic(
        self, calls: Sequence[tuple[str, str]], *, client: str = "app-a"
    ) -> dict[str, Metrics]:
        """Forget what was counted, let the client call, and give what each application counted."""
        for name in APPS:
            await self._ask(name, "DELETE", "/metrics")
        for method, url in calls:
            wanted = json.dumps({"url": url, "method": method, "body": "", "headers": {}})
            await self._ask(client, "POST", "/call", body=wanted)
        return {name: await self._ask(name, "GET", "/metrics") for name in APPS}

    async def _ask(self, name: str, method: str, path: str, *, body: str = "") -> Any:
        """The harness asks an application, by its own sidecar and with its own right."""
        host = self.url(name, path)
        answer = await request(self.address(HARNESS), method, host, body=body)
        if answer.first_line[1] != "200":
            raise http1.HttpError(f"{method} {host}: {answer.first_line} {answer.body!r}")
        return json.loads(answer.body)

    async def shows(self, step: str, check: Check) -> None:
        """Wait until a step's traffic is as it must be; AssertionError says what it was last."""
        clock = asyncio.get_running_loop()
        began, wrong = clock.time(), "nothing was asked"
        while wrong and clock.time() < began + _TIME_TO_SHOW:
            try:
                wrong = await check()
            except http1.HttpError as error:
                wrong = str(error)
            await asyncio.sleep(0.05)
        self.expect(step, not wrong, wrong)
        self.told[-1] += f" ({clock.time() - began:.2f} s)"

    def expect(self, step: str, holds: object, found: object) -> None:
        """Judge one step."""
        assert holds, f"{step} failed: {found}"
        self.told.append(step)


@asynccontextmanager
async def suite(binary: Path, folder: Path, *, access: str) -> AsyncIterator[Suite]:
    """A namespace of its own in an API server of its own; access is strict there or permissive."""
    with KubeCluster(binary=binary) as kube:
        kube.apply_crds(CRDS)
        arguments = (
            *("--kubernetes", "--kubeconfig", kube.kubeconfig),
            *("--xds-address", XDS_ADDRESS, "--state-folder", folder / "state"),
        )
        async with AsyncExitStack() as stack:
            plane = await stack.enter_async_context(control_plane(*arguments, folder=folder))
            await plane.start()
            found = Suite(kube=kube, namespace="conformance", folder=folder, stack=stack)
            await asyncio.to_thread(_make_namespace, kube, found.namespace, access)
            yield found
            print(*found.told, sep="\n")  # noqa: T201 - which steps passed, and how fast


def _make_namespace(kube: KubeCluster, name: str, access: str) -> None:
    kube.make_namespace(name)
    annotations = ("smi-xds.io/sidecar=bound", f"smi-xds.io/access={access}")
    kube.kubectl("annotate", "namespace", name, *annotations)


def _account(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def _service(name: str, label: str) -> dict[str, object]:
    selector = {"app": label} if label == "app" else {"name": label}
    ports = [{"name": "http", "port": PORT, "targetPort": PORT}]
    spec = {"selector": selector, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


# ---------------------------------------------------------------- objects of the suites


def target(
    name: str, destination: str, source: str, *rules: Mapping[str, object]
) -> dict[str, Any]:
    """A TrafficTarget between service accounts of the suite's namespace."""
    return {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": name},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": destination},
            "rules": [*rules],
            "sources": [{"kind": "ServiceAccount", "name": source}],
        },
    }


def tcp_route(name: str) -> dict[str, Any]:
    """A TCPRoute without ports, which is all of them."""
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "TCPRoute",
        "metadata": {"name": name},
        "spec": {"matches": {"ports": []}},
    }


def rights_of_the_harness(accounts: Sequence[str]) -> list[dict[str, Any]]:
    """It may call every application: its TrafficTargets stand beside those that are tested."""
    rule = {"kind": "TCPRoute", "name": HARNESS}
    targets = [target(f"{HARNESS}-{it}", it, HARNESS, rule) for it in accounts]
    return [tcp_route(HARNESS), *targets]
