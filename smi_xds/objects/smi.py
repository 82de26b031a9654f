"""SMI objects as hub types: a superset of every published version.

Parsing any version loses nothing: what only one version can say has a field here, and what is
absent is told from what is empty (`None` against `()`). `version` is the version as written.
`uid` and `generation` say which object of an API server it is, in which state: what became of it is
written back for these alone. Files have neither.
Sources: smi-spec `apis/*/v1alpha*`, smi-sdk-go `crds/`. Parsing: `objects.parse_*`,
by the table in `objects.forms`.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from smi_xds.objects.kube import Annotations
from smi_xds.values import ObjectRef

ACCESS_GROUP = "access.smi-spec.io"
SPECS_GROUP = "specs.smi-spec.io"
SPLIT_GROUP = "split.smi-spec.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A source or the destination of a TrafficTarget: a ServiceAccount or an IdentityBinding."""

    kind: str
    name: str
    namespace: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of `rules` (v1alpha1: `specs`); `matches` None or () means every match."""

    kind: str
    name: str
    matches: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficTarget:
    """access.smi-spec.io TrafficTarget. `destination_port` existed in v1alpha1 and v1alpha2."""

    namespace: str
    name: str
    version: str = "v1alpha3"
    uid: str = ""
    generation: int = 0
    created: str = ""
    annotations: Annotations = ()
    destination: Subject | None = None
    destination_port: int | None = None
    rules: tuple[Rule, ...] | None = None
    sources: tuple[Subject, ...] | None = None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("TrafficTarget", self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityBinding:
    """access.smi-spec.io IdentityBinding (v1alpha4): the schemes are alternatives."""

    namespace: str
    name: str
    version: str = "v1alpha4"
    uid: str = ""
    generation: int = 0
    created: str = ""
    annotations: Annotations = ()
    match_labels: tuple[tuple[str, str], ...] | None = None
    spiffe_identities: tuple[str, ...] | None = None
    service_account: str | None = None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("IdentityBinding", self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPMatch:
    """One match of an HTTPRouteGroup; `headers` are (name, regex) pairs in the order written."""

    name: str
    path_regex: str | None = None
    methods: tuple[str, ...] | None = None
    headers: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteGroup:
    """specs.smi-spec.io HTTPRouteGroup."""

    namespace: str
    name: str
    version: str = "v1alpha4"
    uid: str = ""
    generation: int = 0
    created: str = ""
    annotations: Annotations = ()
    matches: tuple[HTTPMatch, ...] = ()
    headers_as_map: bool = False
    """Headers were written as a map (spec text of main), not as a list of single-key maps."""

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("HTTPRouteGroup", self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPRoute:
    """specs.smi-spec.io TCPRoute; `ports` None or () means every port."""

    namespace: str
    name: str
    version: str = "v1alpha4"
    uid: str = ""
    generation: int = 0
    created: str = ""
    annotations: Annotations = ()
    match_name: str | None = None
    ports: tuple[int, ...] | None = None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("TCPRoute", self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class UDPRoute:
    """specs.smi-spec.io UDPRoute (v1alpha4); `ports` None or () means every port."""

    namespace: str
    name: str
    version: str = "v1alpha4"
    uid: str = ""
    generation: int = 0
    created: str = ""
    annotations: Annotations = ()
    match_name: str | None = None
    ports: tuple[int, ...] | None = None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("UDPRoute", self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One backend of a TrafficSplit. `weight` is exact: `500m` is Decimal("0.5").

    None where it was left out (v1alpha1 allows it). `written` is the text of a Quantity, for
    writing it back unchanged.
    """

    service: str
    weight: Decimal | None = None
    written: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitMatch:
    """One entry of `spec.matches` (v1alpha3 and later): refers to an HTTPRouteGroup."""

    kind: str
    name: str
    api_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSplit:
    """split.smi-spec.io TrafficSplit."""

    namespace: str
    name: str
    version: str = "v1alpha4"
    uid: str = ""
    generation: int = 0
    created: str = ""
    annotations: Annotations = ()
    service: str = ""
    backends: tuple[Backend, ...] = ()
    matches: tuple[SplitMatch, ...] | None = None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("TrafficSplit", self.namespace, self.name)


SmiObject: TypeAlias = (
    TrafficTarget | IdentityBinding | HTTPRouteGroup | TCPRoute | UDPRoute | TrafficSplit
)
