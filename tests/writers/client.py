"""HTTP to an API server as a controller written with client-go speaks it, with its own rights."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.kube.cluster import KubeCluster

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
SPLITS = "trafficsplits.split.smi-spec.io"


class RefusedError(Exception):
    """The API server said no; a writer that does not retry has to be told."""

    def __init__(self, call: str, status: int, message: str) -> None:
        super().__init__(f"{call}: {status} {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Client:
    """One controller."""

    kube: KubeCluster
    token: str
    agent: str

    def call(
        self, method: str, path: str, body: object = None, *, content_type: str = JSON
    ) -> dict[str, Any] | None:
        """The object; None where the API server says that there is none, and why (NotFound)."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": JSON}
        headers |= {"User-Agent": self.agent}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = content_type
        request = urllib.request.Request(
            f"{self.kube.url}{path}", data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.kube._tls) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                status = json.loads(error.read())
            if status.get("reason") == "NotFound":
                return None
            raise RefusedError(f"{method} {path}", error.code, status.get("message")) from error
        return found


def controller(kube: KubeCluster, name: str, *, verbs: str) -> Client:
    """Install one that may do this with TrafficSplits, as its manifests say."""
    config = json.loads(kube.kubeconfig_for(name).read_text())
    kube.kubectl("create", "clusterrole", name, f"--verb={verbs}", f"--resource={SPLITS}")
    account = f"--serviceaccount=default:{name}"
    kube.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
    return Client(kube, config["users"][0]["user"]["token"], f"{name}/v1")


def owner(kube: KubeCluster, kind: str, group: str, version: str, name: str) -> dict[str, Any]:
    """Make the object that owns the split, of a kind as a writer defines it; its reference."""
    plural = {"Canary": "canaries", "Rollout": "rollouts"}[kind]
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }
    kube.apply(crd)
    kube.kubectl("wait", "--for=condition=Established", f"crd/{plural}.{group}", "--timeout=30s")
    it = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": name}}
    kube.apply(it, namespace="shop")
    uid = kube.get(f"{plural}.{group}", name, "--namespace=shop")["metadata"]["uid"]
    return {
        "apiVersion": f"{group}/{version}",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
