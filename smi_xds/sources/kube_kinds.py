"""Which kinds are watched in a Kubernetes API server, and by which paths."""

from dataclasses import dataclass, replace
from typing import Self

from smi_xds.objects.parse import FORMS, Form
from smi_xds.objects.versions import SMI_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind as the API server has it, in the version that we read."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    is_vital: bool = False
    """Without it there would be nothing in the mesh, not less: it is waited for."""

    @property
    def is_custom(self) -> bool:
        """Whether it is there only after its CRD was applied."""
        return self.group.endswith(".smi-spec.io")

    def in_all_versions(self) -> tuple[Self, ...]:
        """Itself, and then the other versions that can be read, the newest first.

        The CRDs of other meshes serve but one or two: OSM's TrafficSplit only v1alpha2.
        """
        versions = SMI_KINDS[self.kind].versions if self.is_custom else ()
        others = (version for version in reversed(versions) if version != self.version)
        return (self, *(replace(self, version=version) for version in others))

    @property
    def full_name(self) -> str:
        """`trafficsplits.split.smi-spec.io`, as kubectl and RBAC call it."""
        return f"{self.plural}.{self.group}".removesuffix(".")

    @property
    def form(self) -> Form:
        """How its objects are parsed."""
        return FORMS[f"{self.group}/{self.version}".removeprefix("/"), self.kind]

    def path(self, *, namespace: str) -> str:
        """Where it is listed, in one namespace or (empty) in all."""
        prefix = f"/apis/{self.group}" if self.group else "/api"
        scope = f"/namespaces/{namespace}" if namespace and self.kind != "Namespace" else ""
        return f"{prefix}/{self.version}{scope}/{self.plural}"

    def selector(self, *, namespace: str) -> dict[str, str]:
        """What picks one Namespace itself, where only some are watched: RBAC can allow just it."""
        if namespace and self.kind == "Namespace":
            return {"fieldSelector": f"metadata.name={namespace}"}
        return {}


KINDS = (
    Kind(kind="Namespace", plural="namespaces", is_vital=True),
    Kind(kind="ServiceAccount", plural="serviceaccounts"),
    Kind(kind="Service", plural="services", is_vital=True),
    Kind(kind="Pod", plural="pods", is_vital=True),
    Kind(kind="EndpointSlice", plural="endpointslices", group="discovery.k8s.io", is_vital=True),
    # Of ours, the version that the API server stores: it converts nothing to tell us.
    *(
        Kind(kind=it.kind, plural=it.plural, group=it.group, version=it.stored)
        for it in SMI_KINDS.values()
    ),
)
