"""The Deployment of the control plane, and the Services that lead to it."""

from dataclasses import dataclass, field
from typing import Any

from smi_xds import __version__
from smi_xds.config import MeshConfig
from smi_xds.crds.definition import WEBHOOK_PORT
from smi_xds.install.names import (
    AUTHORITY_SECRET,
    LABELS,
    LEASE,
    MONITORING_PORT,
    NAME,
    NAMESPACE,
    SELECTOR,
    XDS_TLS_PORT,
)

DEFAULT_IMAGE = f"smi-xds:{__version__}"
DEFAULT_REPLICAS = 2

# Seconds in which endpoints and API servers learn that a pod is going, before it stops listening.
_LEAVING = 5
# Then streams end one after another (`ads.limits`: 10 s), and the lease is given back.
_TIME_TO_GO = 30
# Of the image's user: a number, because the kubelet has to see that it is not root.
_USER = 65532


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What differs from one installation to the next."""

    image: str = DEFAULT_IMAGE
    replicas: int = DEFAULT_REPLICAS
    mesh: MeshConfig = field(default_factory=MeshConfig)
    more: tuple[str, ...] = ()
    """Further flags of `smi-xds serve`."""


def arguments(choices: Choices) -> list[str]:
    """Of `smi-xds`, in the pod."""
    mesh = choices.mesh
    return [
        "serve",
        "--kubernetes",
        "--in-cluster",
        f"--xds-tls-address=0.0.0.0:{XDS_TLS_PORT}",
        f"--monitoring-address=0.0.0.0:{MONITORING_PORT}",
        f"--webhook-address=0.0.0.0:{WEBHOOK_PORT}",
        f"--state-secret={NAMESPACE}/{AUTHORITY_SECRET}",
        f"--lease={NAMESPACE}/{LEASE}",
        f"--trust-domain={mesh.trust_domain}",
        f"--access-mode={mesh.access_mode.value}",
        f"--mtls-mode={mesh.mtls_mode.value}",
        "--log-format=json",
        *choices.more,
    ]


def deployment(choices: Choices) -> dict[str, Any]:
    """All replicas serve; one of them leads."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(NAME),
        "spec": {
            "replicas": choices.replicas,
            "selector": {"matchLabels": SELECTOR},
            # A new replica is ready before an old one goes.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {"metadata": {"labels": LABELS}, "spec": _pod(choices)},
        },
    }


def _pod(choices: Choices) -> dict[str, Any]:
    return {
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": _LEAVING + _TIME_TO_GO,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # Rather together than not at all: a cluster of one node has two replicas as well.
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": SELECTOR},
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
        "containers": [_container(choices)],
    }


def _container(choices: Choices) -> dict[str, Any]:
    ports = {"xds": XDS_TLS_PORT, "monitoring": MONITORING_PORT, "webhooks": WEBHOOK_PORT}
    return {
        "name": NAME,
        "image": choices.image,
        "args": arguments(choices),
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        # 5,000 pods and 1,000 services take under 500 MB. No limit of CPU: throttled, a replica
        # would be late for its lease and its pushes.
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        },
        # Ready after the first sync, which a large cluster or an API server that is away delays:
        # only who does not answer at all is started anew.
        "startupProbe": _probe("/healthz", period=1, failures=60),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LEAVING)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "monitoring"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }


def service() -> dict[str, Any]:
    """Where sidecars ask, and Prometheus; webhooks have one of their own."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(NAME),
        "spec": {
            "selector": SELECTOR,
            "ports": [
                {"name": "xds", "port": XDS_TLS_PORT, "targetPort": "xds", "appProtocol": "grpc"},
                {
                    "name": "monitoring",
                    "port": MONITORING_PORT,
                    "targetPort": "monitoring",
                    "appProtocol": "http",
                },
            ],
        },
    }


def disruption_budget() -> dict[str, Any]:
    """Nodes may be emptied one after another."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(NAME),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": SELECTOR}},
    }


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": LABELS}
