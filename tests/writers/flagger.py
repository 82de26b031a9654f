"""Flagger's router for SMI, call by call: GET, POST, PUT, and no second try.

Whatever differs from what it wants but weights makes it begin a rollout anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.writers.client import Client
from tests.writers.shop import NAMESPACE

GROUP = "split.smi-spec.io"
VERBS = "get,list,watch,create,update,patch,delete"


@dataclass(slots=True)
class Flagger:
    """The router of one Canary, with a mesh provider of that version."""

    client: Client
    version: str
    owner: Mapping[str, Any]
    apex: str
    host: str = ""
    """`service.hosts[0]` of the Canary, where it has any."""
    resets: int = 0
    """How often it began anew, for it did not read what it wrote."""
    written: dict[str, Any] = field(default_factory=dict)
    """The spec as last sent."""

    @property
    def path(self) -> str:
        """Of the TrafficSplits in the namespace."""
        return f"/apis/{GROUP}/{self.version}/namespaces/{NAMESPACE}/trafficsplits"

    def reconcile(self) -> None:
        """What every loop begins with."""
        wanted = {"service": self.host or self.apex, "backends": self._backends(100, 0)}
        found = self._get()
        if found is None:
            metadata: dict[str, object] = {
                "name": self.apex,
                "namespace": NAMESPACE,
                "creationTimestamp": None,
                "annotations": {},
                "ownerReferences": [self.owner],
            }
            self._write("POST", self.path, {**self._type, "metadata": metadata, "spec": wanted})
        elif _without_weights(found["spec"]) != _without_weights(wanted):
            self.resets += 1
            self._write("PUT", f"{self.path}/{self.apex}", {**found, "spec": wanted})

    def routes(self) -> tuple[int, int]:
        """The weights of primary and canary, as it reads them; a failure where both are 0."""
        found = self._get()
        assert found is not None
        by_name = {it["service"]: _int64(it["weight"]) for it in found["spec"]["backends"]}
        weights = by_name[f"{self.apex}-primary"], by_name[f"{self.apex}-canary"]
        assert any(weights), "the TrafficSplit does not contain routes"
        return weights

    def set_routes(self, primary: int, canary: int) -> None:
        """What a step of a rollout is."""
        found = self._get()
        assert found is not None
        spec = {**found["spec"], "backends": self._backends(primary, canary)}
        self._write("PUT", f"{self.path}/{self.apex}", {**found, "spec": spec})

    @property
    def _type(self) -> dict[str, str]:
        return {"kind": "TrafficSplit", "apiVersion": f"{GROUP}/{self.version}"}

    def _backends(self, primary: int, canary: int) -> list[dict[str, object]]:
        weights = {f"{self.apex}-canary": canary, f"{self.apex}-primary": primary}
        # A resource.Quantity of v1alpha1 is a string in JSON.
        as_sent = str if self.version == "v1alpha1" else int
        return [{"service": name, "weight": as_sent(it)} for name, it in weights.items()]

    def _get(self) -> dict[str, Any] | None:
        """As its Go types hold it, which know metadata and spec; the spec is what was written."""
        found = self.client.call("GET", f"{self.path}/{self.apex}")
        if found is None:
            return None
        if self.written:
            assert found["spec"] == self.written, f"{found['spec']} is not {self.written}"
        return {**self._type, "metadata": found["metadata"], "spec": found["spec"]}

    def _write(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        answer = self.client.call(method, path, body)
        self.written = body["spec"]
        assert answer is not None
        assert answer["spec"] == self.written, f"{answer['spec']} is not {self.written}"


def _without_weights(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What it compares: order, names, and whatever else there may be."""
    backends = [{k: v for k, v in it.items() if k != "weight"} for it in spec["backends"]]
    return {**spec, "backends": backends}


def _int64(weight: object) -> int:
    """Quantity.AsInt64, which gives 0 for what has a unit or a fraction; or an int."""
    text = str(weight)
    return int(text) if text.isdecimal() else 0
