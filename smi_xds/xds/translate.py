"""The mesh in Envoy's words: one ResourceSet per proxy; `grpc_sets` makes those of gRPC clients.

Pure, and incremental as the mesh is (`mesh.passes`). What a service is to its callers is encoded
once for the whole mesh and shared; what a workload is to itself is a small private layer, the
same for all sidecars of one kind. A proxy whose parts did not change gets the very same
ResourceSet object.
"""

from collections.abc import Mapping
from functools import partial
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

from smi_xds.mesh.model import (
    Destination,
    Mesh,
    PortRef,
    PortRoutes,
    Service,
    Sidecar,
    Workload,
)
from smi_xds.mesh.passes import Given, Graph
from smi_xds.values import ProxyId, ServiceRef, SpiffeId
from smi_xds.xds.aliases import Aliases
from smi_xds.xds.backends import Backends
from smi_xds.xds.bound_sets import BoundSets, Hosts, bound_resources
from smi_xds.xds.encode import warm
from smi_xds.xds.grpc_sets import GrpcSets
from smi_xds.xds.intercepted_sets import InterceptedSets, intercepted_resources
from smi_xds.xds.kinds import Kind, kind_of
from smi_xds.xds.outbound import Callers
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    Layers,
    Resource,
    ResourceSet,
    as_layer,
    by_type,
)
from smi_xds.xds.secrets import Credentials, trust_secret
from smi_xds.xds.udp import udp_resources


class Translator:
    """Translates round after round; holds nothing but tables."""

    def __init__(self) -> None:
        graph = self._graph = Graph()
        self._services: Given[ServiceRef, Service] = graph.given()
        self._workloads: Given[ProxyId, Workload] = graph.given()
        self._service_routes: Given[PortRef, PortRoutes] = graph.given()
        self._pod_routes: Given[PortRef, PortRoutes] = graph.given()
        self._routes = graph.merged(self._service_routes, self._pod_routes)
        self._ports: Given[PortRef, int] = graph.given()
        self._destinations: Given[Destination, PortRef] = graph.given()
        self._leaves: Given[SpiffeId, Resource] = graph.given()
        self._bundle: Given[str, bytes] = graph.given()
        self._trust = graph.whole(lambda: trust_secret(self._bundle[""]))
        self._backends = Backends(
            graph,
            services=self._services,
            routes=self._routes,
            trust_bundle=lambda: self._bundle[""],
        )
        self._clients = graph.groups(self._workloads, partial(_identity, (Sidecar.PROXYLESS,)))
        self._add_sidecars(graph)
        self._aliases = Aliases()

    def _add_sidecars(self, graph: Graph) -> None:
        listening, bound, intercepted = (
            graph.groups(self._workloads, partial(_identity, kinds))
            for kinds in (
                (Sidecar.BOUND, Sidecar.INTERCEPTED),
                (Sidecar.BOUND,),
                (Sidecar.INTERCEPTED,),
            )
        )
        hosts_wanted = graph.whole(lambda: bool(bound.mapping() or self._clients.mapping()))
        self._callers = Callers(
            graph,
            identities=listening,
            routes=self._routes,
            backends=self._backends,
            ports=self._ports,
        )
        self._hosts = Hosts(graph, self._routes, hosts_wanted)
        self._bound = BoundSets(
            graph,
            identities=bound,
            hosts=self._hosts,
            callers=self._callers,
        )
        self._intercepted = InterceptedSets(
            graph,
            identities=intercepted,
            routes=self._routes,
            destinations=self._destinations,
            callers=self._callers,
        )
        self._grpc = GrpcSets(
            graph,
            identities=self._clients,
            services=self._services,
            routes=self._service_routes,
            endpoints=self._backends.endpoints,
            hosts=self._hosts,
            callers=self._callers,
        )
        self._kind = graph.each(self._workloads, self._find_kind)
        kinds = graph.groups(self._kind, lambda kind: (kind,))
        self._private = graph.each(kinds, lambda kind: self._own_layers(kind.workload))
        self._set = graph.each(kinds, self._resource_set)
        nodes = graph.groups(self._workloads, lambda it: (str(it.proxy),))
        self._sets = graph.each(nodes, lambda node: self._of(ProxyId.parse(node)))

    def __call__(self, mesh: Mesh, *, credentials: Credentials) -> Mapping[str, ResourceSet]:
        """What each proxy gets, by node id (`namespace/name`)."""
        mesh = self._aliases(mesh)
        self._services.set(mesh.services)
        self._workloads.set(mesh.workloads)
        self._service_routes.set(mesh.routes)
        self._pod_routes.set(mesh.pods)
        self._ports.set(mesh.bound_ports)
        self._destinations.set(mesh.destinations)
        self._leaves.set(credentials.leaves)
        self._bundle.set({"": credentials.trust_bundle})
        self._graph.run()
        return self._sets.mapping()

    def _find_kind(self, proxy: ProxyId) -> Kind | None:
        workload = self._workloads[proxy]
        return kind_of(workload) if workload.sidecar.listens else None

    def _of(self, proxy: ProxyId) -> ResourceSet | None:
        workload = self._workloads[proxy]
        if workload.sidecar is Sidecar.PROXYLESS:
            return self._grpc[workload.identity]
        kind = self._kind.get(proxy)
        return None if kind is None else self._set[kind]

    def _resource_set(self, kind: Kind) -> ResourceSet:
        identity = kind.workload.identity
        layers = (self._private[kind], *self._shared_layers(kind.workload))
        shared, leaf = self._callers.layers, self._leaves.get(identity)
        own = as_layer([self._trust()] if leaf is None else [self._trust(), leaf])
        return ResourceSet(
            MappingProxyType(
                {
                    SECRET: (own, *shared(SECRET, identity)),
                    CLUSTER: (*(it[CLUSTER] for it in layers), *shared(CLUSTER, identity)),
                    ENDPOINTS: shared(ENDPOINTS, identity),
                    LISTENER: tuple(it[LISTENER] for it in layers),
                    ROUTES: tuple(it[ROUTES] for it in layers),
                }
            )
        )

    def _own_layers(self, workload: Workload) -> Layers:
        local = self._callers.local_ports(workload.identity)
        udp = tuple((ref, port, self._routes[ref].outside) for ref, port in local if ref.udp)
        own = (
            intercepted_resources(workload)
            if workload.sidecar is Sidecar.INTERCEPTED
            else bound_resources(workload, local)
        )
        return by_type(*own, *udp_resources(workload, udp))

    def _shared_layers(self, workload: Workload) -> tuple[Layers, ...]:
        sets = self._intercepted if workload.sidecar is Sidecar.INTERCEPTED else self._bound
        return sets.layers(workload.identity)


def _identity(kinds: tuple[Sidecar, ...], workload: Workload) -> tuple[SpiffeId, ...]:
    return (workload.identity,) if workload.sidecar in kinds else ()


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
