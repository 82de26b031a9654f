"""What the GitHub action Azure/k8s-deploy does with kubectl: canaries and blue/green by SMI."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kube.cluster import KubeCluster
from tests.writers.shop import NAMESPACE


@dataclass(slots=True)
class K8sDeploy:
    """One service of a workflow."""

    kube: KubeCluster
    folder: Path
    service: str
    flags: Sequence[str] = ()
    """Of `kubectl apply`: `--force`, `--server-side`."""
    api_version: str = ""

    def canary(self, percentage: int) -> None:
        """`strategy: canary, traffic-split-method: smi`: baseline and canary share alike."""
        part = percentage * 10 // 2
        self._rollout(1000 - percentage * 10, part, part)

    def to_canary(self) -> None:
        """`action: promote`, while the stable Deployment is replaced."""
        self._rollout(0, 0, 1000)

    def to_stable(self) -> None:
        """The first `deploy`, the end of `action: promote`, and `action: reject`."""
        self._rollout(1000, 0, 0)

    def blue_green(self, *, is_green: bool) -> None:
        """`strategy: blue-green, route-method: smi`."""
        weights = {"stable": 0, "green": 100} if is_green else {"stable": 100, "green": 0}
        self._apply("trafficsplit", weights)

    def is_green(self) -> bool:
        """What it looks at before it promotes: the split in the version that kubectl prefers."""
        found = json.loads(self._kubectl("get", f"TrafficSplit/{self.service}-trafficsplit"))
        weights = {it["service"]: it["weight"] for it in found["spec"]["backends"]}
        return weights == {f"{self.service}-stable": 0, f"{self.service}-green": 100}

    def delete(self, suffix: str) -> None:
        """Clean up."""
        name = f"{self.service}-{suffix}"
        self.kube.kubectl("delete", "TrafficSplit", name, "--namespace", NAMESPACE)

    def _rollout(self, stable: int, baseline: int, canary: int) -> None:
        weights = {"stable": stable, "baseline": baseline, "canary": canary}
        self._apply("workflow-rollout", weights)

    def _apply(self, suffix: str, weights: Mapping[str, int]) -> None:
        # Once a run, and then remembered: the first of those that are served, in their order.
        self.api_version = self.api_version or self._first_version()
        written: dict[str, Any] = {
            "apiVersion": self.api_version,
            "kind": "TrafficSplit",
            "metadata": {"name": f"{self.service}-{suffix}", "annotations": {}},
            "spec": {
                "backends": [
                    {"service": f"{self.service}-{name}", "weight": weight}
                    for name, weight in weights.items()
                ],
                "service": self.service,
            },
        }
        file = self.folder / f"{self.service}-{suffix}.json"
        file.write_text(json.dumps(written))
        applied = json.loads(self._kubectl("apply", "-f", str(file), *self.flags))
        assert applied["spec"] == written["spec"], f"{applied['spec']} is not {written['spec']}"

    def _first_version(self) -> str:
        served = self.kube.kubectl("api-versions").split()
        return next(it for it in served if it.startswith("split.smi-spec.io"))

    def _kubectl(self, *arguments: str) -> str:
        return self.kube.kubectl(*arguments, "-o", "json", "--namespace", NAMESPACE)
