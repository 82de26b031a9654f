"""The mesh: what we understood of the objects, before anything is said in Envoy's words.

Frozen and serialisable. `xds.translate` reads this and nothing else; the debug API, `check` and
the golden cases show the same values. Policy is decided here: no later room asks who may call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from smi_xds.objects.views import Objects
from smi_xds.problems import Problem
from smi_xds.values import AccessMode, Mode, ProxyId, ServiceRef, SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """What the operator chose for the whole mesh; namespaces and pods may say otherwise."""

    trust_domain: str = "cluster.local"
    aliases: tuple[str, ...] = ()
    """Trust domains whose identities mean the same accounts, while one takes the other's place."""
    fading: bool = False
    """Nobody gets a certificate of an alias any more: connections made with one are to end."""
    access: AccessMode = AccessMode.STRICT
    mtls: Mode = Mode.STRICT


class Protocol(StrEnum):
    """What is spoken on a port; the words are those of port names."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    TCP = "tcp"
    SERVER_FIRST = "tcp-server-first"
    UDP = "udp"

    @property
    def is_http(self) -> bool:
        """Requests are judged and routed one by one."""
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC)

    @property
    def is_tcp(self) -> bool:
        """Connections are judged and routed as a whole."""
        return self in (Protocol.TCP, Protocol.SERVER_FIRST)


class Sidecar(StrEnum):
    """How a workload is in the mesh.

    `bound` sidecars intercept nothing and own an address. `intercepted` workloads know of no
    sidecar: what they send and get is redirected to it. A `proxyless` workload is a gRPC process
    that asks for its configuration itself: a client with an identity. Who calls it finds no
    sidecar there.
    """

    NONE = "none"
    BOUND = "bound"
    INTERCEPTED = "intercepted"
    PROXYLESS = "proxyless"

    @property
    def listens(self) -> bool:
        """It stands before the application: judges who calls, and proves who answers."""
        return self not in (Sidecar.NONE, Sidecar.PROXYLESS)

    @property
    def sees_addresses(self) -> bool:
        """A caller's address is its own; bound sidecars on one host all call from loopback."""
        return self is Sidecar.INTERCEPTED


class Egress(StrEnum):
    """What becomes of connections of an intercepted workload that go to no service of ours."""

    OPEN = "open"
    CLOSED = "closed"


class EndpointState(StrEnum):
    """`draining` endpoints keep their connections and get no new ones."""

    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address behind a service port. `identity` is None outside the mesh (plaintext).

    `hostname` is its name within a headless service (`web-0` of `web-0.web.shop`).
    """

    address: str
    port: int
    state: EndpointState = EndpointState.READY
    identity: SpiffeId | None = None
    zone: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A (workload, port) behind a service port; its modes are None outside the mesh."""

    identity: SpiffeId | None
    port: int
    access: AccessMode | None
    mtls: Mode | None

    @property
    def is_open(self) -> bool:
        """Nobody has to say who they are; TLS without our ALPN is the application's own."""
        return self.access is not AccessMode.STRICT and self.mtls is not Mode.STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a service with what is behind it.

    `identities` are those of all its endpoints, ready or not, so that the list a client checks
    grows before an endpoint is used and shrinks after it is gone. `targets` says which port of
    which workload stands behind it, and the mesh reads from it who may call. `pods` are those of
    a headless service one by one: by hostname, or by address where they have none.
    """

    number: int
    name: str = ""
    protocol: Protocol = Protocol.HTTP
    endpoints: tuple[Endpoint, ...] = ()
    identities: tuple[SpiffeId, ...] = ()
    targets: tuple[Target, ...] = ()
    pods: tuple[tuple[str, "ServicePort"], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service with its TCP and UDP ports, by number.

    A `headless` one has no address of its own: its pods are called by theirs. An `external` one
    (ExternalName) is a name for something outside the mesh, and has no ports that we know.
    """

    service: ServiceRef
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    headless: bool = False
    external: bool = False

    def port(self, number: int, *, udp: bool = False) -> ServicePort | None:
        """The port of that number, or None; a TCP and a UDP port may share one."""
        found = (p for p in self.ports if (p.number, p.protocol is Protocol.UDP) == (number, udp))
        return next(found, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMatch:
    """A condition on requests: everything that is given must hold.

    `path` is an RE2 expression anchored at the start, `headers` are (name, RE2 expression) pairs
    that match in full, `methods` empty means any. Every expression was compiled alone by RE2.
    """

    path: str | None = None
    methods: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Who may call: an identity, and the addresses that it has to call from.

    `addresses` None means anywhere; they are sorted, and never empty.
    """

    identity: SpiffeId
    addresses: tuple[str, ...] | None = None

    def admits(self, address: str | None) -> bool:
        """Whether it may call from there; None is an address that nobody lists."""
        return self.addresses is None or address in self.addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one TrafficTarget allows: sources AND (ports) AND (matches).

    `ports` None means any target port, `http` None any request; an empty tuple means nothing.
    `tcp` says whether it admits connections to TCP ports (an HTTPRouteGroup admits none), `l7`
    whether it admits requests at all (a TrafficTarget of UDPRoutes alone does not). `udp` lists
    the target ports that its UDPRoutes admit, None for any: all the others are about TCP alone.
    """

    target: str
    sources: tuple[Source, ...]
    ports: tuple[int, ...] | None
    http: tuple[HttpMatch, ...] | None
    tcp: bool
    l7: bool
    udp: tuple[int, ...] | None = ()

    def admits(self, port: int, protocol: Protocol) -> bool:
        """Whether it allows anything at all on this target port."""
        if protocol is Protocol.UDP:
            return self.udp is None or port in self.udp
        if self.ports is not None and port not in self.ports:
            return False
        if protocol.is_http:
            return self.l7 and self.http != ()
        return self.tcp and protocol.is_tcp


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """A port that a workload serves: its own (target) port, and the grants that apply to it."""

    number: int
    protocol: Protocol
    services: tuple[ServiceRef, ...] = ()
    grants: tuple[Grant, ...] = ()

    @property
    def callers(self) -> tuple[SpiffeId, ...]:
        """Every identity that some grant lists, wherever it calls from, sorted."""
        sources = (source for grant in self.grants for source in grant.sources)
        return tuple(sorted({source.identity for source in sources}))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that some source has to call from, sorted."""
        sources = (source for grant in self.grants for source in grant.sources)
        return tuple(sorted({address for it in sources for address in it.addresses or ()}))

    def admitted(self, address: str | None = None) -> tuple[SpiffeId, ...]:
        """Every identity that may call from an address, or (None) from anywhere, sorted."""
        sources = (source for grant in self.grants for source in grant.sources)
        return tuple(sorted({source.identity for source in sources if source.admits(address)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpPort:
    """A UDP port that a workload serves: its own (target) port, and the grants that apply to it.

    Callers ask for one of `services` (its own, and roots of splits): which port that is, it knows.
    """

    number: int
    services: "tuple[PortRef, ...]" = ()
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A pod (or VM) in the mesh.

    A bound sidecar listens on `address` and hands over to the application on `app_address`. Where
    nothing listens, `ports` is empty and `address` may be. An intercepted one has all addresses of
    its pod (`more_addresses`), and `egress` says where else it may connect.
    """

    proxy: ProxyId
    identity: SpiffeId
    address: str
    app_address: str
    sidecar: Sidecar
    access: AccessMode
    mtls: Mode
    ports: tuple[InboundPort, ...] = ()
    more_addresses: tuple[str, ...] = ()
    egress: Egress = Egress.OPEN
    udp_ports: tuple[UdpPort, ...] = ()
    era: str = ""
    """When it changes, connections on which each request is judged are drained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedBackend:
    """A share of the traffic; `weight` is relative to the others of its entry."""

    service: ServiceRef
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEntry:
    """One way traffic to a service port may go; the first whose `matches` hold is taken.

    `split` is `namespace/name` of the TrafficSplit, empty for the root service itself.
    `matches` empty means always. `backends` have the root's port number; none with a weight
    means that there is nowhere to go (503).
    """

    split: str = ""
    matches: tuple[HttpMatch, ...] = ()
    backends: tuple[WeightedBackend, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRoutes:
    """Where traffic to one service port goes, or to one pod of a headless service (`pod`).

    `callers` are the identities with a right to anything behind it, None if anyone has. Someone
    else gets the denied variant: no clusters, no endpoints, 403.
    """

    service: ServiceRef
    port: int
    protocol: Protocol
    entries: tuple[RouteEntry, ...]
    callers: tuple[SpiffeId, ...] | None = ()
    default_port: bool = False
    """This port is meant where a request's Host names none."""
    outside: bool = False
    """Nobody behind it has a sidecar: datagrams go there as they are (UDP alone)."""
    pod: str = ""

    @property
    def ref(self) -> "PortRef":
        """The port that these are the routes of."""
        return PortRef(self.service, self.port, udp=self.protocol is Protocol.UDP, pod=self.pod)


@dataclass(frozen=True, slots=True, order=True)
class PortRef:
    """A port of a service, or of one pod of a headless service.

    A TCP and a UDP port may share a number.
    """

    service: ServiceRef
    port: int
    udp: bool = field(default=False, kw_only=True)
    pod: str = field(default="", kw_only=True)

    @property
    def is_address(self) -> bool:
        """It is a pod without a name: only its address tells it from others."""
        return any(mark in self.pod for mark in ".:")

    def __str__(self) -> str:
        pod = f"/{self.pod}" if self.pod else ""
        return f"{self.service}{pod}:{self.port}" + ("/udp" if self.udp else "")


@dataclass(frozen=True, slots=True, order=True)
class Destination:
    """An address and port to which an intercepted workload connects."""

    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Everything, at one moment.

    `reach` lists, per identity that is listed anywhere, the service ports it may call beyond
    those that anyone may (`open`). `bound_ports` are the local ports on which bound sidecars
    offer TCP and UDP services. `pods` are the pods of headless services, each as a service of its
    own would be. `destinations` says what intercepted workloads mean by an address.
    `identities` says who of the workloads has each. `aliases` are other trust domains: whoever is
    accepted is so with its name in each of them. Where they are `fading`, connections made with
    such a name are to end.
    """

    trust_domain: str
    aliases: tuple[str, ...] = ()
    fading: bool = False
    services: Mapping[ServiceRef, Service] = field(default_factory=dict)
    workloads: Mapping[ProxyId, Workload] = field(default_factory=dict)
    routes: Mapping[PortRef, PortRoutes] = field(default_factory=dict)
    open: frozenset[PortRef] = frozenset()
    reach: Mapping[SpiffeId, frozenset[PortRef]] = field(default_factory=dict)
    bound_ports: Mapping[PortRef, int] = field(default_factory=dict)
    pods: Mapping[PortRef, PortRoutes] = field(default_factory=dict)
    destinations: Mapping[Destination, PortRef] = field(default_factory=dict)
    identities: Mapping[SpiffeId, frozenset[ProxyId]] = field(default_factory=dict, compare=False)
    problems: tuple[Problem, ...] = ()
    objects: Objects | None = field(default=None, compare=False, repr=False)
    """What it was made of: for names in explanations. Nothing that is served reads it."""
