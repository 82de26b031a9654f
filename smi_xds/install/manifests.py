"""All objects of an installation, in the order in which they are applied."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from smi_xds.crds.definition import Conversion, definitions
from smi_xds.crds.manifests import document
from smi_xds.crds.webhooks import webhook_objects
from smi_xds.install.names import LABELS, NAME, NAMESPACE, PART_OF
from smi_xds.install.rights import cluster_rules, own_rules
from smi_xds.install.workload import Choices, deployment, disruption_budget, service

Manifest: TypeAlias = Mapping[str, Any]

_FIRST = "namespace.yaml"
_SOURCE = "smi_xds/install"
_RBAC = "rbac.authorization.k8s.io"
_COMMENT = """\
# kubectl apply -k deploy/kubernetes
# Everything: the control plane in the namespace smi-xds, CRDs and webhooks; `smi-xds install`
# applies the same objects. The image: kustomize edit set image smi-xds=REGISTRY/smi-xds:VERSION
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is applied, in three steps."""

    definitions: tuple[Manifest, ...]
    """First, and then they are waited for."""
    surroundings: tuple[Manifest, ...]
    deployment: Manifest
    """Last: what it needs is there when it starts."""

    @property
    def all(self) -> tuple[Manifest, ...]:
        """Everything, in order."""
        return (*self.definitions, *self.surroundings, self.deployment)


def installation(choices: Choices) -> Installation:
    """The objects of an installation."""
    return Installation(
        definitions=definitions(Conversion.WEBHOOK),
        surroundings=(*_core(), *webhook_objects().values()),
        deployment=deployment(choices),
    )


def _core() -> tuple[Manifest, ...]:
    return (
        namespace(),
        _account(),
        _role("ClusterRole", cluster_rules()),
        _binding("ClusterRole"),
        _role("Role", own_rules()),
        _binding("Role"),
        service(),
        disruption_budget(),
    )


def namespace() -> dict[str, Any]:
    """Pods that are not restricted are not let in."""
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in _MODES}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": PART_OF | level},
    }


_MODES = ("enforce", "audit", "warn")


def _account() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
    }


def _role(kind: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": _place(kind), "rules": rules}


def _binding(kind: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": _place(kind),
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }


def _place(kind: str) -> dict[str, Any]:
    namespaced = {} if kind == "ClusterRole" else {"namespace": NAMESPACE}
    return {"name": NAME, **namespaced, "labels": LABELS}


def manifest_files() -> Mapping[str, str]:
    """Texts by file name for deploy/kubernetes, beside the folders of CRDs and webhooks."""
    found = (*_core(), deployment(Choices()))
    files = {f"{it['kind'].lower()}.yaml": document(it, made_from=_SOURCE) for it in found}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        # The namespace first, for what is in it.
        "resources": sorted([*files, "crds", "webhooks"], key=lambda it: it != _FIRST),
    }
    return {**files, "kustomization.yaml": _COMMENT + document(kustomization, made_from=_SOURCE)}
