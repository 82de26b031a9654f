"""The mesh: what we understood of the objects, before anything is said in Envoy's words.

Frozen and serialisable. `xds.translate` reads this and nothing else; the debug API, `check` and
the golden cases show the same values. Policy is decided here: no later room asks who may call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from smi_xds.problems import Problem
from smi_xds.values import Mode, ProxyId, ServiceRef, SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """What the operator chose for the whole mesh; namespaces and pods may say otherwise."""

    trust_domain: str = "cluster.local"
    access: Mode = Mode.STRICT
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

    `bound` sidecars intercept nothing and own an address. A `proxyless` workload is a gRPC process
    that asks for its configuration itself: a client with an identity. Who calls it finds no
    sidecar there.
    """

    NONE = "none"
    BOUND = "bound"
    PROXYLESS = "proxyless"

    @property
    def listens(self) -> bool:
        """It stands before the application: judges who calls, and proves who answers."""
        return self not in (Sidecar.NONE, Sidecar.PROXYLESS)


class EndpointState(StrEnum):
    """`draining` endpoints keep their connections and get no new ones."""

    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address behind a service port. `identity` is None outside the mesh (plaintext)."""

    address: str
    port: int
    state: EndpointState = EndpointState.READY
    identity: SpiffeId | None = None
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A (workload, port) behind a service port; its modes are None outside the mesh."""

    identity: SpiffeId | None
    port: int
    access: Mode | None
    mtls: Mode | None

    @property
    def is_open(self) -> bool:
        """Nobody has to say who they are; TLS without our ALPN is the application's own."""
        return self.access is not Mode.STRICT and self.mtls is not Mode.STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a service with what is behind it.

    `identities` are those of all its endpoints, ready or not, so that the list a client checks
    grows before an endpoint is used and shrinks after it is gone. `targets` says which port of
    which workload stands behind it, and the mesh reads from it who may call.
    """

    number: int
    name: str = ""
    protocol: Protocol = Protocol.HTTP
    endpoints: tuple[Endpoint, ...] = ()
    identities: tuple[SpiffeId, ...] = ()
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service with its TCP and UDP ports, by number."""

    service: ServiceRef
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()

    def port(self, number: int) -> ServicePort | None:
        """The port of that number, or None."""
        return next((port for port in self.ports if port.number == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMatch:
    """A condition on requests: everything that is given must hold.

    `path` is an RE2 expression anchored at the start, `headers` are (name, RE2 expression) pairs
    that match in full, `methods` empty means any. Every expression was compiled alone by RE2.
    """

    path: str | None = None
    methods: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one TrafficTarget allows: sources AND (ports) AND (matches).

    `ports` None means any target port, `http` None any request; an empty tuple means nothing.
    `tcp` says whether it admits connections to TCP ports (an HTTPRouteGroup admits none), `l7`
    whether it admits requests at all (a TrafficTarget of UDPRoutes alone does not).
    """

    target: str
    sources: tuple[SpiffeId, ...]
    ports: tuple[int, ...] | None
    http: tuple[HttpMatch, ...] | None
    tcp: bool
    l7: bool

    def admits(self, port: int, protocol: Protocol) -> bool:
        """Whether it allows anything at all on this target port."""
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
        """Every identity that some grant lists, sorted."""
        return tuple(sorted({source for grant in self.grants for source in grant.sources}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A pod (or VM) in the mesh.

    A bound sidecar listens on `address` and hands over to the application on `app_address`. Where
    nothing listens, `ports` is empty and `address` may be.
    """

    proxy: ProxyId
    identity: SpiffeId
    address: str
    app_address: str
    sidecar: Sidecar
    access: Mode
    mtls: Mode
    ports: tuple[InboundPort, ...] = ()


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
    """Where traffic to one service port goes.

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


@dataclass(frozen=True, slots=True, order=True)
class PortRef:
    """A port of a service."""

    service: ServiceRef
    port: int

    def __str__(self) -> str:
        return f"{self.service}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Everything, at one moment.

    `reach` lists, per identity that is listed anywhere, the service ports it may call beyond
    those that anyone may (`open`). `bound_ports` are the local ports on which bound sidecars
    offer TCP services.
    """

    trust_domain: str
    services: Mapping[ServiceRef, Service] = field(default_factory=dict)
    workloads: Mapping[ProxyId, Workload] = field(default_factory=dict)
    routes: Mapping[PortRef, PortRoutes] = field(default_factory=dict)
    open: frozenset[PortRef] = frozenset()
    reach: Mapping[SpiffeId, frozenset[PortRef]] = field(default_factory=dict)
    bound_ports: Mapping[PortRef, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
