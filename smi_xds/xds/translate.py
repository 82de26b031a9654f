"""The mesh in Envoy's words: one ResourceSet per proxy; `grpc_sets` makes those of gRPC clients.

Pure and memoised. What a service is to its callers (cluster, endpoints, expected peers, virtual
host) is encoded once for the whole mesh and shared; what a workload is to itself (listeners,
inbound routes and clusters) is a small private layer. A proxy whose parts did not change gets
the very same ResourceSet object.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.envoy.extensions.filters.http.fault.v3 import HttpFault
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac as NetworkRbac
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3 import (
    FilterConfig as HttpCapsule,
)
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import Route as UdpRoute
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import UdpProxyConfig
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    DownstreamTlsContext,
    Secret,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions

from smi_xds.mesh.memo import Memo
from smi_xds.mesh.model import (
    Endpoint,
    Mesh,
    PortRef,
    PortRoutes,
    Service,
    ServicePort,
    Sidecar,
    Workload,
)
from smi_xds.values import ProxyId, SpiffeId
from smi_xds.xds import names
from smi_xds.xds.bound import (
    inbound_listener,
    outbound_http_listener,
    outbound_tcp_listener,
)
from smi_xds.xds.clusters import inbound_cluster, outbound_cluster
from smi_xds.xds.encode import warm
from smi_xds.xds.endpoints import EndpointEncoder, Group
from smi_xds.xds.grpc_sets import GrpcSets, Layer
from smi_xds.xds.intercepted_sets import InterceptedSets, Layers
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    Resource,
    ResourceSet,
)
from smi_xds.xds.routes import (
    HostFragment,
    called_by,
    inbound_routes,
    outbound_host,
    outbound_routes,
)
from smi_xds.xds.secrets import Credentials, peers_secret, trust_secret
from smi_xds.xds.udp import (
    LocalPort,
    outbound_udp_cluster,
    tunnel_ends,
    udp_layers,
)


@dataclass(frozen=True, slots=True, eq=False)
class _Backend:
    """What one service port is to its callers."""

    cluster: Resource
    endpoints: Resource
    peers: Resource


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """What every identity of one reach gets."""

    clusters: Layer
    endpoints: Layer
    peers: Layer


class Translator:
    """Translates round after round; holds nothing but memos."""

    def __init__(self) -> None:
        self._endpoints = EndpointEncoder()
        self._cluster: Memo[str, ..., Resource] = Memo(outbound_cluster)
        self._udp_cluster: Memo[str, ..., Resource] = Memo(outbound_udp_cluster)
        self._udp: Memo[ProxyId, ..., Layers] = Memo(udp_layers)
        self._assignment: Memo[str, ..., Resource] = Memo(self._endpoints)
        self._peers: Memo[str, ..., Resource] = Memo(peers_secret)
        self._backend: Memo[PortRef, ..., _Backend] = Memo(_Backend)
        self._host: Memo[tuple[PortRef, bool, bool], ..., HostFragment] = Memo(outbound_host)
        self._table: Memo[tuple[SpiffeId, str], ..., Resource] = Memo(outbound_routes)
        self._scope: Memo[SpiffeId, ..., _Shared] = Memo(_shared)
        self._private: Memo[ProxyId, ..., Layers] = Memo(_private)
        self._trust: Memo[None, ..., Resource] = Memo(trust_secret)
        self._set: Memo[ProxyId, ..., ResourceSet] = Memo(_resource_set)
        self._grpc = GrpcSets(self._any_host)
        self._intercepted = InterceptedSets()
        self._memos: tuple[Memo[object, ..., object], ...] = tuple(
            memo for memo in vars(self).values() if isinstance(memo, Memo)
        )

    def __call__(self, mesh: Mesh, *, credentials: Credentials) -> Mapping[str, ResourceSet]:
        """What each proxy gets, by node id (`namespace/name`)."""
        backends = self._backends(mesh, credentials.trust_bundle)
        sidecars = {p: w for p, w in mesh.workloads.items() if w.sidecar.listens}
        identities = {workload.identity for workload in sidecars.values()}
        outbound = {
            identity: self._outbound(mesh, identity, backends) for identity in sorted(identities)
        }
        trust = self._trust(None, credentials.trust_bundle)
        sets = self._proxyless(mesh, backends)
        intercepted = self._intercepted(
            mesh,
            (w for w in sidecars.values() if w.sidecar is Sidecar.INTERCEPTED),
            {identity: reach for identity, (reach, *_) in outbound.items()},
        )
        tables: dict[tuple[SpiffeId, str], Resource] = {}
        for proxy, workload in sidecars.items():
            reach, shared, tcp, udp = outbound[workload.identity]
            leaf = credentials.leaves.get(workload.identity)
            datagrams = self._udp(proxy, workload, udp)
            if (layers := intercepted.get(proxy)) is not None:
                sets[str(proxy)] = self._set(proxy, shared, layers, datagrams, trust, leaf)
                continue
            caller = (workload.identity, proxy.namespace)
            if caller not in tables:  # it reads every service: once for all pods of an identity
                tables[caller] = self._routes(mesh, caller, reach)
            private = self._private(proxy, workload, tcp, tables[caller])
            sets[str(proxy)] = self._set(proxy, shared, private, datagrams, trust, leaf)
        for memo in self._memos:
            memo.sweep()
        self._endpoints.keep({str(ref): None for ref in backends})
        return sets

    def _proxyless(
        self, mesh: Mesh, backends: Mapping[PortRef, _Backend]
    ) -> dict[str, ResourceSet]:
        clients = [w for w in mesh.workloads.values() if w.sidecar is Sidecar.PROXYLESS]
        endpoints = {ref: backend.endpoints for ref, backend in backends.items()} if clients else {}
        sets = self._grpc(mesh, {client.identity for client in clients}, endpoints)
        return {str(client.proxy): sets[client.identity] for client in clients}

    def _any_host(self, ref: PortRef, routes: PortRoutes) -> HostFragment:
        """The virtual host of a service port as those of other namespaces get it."""
        allowed, local = True, False
        return self._host((ref, allowed, local), routes, allowed, local)

    def _backends(self, mesh: Mesh, trust_bundle: bytes) -> Mapping[PortRef, _Backend]:
        found = {}
        for ref, routes in chain(mesh.routes.items(), mesh.pods.items()):
            name = names.outbound_cluster(ref)
            groups, identities = _groups(mesh, ref, routes)
            found[ref] = self._backend(
                ref,
                self._udp_cluster(name, ref, routes.outside)
                if ref.udp
                else self._cluster(name, ref, routes.protocol),
                self._assignment(name, name, groups),
                self._peers(name, ref, identities, trust_bundle),
            )
        return found

    def _outbound(
        self, mesh: Mesh, identity: SpiffeId, backends: Mapping[PortRef, _Backend]
    ) -> tuple[frozenset[PortRef], _Shared, tuple[tuple[PortRef, int], ...], tuple[LocalPort, ...]]:
        """What an identity may call, the resources for that, and local ports for TCP and UDP."""
        reach = mesh.open | mesh.reach.get(identity, frozenset())
        called = {called for ref in reach for called in called_by(mesh.routes[ref])}
        # Of a headless service whoever may call one pod may call it alone.
        pods = frozenset(ref for ref, routes in mesh.pods.items() if _admits(routes, identity))
        all_called = sorted(called | pods)
        shared = self._scope(identity, tuple(backends[ref] for ref in all_called))
        local = [(ref, mesh.bound_ports[ref]) for ref in all_called if ref in mesh.bound_ports]
        tcp = tuple((ref, port) for ref, port in local if not ref.udp)
        udp = tuple((ref, port, mesh.routes[ref].outside) for ref, port in local if ref.udp)
        return reach | pods, shared, tcp, udp

    def _routes(
        self, mesh: Mesh, caller: tuple[SpiffeId, str], reach: frozenset[PortRef]
    ) -> Resource:
        hosts = tuple(
            self._host((ref, allowed, local), routes, allowed, local)
            for ref, routes in chain(mesh.routes.items(), mesh.pods.items())
            if routes.protocol.is_http and not ref.is_address
            for allowed, local in [(ref in reach, ref.service.namespace == caller[1])]
        )
        return self._table(caller, hosts)


def warm_up() -> None:
    """Compile every encoder that a first push needs."""
    warm(
        Cluster,
        ClusterLoadAssignment,
        Listener,
        RouteConfiguration,
        Secret,
        HttpConnectionManager,
        TcpProxy,
        UdpProxyConfig,
        UdpRoute,
        HttpCapsule,
        RbacPerRoute,
        NetworkRbac,
        HttpFault,
        Router,
        OriginalDst,
        TlsInspector,
        RawBuffer,
        UpstreamTlsContext,
        DownstreamTlsContext,
        HttpProtocolOptions,
        StdoutAccessLog,
    )


def _groups(
    mesh: Mesh, ref: PortRef, routes: PortRoutes
) -> tuple[tuple[Group, ...], tuple[SpiffeId, ...]]:
    """The endpoints behind a service port's own cluster, and the identities expected there."""
    if not routes.protocol.is_http and routes.entries[0].split:
        groups, identities = [], set[SpiffeId]()
        for backend in routes.entries[0].backends:
            port = _port(mesh.services[backend.service], ref)
            identities.update(port.identities)
            # Envoy gives no connections to a locality without a weight; it need not know it.
            if backend.weight:
                endpoints = _endpoints(port, routes)
                group = Group(
                    name=str(backend.service), weight=backend.weight, endpoints=endpoints
                )
                groups.append(group)
        return tuple(groups), tuple(sorted(identities))
    port = _port(mesh.services[ref.service], ref)
    if ref.pod:
        port = dict(port.pods)[ref.pod]
    endpoints = _endpoints(port, routes)
    groups = [Group(endpoints=endpoints)] if endpoints else []
    return tuple(groups), port.identities


def _endpoints(port: ServicePort, routes: PortRoutes) -> tuple[Endpoint, ...]:
    return tunnel_ends(port.endpoints) if routes.ref.udp and not routes.outside else port.endpoints


def _admits(routes: PortRoutes, identity: SpiffeId) -> bool:
    return routes.callers is None or identity in routes.callers


def _port(service: Service, ref: PortRef) -> ServicePort:
    port = service.port(ref.port, udp=ref.udp)
    assert port is not None, "routes name ports that exist"
    return port


def _shared(backends: tuple[_Backend, ...]) -> _Shared:
    return _Shared(
        clusters=_by_name(backend.cluster for backend in backends),
        endpoints=_by_name(backend.endpoints for backend in backends),
        peers=_by_name(backend.peers for backend in backends),
    )


def _private(workload: Workload, tcp: tuple[tuple[PortRef, int], ...], table: Resource) -> Layers:
    listeners = [outbound_http_listener(workload)]
    listeners += [outbound_tcp_listener(workload, ref, port) for ref, port in tcp]
    listeners += [
        listener
        for port in workload.ports
        if (listener := inbound_listener(workload, port)) is not None
    ]
    routes = [inbound_routes(workload, port) for port in workload.ports if port.protocol.is_http]
    clusters = [inbound_cluster(workload, port) for port in workload.ports]
    return MappingProxyType(
        {
            LISTENER: (_by_name(listeners),),
            ROUTES: (_by_name([table, *routes]),),
            CLUSTER: (_by_name(clusters),),
        }
    )


def _resource_set(
    shared: _Shared, private: Layers, datagrams: Layers, trust: Resource, leaf: Resource | None
) -> ResourceSet:
    own = [trust] if leaf is None else [trust, leaf]
    return ResourceSet(
        MappingProxyType(
            {
                SECRET: (_by_name(own), shared.peers),
                CLUSTER: (*private[CLUSTER], *datagrams[CLUSTER], shared.clusters),
                ENDPOINTS: (shared.endpoints,),
                LISTENER: (*private[LISTENER], *datagrams[LISTENER]),
                ROUTES: (*private[ROUTES], *datagrams[ROUTES]),
            }
        )
    )


def _by_name(resources: Iterable[Resource]) -> Layer:
    return MappingProxyType({resource.name: resource for resource in resources})
