"""The source of Kubernetes with a real API server: kubectl on one side, the store on the other."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from smi_xds.config import KubernetesConfig
from smi_xds.problems import ProblemCode
from smi_xds.sources.kube_connection import Connection
from smi_xds.sources.kube_kinds import KINDS
from smi_xds.sources.kube_watch import RefusedError
from smi_xds.sources.kubernetes import KubernetesSource
from smi_xds.values import ProxyId, ServiceAccountRef, ServiceRef
from tests.kube.api import Kube
from tests.kube.cluster import KubeCluster
from tests.kube.plugin import CRDS
from tests.sources.recorder import Recorder, running
from tests.support.wait import eventually_async

SPLIT = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: canary}
spec:
  service: web
  backends: [{service: web-v1, weight: 90}, {service: web-v2, weight: 10}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
"""
ACCESS = """
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: all}
spec:
  destination: {kind: ServiceAccount, name: web}
  rules: [{kind: TCPRoute, name: ports}, {kind: HTTPRouteGroup, name: routes, matches: [all]}]
  sources: [{kind: ServiceAccount, name: client}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: ports}
spec: {matches: {ports: [8080]}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: UDPRoute
metadata: {name: datagrams}
spec: {matches: {ports: [53]}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: routes}
spec: {matches: [{name: all, pathRegex: /, methods: ["*"], headers: [{x-a: b}]}]}
"""


def source(kube: Kube, *, user: str = "", namespaces: tuple[str, ...] = ()) -> KubernetesSource:
    path = user or str(kube.kubeconfig)
    return KubernetesSource(KubernetesConfig(kubeconfig=path, namespaces=namespaces))


def weights(sink: Recorder, namespace: str) -> list[int]:
    splits = sink.objects.splits.get(ServiceRef(namespace, "web"), ())
    return [int(backend.weight or 0) for split in splits for backend in split.backends]


def patch_weights(kube: Kube, namespace: str, first: int, second: int) -> None:
    backends = [{"service": "web-v1", "weight": first}, {"service": "web-v2", "weight": second}]
    kube.kubectl(
        "patch",
        "trafficsplit",
        "canary",
        f"--namespace={namespace}",
        "--type=merge",
        f"--patch={json.dumps({'spec': {'backends': backends}})}",
    )


async def test_objects_applied_with_kubectl(kube: Kube, namespace: str) -> None:
    """Services, pods, the endpoints that follow from them, and SMI objects reach the store."""
    async with running(source(kube)) as sink:
        await eventually_async(sink.is_synced)
        await asyncio.to_thread(kube.apply, SERVICE, SPLIT, ACCESS, namespace=namespace)
        await asyncio.to_thread(
            kube.make_pod,
            "web-1",
            namespace=namespace,
            labels={"app": "web"},
            ports={"http": 8080},
            ip="10.244.1.1",
        )

        web, proxy = ServiceRef(namespace, "web"), ProxyId(namespace, "web-1")
        await eventually_async(lambda: sink.objects.services[web].pods, retry_on=(KeyError,))
        (slice_,) = sink.objects.services[web].slices
        await eventually_async(lambda: sink.objects.pods[proxy].pod.ready)
        assert slice_.ports[0].port == 8080
        assert sink.objects.services[web].service.cluster_ips
        assert sink.objects.pods[proxy].services == (web,)
        assert sink.objects.pods[proxy].pod.ips == ("10.244.1.1",)
        assert ServiceAccountRef(namespace, "default") in sink.objects.accounts
        assert namespace in sink.objects.namespaces

        await eventually_async(lambda: weights(sink, namespace) == [90, 10])
        (target,) = sink.objects.targets[ServiceAccountRef(namespace, "web")]
        assert [rule.kind for rule in target.rules or ()] == ["TCPRoute", "HTTPRouteGroup"]
        mine = [ref.name for ref in sink.objects.http_routes if ref.namespace == namespace]
        assert mine == ["routes"]

        await asyncio.to_thread(patch_weights, kube, namespace, 50, 50)
        await eventually_async(lambda: weights(sink, namespace) == [50, 50])
        await asyncio.to_thread(
            kube.kubectl, "delete", "trafficsplit", "canary", f"--namespace={namespace}"
        )
        await eventually_async(lambda: weights(sink, namespace) == [])

    assert sink.codes == []


async def test_one_namespace_of_many(kube: Kube, namespace: str) -> None:
    """A service account that may read one namespace only is enough to watch that one."""
    verbs = ["list", "watch"]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": verbs}],
    }
    cluster_role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"reader-{namespace}"},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["namespaces"],
                "resourceNames": [namespace],
                "verbs": verbs,
            }
        ],
    }
    user = await asyncio.to_thread(kube.kubeconfig_for, "reader", namespace=namespace)
    own = _binding("Role", "reader", namespace)
    shared = _binding("ClusterRole", f"reader-{namespace}", namespace)
    await asyncio.to_thread(kube.apply, role, own, namespace=namespace)
    try:
        await asyncio.to_thread(kube.apply, cluster_role, shared)
        chosen = source(kube, user=str(user), namespaces=(namespace,))
        async with running(chosen) as sink:
            await eventually_async(lambda: sink.is_synced() and not sink.codes)
    finally:
        for kind in ("clusterrole", "clusterrolebinding"):
            await asyncio.to_thread(
                kube.kubectl, "delete", kind, f"reader-{namespace}", "--ignore-not-found"
            )

    assert list(sink.objects.namespaces) == [namespace]
    assert sink.accounts == {"default", "reader"}


def _binding(kind: str, role: str, namespace: str) -> Mapping[str, object]:
    metadata = {"name": role} | ({"namespace": namespace} if kind == "Role" else {})
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": namespace}],
    }


async def test_an_account_without_rights(kube: Kube, namespace: str) -> None:
    """Every kind that may not be read is a problem that names it, and nothing counts as synced."""
    user = await asyncio.to_thread(kube.kubeconfig_for, "nobody", namespace=namespace)
    async with running(source(kube, user=str(user))) as sink:
        await eventually_async(lambda: len(sink.codes) == len(KINDS))
        assert not sink.is_synced()

    assert set(sink.codes) == {ProblemCode.SOURCE_FORBIDDEN}
    messages = [problem.message for problem in sink.objects.problems]
    assert any(
        message.startswith("may not list and watch trafficsplits.split.smi-spec.io in all namespa")
        and f"system:serviceaccount:{namespace}:nobody" in message
        for message in messages
    )


async def test_credentials_that_are_refused(
    kube: Kube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often all watches are refused at once: when the kubeconfig is mended, they go on."""
    renewed: list[str] = []
    renew = Connection.renew

    async def counted(self: Connection) -> None:
        await renew(self)
        renewed.append(self.server)

    monkeypatch.setattr(Connection, "renew", counted)
    good = kube.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    bad = json.loads(good)
    bad["users"][0]["user"] = {"token": "stolen"}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(bad))
    async with running(source(kube, user=str(path))) as sink:
        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
        await eventually_async(lambda: len(renewed) > 5)
        assert not sink.is_synced()

        path.write_text(good)
        await eventually_async(sink.is_synced)
        assert sink.codes == []


async def test_an_outage(own_kube: KubeCluster, namespace: str) -> None:
    """The API server stopped and started: everything stays, then the watches go on."""
    await asyncio.to_thread(own_kube.apply, SPLIT, namespace=namespace)
    async with running(source(own_kube)) as sink:
        await eventually_async(lambda: weights(sink, namespace) == [90, 10])

        await asyncio.to_thread(own_kube.stop_apiserver)
        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
        assert weights(sink, namespace) == [90, 10]

        await asyncio.to_thread(own_kube.start_apiserver)
        await eventually_async(lambda: sink.codes == [], deadline=30)
        await asyncio.to_thread(patch_weights, own_kube, namespace, 0, 100)
        await eventually_async(lambda: weights(sink, namespace) == [0, 100])
        assert sink.codes == []


async def test_an_api_server_that_starts_later(own_kube: KubeCluster, namespace: str) -> None:
    """Away at the start, it is waited for; nothing counts as synced before."""
    await asyncio.to_thread(own_kube.apply, SPLIT, namespace=namespace)
    await asyncio.to_thread(own_kube.stop_apiserver)
    async with running(source(own_kube)) as sink:
        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
        assert not sink.is_synced()

        await asyncio.to_thread(own_kube.start_apiserver)
        await eventually_async(sink.is_synced, deadline=30)

    assert weights(sink, namespace) == [90, 10]


@pytest.mark.timeout(120)
async def test_missing_crds(kube_without_crds: KubeCluster) -> None:
    """Without CRDs each is a problem and all else goes on; applied, their objects are read."""
    kube = kube_without_crds
    async with running(source(kube)) as sink:
        await eventually_async(sink.is_synced)
        assert sink.codes == [ProblemCode.MISSING_CRD] * 6
        assert ServiceAccountRef("default", "default") in sink.objects.accounts

        await asyncio.to_thread(kube.apply_crds, CRDS)
        await asyncio.to_thread(kube.apply, SPLIT)
        await eventually_async(lambda: weights(sink, "default") == [90, 10])
        await eventually_async(lambda: sink.codes == [])

        await asyncio.to_thread(kube.kubectl, "delete", "trafficsplit", "canary")
        await eventually_async(lambda: weights(sink, "default") == [])


async def test_changes_are_asked_for(kube: Kube, namespace: str) -> None:
    """POST, PATCH and DELETE on one connection; what is refused says what the API server said."""
    connection = Connection(KubernetesConfig(kubeconfig=str(kube.kubeconfig)))
    await connection.open()
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    try:
        made = await connection.send("POST", path, b'{"metadata": {"name": "a"}}')
        assert json.loads(made)["metadata"]["name"] == "a"
        with pytest.raises(RefusedError, match="already exists") as refused:
            await connection.send("POST", path, b'{"metadata": {"name": "a"}}')
        assert refused.value.status == 409
        merge = "application/merge-patch+json"
        await connection.send("PATCH", f"{path}/a", b'{"data": {"k": "v"}}', content_type=merge)
        assert json.loads(await connection.read(f"{path}/a"))["data"] == {"k": "v"}
        await connection.send("DELETE", f"{path}/a")
        with pytest.raises(RefusedError):
            await connection.read(f"{path}/a")
    finally:
        await connection.close()
