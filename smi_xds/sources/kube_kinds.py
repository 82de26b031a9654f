"""Which kinds are watched in a Kubernetes API server, and by which paths."""

from dataclasses import dataclass

from smi_xds.objects.parse import FORMS, Form
from smi_xds.objects.smi import ACCESS_GROUP, SPECS_GROUP, SPLIT_GROUP


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
    Kind(kind="TrafficTarget", plural="traffictargets", group=ACCESS_GROUP, version="v1alpha3"),
    Kind(kind="HTTPRouteGroup", plural="httproutegroups", group=SPECS_GROUP, version="v1alpha4"),
    Kind(kind="TCPRoute", plural="tcproutes", group=SPECS_GROUP, version="v1alpha4"),
    Kind(kind="UDPRoute", plural="udproutes", group=SPECS_GROUP, version="v1alpha4"),
    Kind(kind="TrafficSplit", plural="trafficsplits", group=SPLIT_GROUP, version="v1alpha4"),
)
