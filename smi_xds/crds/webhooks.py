"""What leads an API server to our webhooks: Service, validation, and the rights to be trusted.

Without any of it, or while nobody answers, objects are taken as they come: traffic and
configuration go on, and only versions that are not stored cannot be read and written.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from smi_xds.crds.definition import (
    WEBHOOK_NAMESPACE,
    WEBHOOK_PORT,
    WEBHOOK_SERVICE,
)
from smi_xds.crds.manifests import document, with_kustomization
from smi_xds.objects.versions import SMI_KINDS

VALIDATION_NAME = "smi-xds"
VALIDATION_PATH = "/validate"
_LABELS = {"app.kubernetes.io/part-of": "smi-xds"}
_COMMENT = """\
# kubectl apply -k deploy/kubernetes/webhooks
# For a server that runs with --webhook-address 0.0.0.0:15017 in pods with the label
# app.kubernetes.io/name=smi-xds. It puts its own root into caBundle.
"""


def validating_webhook() -> dict[str, Any]:
    """The ValidatingWebhookConfiguration."""
    service = {
        "namespace": WEBHOOK_NAMESPACE,
        "name": WEBHOOK_SERVICE,
        "port": WEBHOOK_PORT,
        "path": VALIDATION_PATH,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": VALIDATION_NAME, "labels": _LABELS},
        "webhooks": [
            {
                "name": "validate.smi-xds.io",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": service},
                # It warns, and refuses little: nobody is to wait for it.
                "failurePolicy": "Ignore",
                "timeoutSeconds": 5,
                # A review has the version of the writer, whose view is what is judged.
                "matchPolicy": "Equivalent",
                "sideEffects": "None",
                "rules": list(_rules()),
            }
        ],
    }


def _rules() -> Iterator[dict[str, Any]]:
    """Objects themselves: the status is ours, and a DELETE is never refused."""
    for kind in SMI_KINDS.values():
        yield {
            "apiGroups": [kind.group],
            "apiVersions": list(kind.versions),
            "resources": [kind.plural],
            "operations": ["CREATE", "UPDATE"],
            "scope": "Namespaced",
        }


def _service() -> dict[str, Any]:
    port = {"name": "webhooks", "port": WEBHOOK_PORT, "targetPort": WEBHOOK_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": WEBHOOK_SERVICE, "namespace": WEBHOOK_NAMESPACE, "labels": _LABELS},
        "spec": {
            "selector": {"app.kubernetes.io/name": "smi-xds"},
            "ports": [port],
            # A server is ready when it has listed everything; where objects are still stored in
            # another version, that takes an answer of its own webhook.
            "publishNotReadyAddresses": True,
        },
    }


def webhook_role_rules() -> list[dict[str, Any]]:
    """What a server has to be allowed, so that it can have itself trusted."""
    return [
        {
            "apiGroups": ["apiextensions.k8s.io"],
            "resources": ["customresourcedefinitions"],
            "resourceNames": [f"{it.plural}.{it.group}" for it in SMI_KINDS.values()],
            "verbs": ["get", "patch"],
        },
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["validatingwebhookconfigurations"],
            "resourceNames": [VALIDATION_NAME],
            "verbs": ["get", "patch"],
        },
    ]


def _role() -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": WEBHOOK_SERVICE, "labels": _LABELS},
        "rules": webhook_role_rules(),
    }


def _binding() -> dict[str, Any]:
    subject = {"kind": "ServiceAccount", "name": "smi-xds", "namespace": WEBHOOK_NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": WEBHOOK_SERVICE}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": WEBHOOK_SERVICE, "labels": _LABELS},
        "roleRef": role,
        "subjects": [subject],
    }


def webhook_objects() -> Mapping[str, Mapping[str, Any]]:
    """All of it, by file name."""
    return {
        "service.yaml": _service(),
        "validation.yaml": validating_webhook(),
        "role.yaml": _role(),
        "rolebinding.yaml": _binding(),
    }


def webhook_manifests() -> Mapping[str, str]:
    """Texts by file name."""
    files = {name: document(it) for name, it in webhook_objects().items()}
    return with_kustomization(files, comment=_COMMENT)
