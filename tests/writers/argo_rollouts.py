"""The traffic router for SMI of Argo Rollouts, call by call: GET, POST, merge PATCH."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.writers.client import MERGE_PATCH, Client
from tests.writers.shop import NAMESPACE

GROUP = "split.smi-spec.io"
VERBS = "create,watch,get,update,patch"


class NotOwnedError(Exception):
    """The TrafficSplit belongs to somebody else: it is left alone."""


@dataclass(slots=True)
class ArgoRollouts:
    """The reconciler of one Rollout, with `--traffic-split-api-version`."""

    client: Client
    version: str
    owner: Mapping[str, Any]
    stable: str
    canary: str
    root: str = ""
    """`trafficRouting.smi.rootService`; where there is none, the stable service."""
    patches: int = 0

    @property
    def path(self) -> str:
        """Of the TrafficSplits in the namespace."""
        return f"/apis/{GROUP}/{self.version}/namespaces/{NAMESPACE}/trafficsplits"

    def set_weight(self, weight: int, *additional: tuple[str, int]) -> None:
        """The share of the canary; the additional ones are those of experiments."""
        name = str(self.owner["name"])
        desired = {"service": self.root or self.stable, "backends": self._all(weight, additional)}
        found = self.client.call("GET", f"{self.path}/{name}")
        if found is None:
            metadata = {
                "name": name,
                "namespace": NAMESPACE,
                "creationTimestamp": None,
                "ownerReferences": [self.owner],
            }
            body = {"kind": "TrafficSplit", "apiVersion": f"{GROUP}/{self.version}"}
            self._check(
                self.client.call(
                    "POST", self.path, {**body, "metadata": metadata, "spec": desired}
                ),
                desired,
            )
            return
        if self.owner["uid"] not in _controllers(found):
            raise NotOwnedError(f"Rollout does not own TrafficSplit `{name}`")
        changed = {key: value for key, value in desired.items() if found["spec"].get(key) != value}
        if changed:
            self.patches += 1
            patch = {"spec": changed}
            answer = self.client.call(
                "PATCH", f"{self.path}/{name}", patch, content_type=MERGE_PATCH
            )
            self._check(answer, desired)

    def _all(self, weight: int, additional: Sequence[tuple[str, int]]) -> list[dict[str, object]]:
        rest = 100 - weight - sum(share for _, share in additional)
        pairs = [(self.canary, weight), *additional, (self.stable, rest)]
        # A resource.Quantity of v1alpha1 is a string in JSON.
        as_sent = str if self.version == "v1alpha1" else int
        return [{"service": name, "weight": as_sent(share)} for name, share in pairs]

    def _check(self, answer: Mapping[str, Any] | None, desired: Mapping[str, Any]) -> None:
        assert answer is not None
        assert answer["spec"] == desired, f"{answer['spec']} is not {desired}"


def _controllers(document: Mapping[str, Any]) -> list[str]:
    references = document["metadata"].get("ownerReferences") or ()
    return [it["uid"] for it in references if it.get("controller")]
