"""Whether the control plane's account may do what it has to, in the API server's own judgement."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from smi_xds.install.cluster import Cluster
from smi_xds.install.findings import INSTALL, Finding, failed, unknown, well
from smi_xds.install.names import NAME, NAMESPACE
from smi_xds.install.rights import all_rules
from smi_xds.sources.kube_api import RefusedError

ACCOUNT: Final = f"system:serviceaccount:{NAMESPACE}:{NAME}"
_GROUPS: Final = (
    "system:serviceaccounts",
    f"system:serviceaccounts:{NAMESPACE}",
    "system:authenticated",
)
_REVIEWS: Final = "/apis/authorization.k8s.io/v1"


async def rights_granted(cluster: Cluster) -> Finding:
    """Each right by itself. Administrators ask of others, an account of itself."""
    what = "rights"
    missing, number = [], 0
    try:
        kind, more = await _how_to_ask(cluster)
        for attributes in _attributes():
            number += 1
            if not await _may(cluster, kind, {"resourceAttributes": attributes, **more}):
                missing.append(_sentence(attributes))
    except RefusedError as error:
        cure = "Verify as somebody who may create subjectaccessreviews."
        return unknown(what, str(error), cure=cure)
    if missing:
        detail = f"{ACCOUNT} may not {'; '.join(missing)}"
        return failed(what, detail, cure=INSTALL)
    return well(what, f"{ACCOUNT} has all {number}")


async def _how_to_ask(cluster: Cluster) -> tuple[str, Mapping[str, object]]:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    try:
        me = (await cluster.create(path, review))["status"]["userInfo"]["username"]
    except RefusedError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        me = ""  # before Kubernetes 1.28
    if me == ACCOUNT:
        return "SelfSubjectAccessReview", {}
    return "SubjectAccessReview", {"user": ACCOUNT, "groups": list(_GROUPS)}


async def _may(cluster: Cluster, kind: str, spec: Mapping[str, object]) -> bool:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    found = await cluster.create(f"{_REVIEWS}/{kind.lower()}s", review)
    return bool(found["status"]["allowed"])


def _attributes() -> Iterator[dict[str, Any]]:
    """One question for each right (ResourceAttributes)."""
    for namespace, rule in all_rules():
        [group] = rule["apiGroups"]
        for full in rule["resources"]:
            resource, _, subresource = full.partition("/")
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", ("",)):
                    yield {
                        "namespace": namespace,
                        "group": group,
                        "resource": resource,
                        "subresource": subresource,
                        "verb": verb,
                        "name": name,
                    }


def _sentence(of: Mapping[str, str]) -> str:
    what = f"{of['resource']}/{of['subresource']}".removesuffix("/")
    full = f"{what}.{of['group']}".removesuffix(".")
    return f"{of['verb']} {full} {of['name']}".rstrip()
