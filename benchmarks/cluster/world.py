"""The documents of a mesh as clusters have them: pods with all that kubelets and controllers write.

S services of P pods, all with intercepted sidecars; every tenth service has a TrafficTarget for
three callers, an HTTPRouteGroup and a TrafficSplit. Pods are 7 kB each, as those of a Deployment
with two containers are; what nobody reads has to be read over nevertheless.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = Mapping[str, Any]

NAMESPACES: Final = tuple(f"ns{number}" for number in range(10))
SHARE: Final = 10
"""One service in so many has SMI objects."""
NODES: Final = 100
_MADE: Final = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class World:
    """How large it is."""

    services: int
    pods_each: int

    @property
    def pods(self) -> int:
        """How many there are in all."""
        return self.services * self.pods_each


def names(index: int) -> tuple[str, str]:
    """The namespace and the name of a service."""
    return NAMESPACES[index % len(NAMESPACES)], f"service-{index}"


def pod_name(index: int, number: int) -> str:
    """As a ReplicaSet would call it."""
    return f"service-{index}-6d5f8c9b7d-{index * 31 % 1000:03}x{number}"


def pod_address(index: int, number: int) -> str:
    """Where it is."""
    return f"10.{128 + number}.{index >> 8}.{index & 255}"


def namespaces() -> Iterator[Document]:
    """The namespaces, with sidecars for all pods in them."""
    for name in NAMESPACES:
        annotations = {"smi-xds.io/sidecar": "intercepted"}
        yield _document("v1", "Namespace", {"name": name, "annotations": annotations})


def accounts(world: World) -> Iterator[Document]:
    """A service account for each service, and the default ones, which no controller makes."""
    for name in NAMESPACES:
        yield _document("v1", "ServiceAccount", {"namespace": name, "name": "default"})
    for index in range(world.services):
        yield _document("v1", "ServiceAccount", _metadata(index))


def services(world: World) -> Iterator[Document]:
    """A service with one HTTP port each."""
    for index in range(world.services):
        _, name = names(index)
        port = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
        spec = {"selector": {"app": name}, "ports": [port]}
        yield _document("v1", "Service", _metadata(index, labels={"app": name}), spec=spec)


def pods(world: World) -> Iterator[tuple[Document, Document]]:
    """Pods and what a kubelet says of their status."""
    for index in range(world.services):
        for number in range(world.pods_each):
            yield pod(index, number), status(index, number)


def pod(index: int, number: int) -> Document:
    """One pod of a Deployment."""
    namespace, name = names(index)
    labels = {
        "app": name,
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/part-of": "shop",
        "app.kubernetes.io/version": "1.42.0",
        "pod-template-hash": "6d5f8c9b7d",
    }
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{name}-6d5f8c9b7d",
        "uid": f"00000000-0000-4000-8000-{index:012}",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "namespace": namespace,
        "name": pod_name(index, number),
        "labels": labels,
        "annotations": {
            "checksum/config": f"{index:064x}",
            "kubectl.kubernetes.io/restartedAt": _MADE,
            "prometheus.io/scrape": "true",
        },
        "ownerReferences": [owner],
    }
    spec = {
        "nodeName": f"node-{(index + number) % NODES}",
        "serviceAccountName": name,
        "containers": [_container("app", 8080), _container("proxy", 15006)],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
    }
    return _document("v1", "Pod", metadata, spec=spec)


def _container(name: str, port: int) -> Document:
    return {
        "name": name,
        "image": f"registry.example.test/shop/{name}@sha256:{'ab' * 32}",
        "ports": [{"name": f"{name}-http", "containerPort": port}],
        "env": [
            {"name": f"SETTING_{number}", "value": f"value of setting {number}"}
            for number in range(8)
        ],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": port}, "periodSeconds": 5},
        "livenessProbe": {"httpGet": {"path": "/live", "port": port}, "periodSeconds": 10},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/app", "readOnly": True}],
    }


def status(index: int, number: int, *, ready: bool = True, beat: str = _MADE) -> Document:
    """A patch of a pod's status; `beat` is when the kubelet last looked."""
    ip = pod_address(index, number)
    said = "True" if ready else "False"
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "hostIP": "192.0.2.1",
            "startTime": _MADE,
            "conditions": [
                {
                    "type": type_,
                    "status": said if "Ready" in type_ else "True",
                    "lastProbeTime": beat,
                    "lastTransitionTime": _MADE,
                }
                for type_ in types
            ],
            "containerStatuses": [
                {
                    "name": name,
                    "image": f"registry.example.test/shop/{name}@sha256:{'ab' * 32}",
                    "imageID": f"registry.example.test/shop/{name}@sha256:{'cd' * 32}",
                    "containerID": f"containerd://{index:060x}{number:04x}",
                    "ready": True,
                    "restartCount": 0,
                    "started": True,
                    "state": {"running": {"startedAt": _MADE}},
                }
                for name in ("app", "proxy")
            ],
        }
    }


def slices(world: World) -> Iterator[Document]:
    """What the endpoint slice controller would make of it."""
    for index in range(world.services):
        yield slice_of(index, world.pods_each)


def slice_of(index: int, count: int) -> Document:
    """One service's endpoints: the first so many of its pods."""
    namespace, name = names(index)
    endpoints = [
        {
            "addresses": [pod_address(index, number)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{(index + number) % NODES}",
            "targetRef": {
                "kind": "Pod",
                "namespace": namespace,
                "name": pod_name(index, number),
            },
            "zone": f"zone-{number % 3}",
        }
        for number in range(count)
    ]
    labels = {
        "kubernetes.io/service-name": name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    metadata = {"namespace": namespace, "name": f"{name}-x1y2z", "labels": labels}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def smi(world: World) -> Iterator[Document]:
    """What every tenth service has."""
    for index in range(0, world.services, SHARE):
        match = {"name": "api", "pathRegex": "/api", "methods": ["GET"]}
        yield _document(
            "specs.smi-spec.io/v1alpha4",
            "HTTPRouteGroup",
            _metadata(index),
            spec={"matches": [match]},
        )
        yield target(index, world)
        yield split(index, world, weight=50)


def target(index: int, world: World, *, callers: int = 3) -> Document:
    """So many services may call one."""
    namespace, name = names(index)
    chosen = ((index + step * 7 + 1) % world.services for step in range(callers))
    return _document(
        "access.smi-spec.io/v1alpha3",
        "TrafficTarget",
        _metadata(index),
        spec={
            "destination": {"kind": "ServiceAccount", "namespace": namespace, "name": name},
            "rules": [{"kind": "HTTPRouteGroup", "name": name}],
            "sources": [
                {"kind": "ServiceAccount", "namespace": names(caller)[0], "name": names(caller)[1]}
                for caller in chosen
            ],
        },
    )


def split(index: int, world: World, *, weight: int) -> Document:
    """A service shares its requests with the next one of its namespace that has a split."""
    _, name = names(index)
    _, other = names((index + SHARE) % world.services)
    return _document(
        "split.smi-spec.io/v1alpha4",
        "TrafficSplit",
        _metadata(index),
        spec={"service": name, "backends": backends(name, other, weight=weight)},
    )


def backends(name: str, other: str, *, weight: int) -> list[Document]:
    """So many per cent for the first."""
    return [{"service": name, "weight": weight}, {"service": other, "weight": 100 - weight}]


def _metadata(index: int, **more: object) -> Document:
    namespace, name = names(index)
    return {"namespace": namespace, "name": name, **more}


def _document(api_version: str, kind: str, metadata: Document, **more: object) -> Document:
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}
