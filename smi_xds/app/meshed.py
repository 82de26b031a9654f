"""Which namespaces have, or are to have, pods with sidecars: those get our roots."""

from collections.abc import Callable

from smi_xds.mesh.annotations import SIDECAR
from smi_xds.mesh.model import Mesh, Sidecar
from smi_xds.objects.kube import Annotations
from smi_xds.objects.views import Objects


def meshed_namespaces(objects: Objects) -> frozenset[str]:
    """By annotations alone: a pod that mounts our roots gets its address after they are there."""
    every = {it.name for it in objects.namespaces.values() if _has_sidecar(it.annotations)}
    pods = (group.pod for group in objects.pods.values())
    return frozenset(every | {it.namespace for it in pods if _has_sidecar(it.annotations)})


def _has_sidecar(annotations: Annotations) -> bool:
    # What is no word of ours is taken for the strictest, a sidecar.
    return dict(annotations).get(SIDECAR, Sidecar.NONE) != Sidecar.NONE


class Namespaces:
    """The same of a mesh that changes, and always `own`; looked at again where it did."""

    def __init__(self, mesh: Callable[[], Mesh | None], *, own: frozenset[str]) -> None:
        self._mesh = mesh
        self._own = own
        self._objects: Objects | None = None
        self._found = own

    def __call__(self) -> frozenset[str]:
        """By name."""
        mesh = self._mesh()
        objects = mesh.objects if mesh is not None else None
        if objects is not None and objects is not self._objects:
            self._objects = objects
            self._found = self._own | meshed_namespaces(objects)
        return self._found
