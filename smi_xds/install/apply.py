"""`smi-xds install`: applies the manifests in order, and waits for what the next step needs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from smi_xds.install.cluster import Cluster, Json, path_of
from smi_xds.install.manifests import Installation, Manifest
from smi_xds.problems import AskError

_LOOK_AGAIN = 0.25
# An API server serves a new definition within a second.
_ESTABLISHED_SECONDS = 60.0


class Outcome(StrEnum):
    """What became of an object, in kubectl's words."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """An object that is in the cluster now."""

    kind: str
    namespace: str
    name: str
    outcome: Outcome


async def install(cluster: Cluster, wanted: Installation, *, force: bool) -> AsyncIterator[Applied]:
    """Apply everything, definitions first; AskError where something is refused."""
    for manifest in wanted.definitions:
        yield await _apply(cluster, manifest, force=force)
    for manifest in wanted.definitions:
        await _until(cluster, manifest, is_established, seconds=_ESTABLISHED_SECONDS)
    for manifest in (*wanted.surroundings, wanted.deployment):
        yield await _apply(cluster, manifest, force=force)


async def rolled_out(
    cluster: Cluster, deployment: Manifest, *, seconds: float, told: Callable[[str], None]
) -> bool:
    """Wait until all replicas are new and ready, and tell how far it is; False if too late."""
    last = ""

    def look(found: Json) -> bool:
        nonlocal last
        if (now := progress(found)) != last:
            told(now)
            last = now
        return is_rolled_out(found)

    try:
        await _until(cluster, deployment, look, seconds=seconds)
    except TimeoutError:
        return False
    return True


async def _apply(cluster: Cluster, manifest: Manifest, *, force: bool) -> Applied:
    before = await cluster.find(path_of(manifest))
    after = await cluster.apply(manifest, force=force)
    metadata = manifest["metadata"]
    return Applied(
        kind=manifest["kind"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        outcome=_outcome(before, after),
    )


def _outcome(before: Json | None, after: Json) -> Outcome:
    if before is None:
        return Outcome.CREATED
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return Outcome.UNCHANGED if same else Outcome.CONFIGURED


async def _until(
    cluster: Cluster, manifest: Manifest, holds: Callable[[Json], bool], *, seconds: float
) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = await cluster.find(path_of(manifest))
            if found is None:
                raise AskError(
                    f"{manifest['kind']} {manifest['metadata']['name']} was deleted meanwhile: "
                    "install again"
                )
            if holds(found):
                return
            await asyncio.sleep(_LOOK_AGAIN)


def is_established(definition: Mapping[str, Any]) -> bool:
    """Whether the API server serves what is defined."""
    return _condition(definition, "Established") == "True"


def is_rolled_out(deployment: Mapping[str, Any]) -> bool:
    """As `kubectl rollout status` judges."""
    wanted, status = deployment["spec"]["replicas"], deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False
    counts = [status.get(name, 0) for name in ("updatedReplicas", "availableReplicas", "replicas")]
    return counts == [wanted] * 3


def progress(deployment: Mapping[str, Any]) -> str:
    """How far it is, in a line."""
    wanted, status = deployment["spec"]["replicas"], deployment.get("status") or {}
    return (
        f"{status.get('updatedReplicas', 0)} of {wanted} replicas are new, "
        f"{status.get('availableReplicas', 0)} available"
    )


def _condition(it: Mapping[str, Any], kind: str) -> str:
    conditions = (it.get("status") or {}).get("conditions") or ()
    return next((each["status"] for each in conditions if each["type"] == kind), "")
