"""The ResourceSets of gRPC clients without a proxy, one per identity.

Layered as those of sidecars (`intercepted_sets`): listeners are the same for all clients, what an
identity may call hides the denied variant of it, a cluster is encoded once for the whole mesh.
Where there are no such clients, nothing of it is made.
"""

from collections.abc import Mapping
from types import MappingProxyType

from smi_xds.mesh.model import PortRef, PortRoutes, Service
from smi_xds.mesh.passes import Graph, Table
from smi_xds.mesh.proxyless import as_judged, is_called_by_mtls
from smi_xds.values import ProxyId, ServiceRef, SpiffeId, TypeUrl
from smi_xds.xds.bound_sets import Hosts
from smi_xds.xds.outbound import Callers, SharedLayers
from smi_xds.xds.proxyless import (
    denied_cluster,
    denied_endpoints,
    grpc_cluster,
    grpc_denied,
    grpc_listeners,
    grpc_routes,
)
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    Layer,
    Resource,
    ResourceSet,
    as_layer,
)
from smi_xds.xds.routes import called_by, outbound_host


class GrpcSets:
    """Tables of what gRPC clients get; `endpoints` and virtual hosts are shared with sidecars."""

    def __init__(
        self,
        graph: Graph,
        *,
        identities: Table[SpiffeId, frozenset[ProxyId]],
        services: Table[ServiceRef, Service],
        routes: Table[PortRef, PortRoutes],
        endpoints: Table[PortRef, Resource],
        hosts: Hosts,
        callers: Callers,
    ) -> None:
        self._services, self._routes = services, routes
        self._hosts = hosts
        self._wanted = graph.whole(lambda: bool(identities.mapping()))
        self._judged = graph.each(routes, self._find_judged)
        self._called = graph.each(self._judged, lambda ref: called_by(self._judged[ref]))
        backends = graph.groups(self._called, lambda refs: refs)
        self._cluster = graph.each(backends, self._find_cluster)
        self._allowed = graph.each(self._judged, self._find_allowed)
        denied = graph.each(self._judged, grpc_denied)
        listeners = graph.each(self._judged, grpc_listeners)
        self._listeners = graph.whole(
            lambda: as_layer(it for each in listeners.mapping().values() for it in each)
        )
        self._denied: Mapping[TypeUrl, Layer] = {
            CLUSTER: as_layer([denied_cluster()]),
            ENDPOINTS: as_layer([denied_endpoints()]),
        }
        self._denied_routes = graph.whole(lambda: as_layer(denied.mapping().values()))
        self._reach = graph.each(identities, lambda it: self._known(callers.reach(it)))
        self._open = graph.whole(lambda: self._known(callers.open()))
        self._behind = graph.each(identities, lambda it: self._backends_of(self._reach[it]))
        self._behind_open = graph.whole(lambda: self._backends_of(self._open()))
        behind = (lambda it: self._behind[it], self._behind_open)
        self._shared = {
            CLUSTER: SharedLayers(graph, identities, self._cluster, *behind),
            ENDPOINTS: SharedLayers(graph, identities, endpoints, *behind),
            ROUTES: SharedLayers(
                graph, identities, self._allowed, lambda it: self._reach[it], self._open
            ),
        }
        self._sets = graph.each(identities, self._resource_set)

    def __getitem__(self, identity: SpiffeId) -> ResourceSet:
        """What the clients of an identity get."""
        return self._sets[identity]

    def _find_judged(self, ref: PortRef) -> PortRoutes | None:
        if not self._wanted() or not self._routes[ref].protocol.is_http:
            return None
        return as_judged(self._routes[ref])

    def _find_cluster(self, ref: PortRef) -> Resource:
        service = self._services[ref.service]
        port = service.port(ref.port)
        assert port is not None, "routes name ports that exist"
        mtls = is_called_by_mtls(service, ref.port)
        return grpc_cluster(ref, port.identities if mtls else None)

    def _find_allowed(self, ref: PortRef) -> Resource:
        judged = self._judged[ref]
        if judged == self._routes[ref]:
            return grpc_routes(ref, self._hosts.allowed(ref, local=False))
        return grpc_routes(ref, outbound_host(judged, allowed=True, local=False))

    def _known(self, refs: frozenset[PortRef]) -> frozenset[PortRef]:
        return frozenset(ref for ref in refs if ref in self._judged)

    def _backends_of(self, refs: frozenset[PortRef]) -> frozenset[PortRef]:
        return frozenset[PortRef]().union(*(self._called[ref] for ref in refs))

    def _resource_set(self, identity: SpiffeId) -> ResourceSet:
        denied = {**self._denied, ROUTES: self._denied_routes()}
        layers = {
            type_: (*shared(identity), denied[type_]) for type_, shared in self._shared.items()
        }
        return ResourceSet(MappingProxyType({**layers, LISTENER: (self._listeners(),)}))
