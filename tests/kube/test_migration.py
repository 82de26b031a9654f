"""From the CRDs of smi-sdk-go to ours and back, with the objects that are there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kube.api import Kube, KubectlError
from tests.kube.cluster import KubeCluster
from tests.kube.plugin import CRDS

pytestmark = [pytest.mark.kube, pytest.mark.timeout(600)]

CRD = "traffictargets.access.smi-spec.io"
OURS = CRDS / "traffictargets.yaml"
TARGET = {
    "apiVersion": "access.smi-spec.io/v1alpha3",
    "kind": "TrafficTarget",
    "metadata": {"name": "old", "namespace": "default"},
    "spec": {
        "destination": {"kind": "ServiceAccount", "name": "web"},
        "sources": [{"kind": "IdentityBinding", "name": "partners"}],
        "rules": [{"kind": "TCPRoute", "name": "all"}],
    },
}


def _version(name: str, *, served: bool) -> dict[str, Any]:
    a_subject = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("kind", "name", "namespace")},
    }
    a_rule = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("kind", "name")},
    }
    spec = {
        "destination": a_subject,
        "sources": {"type": "array", "items": a_subject},
        "rules": {"type": "array", "items": a_rule},
    }
    properties = {"spec": {"type": "object", "properties": spec}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    return {"name": name, "served": served, "storage": served, "schema": schema}


# As far as it matters: stored and served is v1alpha3, and v1alpha4 is not known.
THEIRS: Mapping[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": CRD},
    "spec": {
        "group": "access.smi-spec.io",
        "scope": "Namespaced",
        "names": {
            "kind": "TrafficTarget",
            "listKind": "TrafficTargetList",
            "plural": "traffictargets",
            "singular": "traffictarget",
            "shortNames": ["tt"],
        },
        "versions": [
            _version("v1alpha3", served=True),
            _version("v1alpha2", served=False),
            _version("v1alpha1", served=False),
        ],
    },
}


def store_as(kube: Kube, version: str) -> None:
    """Have the API server keep what is written from now on in this version."""
    versions = kube.get("crd", CRD)["spec"]["versions"]
    patch = [
        {"op": "replace", "path": f"/spec/versions/{n}/storage", "value": it["name"] == version}
        for n, it in enumerate(versions)
    ]
    kube.kubectl("patch", "crd", CRD, "--type=json", "-p", json.dumps(patch))


def migrate(kube: Kube, version: str) -> None:
    """As docs/decisions/0002 says: each object is written as it is, which is in that version."""
    kube.kubectl("replace", "-f", "-", stdin=kube.kubectl("get", "tt", "-A", "-o", "json"))
    patch = json.dumps({"status": {"storedVersions": [version]}})
    kube.kubectl("patch", "crd", CRD, "--subresource=status", "--type=merge", "-p", patch)


def _replace_crd(kube: Kube, crd: str) -> None:
    kube.kubectl("replace", "-f", "-", stdin=crd)
    kube.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")


def _spec(kube: Kube, version: str) -> object:
    """Of the object; kubectl would remember for minutes which versions there were."""
    return kube.get(f"traffictargets.{version}.access.smi-spec.io", "old")["spec"]


def test_definitions_of_smi_sdk_go_are_replaced_and_come_back(kube_binary: Path) -> None:
    """Objects stay readable and writable all the time; the way back begins with a migration."""
    with KubeCluster(binary=kube_binary) as kube:
        kube.kubectl("create", "-f", "-", stdin=json.dumps(THEIRS))
        kube.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")
        kube.apply(TARGET)

        _replace_crd(kube, OURS.read_text())
        assert _spec(kube, "v1alpha4") == _spec(kube, "v1alpha3") == TARGET["spec"]
        assert kube.get("crd", CRD)["status"]["storedVersions"] == ["v1alpha3", "v1alpha4"]
        migrate(kube, "v1alpha4")

        with pytest.raises(KubectlError, match=r"storedVersions.*v1alpha4"):
            _replace_crd(kube, json.dumps(THEIRS))
        store_as(kube, "v1alpha3")
        migrate(kube, "v1alpha3")
        _replace_crd(kube, json.dumps(THEIRS))
        assert _spec(kube, "v1alpha3") == TARGET["spec"]
