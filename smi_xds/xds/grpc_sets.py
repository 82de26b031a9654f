"""The ResourceSets of gRPC clients without a proxy, one per identity.

Memoised like those of sidecars: listeners are one layer for all clients, routes one layer per
identity, a cluster is encoded once for the whole mesh.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from smi_xds.mesh.memo import Memo
from smi_xds.mesh.model import Mesh, PortRef, PortRoutes
from smi_xds.mesh.proxyless import as_judged, is_called_by_mtls
from smi_xds.values import SpiffeId
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
from smi_xds.xds.routes import HostFragment, called_by, outbound_host


class GrpcSets:
    """Translates round after round; holds nothing but memos."""

    def __init__(self, shared_host: Callable[[PortRef], HostFragment]) -> None:
        self._shared_host = shared_host
        """The virtual host that sidecars get."""
        self._judged: Memo[PortRef, ..., PortRoutes] = Memo(as_judged)
        self._listeners: Memo[PortRef, ..., tuple[Resource, ...]] = Memo(grpc_listeners)
        self._host: Memo[PortRef, ..., HostFragment] = Memo(_host)
        self._routes: Memo[PortRef, ..., Resource] = Memo(grpc_routes)
        self._denied: Memo[PortRef, ..., Resource] = Memo(grpc_denied)
        self._cluster: Memo[PortRef, ..., Resource] = Memo(grpc_cluster)
        self._no_cluster: Memo[None, ..., Resource] = Memo(denied_cluster)
        self._no_endpoints: Memo[None, ..., Resource] = Memo(denied_endpoints)
        self._layer: Memo[tuple[str, SpiffeId | None], ..., Layer] = Memo(as_layer)
        self._set: Memo[SpiffeId, ..., ResourceSet] = Memo(_resource_set)

    def __call__(
        self, mesh: Mesh, clients: Iterable[SpiffeId], endpoints: Mapping[PortRef, Resource]
    ) -> Mapping[SpiffeId, ResourceSet]:
        """What the gRPC clients of each identity get; `endpoints` are shared with sidecars."""
        wanted = sorted(set(clients))
        sets = self._sets(mesh, wanted, endpoints) if wanted else {}
        for memo in vars(self).values():
            if isinstance(memo, Memo):
                memo.sweep()
        return sets

    def _sets(
        self, mesh: Mesh, clients: list[SpiffeId], endpoints: Mapping[PortRef, Resource]
    ) -> Mapping[SpiffeId, ResourceSet]:
        judged = {
            ref: self._judged(ref, routes)
            for ref, routes in mesh.routes.items()
            if routes.protocol.is_http
        }
        listeners = self._layer(
            (LISTENER, None),
            tuple(listener for ref in judged for listener in self._listeners(ref, ref)),
        )
        sets = {}
        for client in clients:
            reach = mesh.open | mesh.reach.get(client, frozenset())
            called = sorted({to for ref in reach & judged.keys() for to in called_by(judged[ref])})
            routes = tuple(
                self._route(mesh, ref, judged[ref]) if ref in reach else self._denied(ref, ref)
                for ref in judged
            )
            clusters = (self._no_cluster(None), *(self._called(mesh, ref) for ref in called))
            assigned = (self._no_endpoints(None), *(endpoints[ref] for ref in called))
            sets[client] = self._set(
                client,
                listeners,
                self._layer((ROUTES, client), routes),
                self._layer((CLUSTER, client), clusters),
                self._layer((ENDPOINTS, client), assigned),
            )
        return sets

    def _route(self, mesh: Mesh, ref: PortRef, judged: PortRoutes) -> Resource:
        if judged is mesh.routes[ref]:
            return self._routes(ref, ref, self._shared_host(ref))
        return self._routes(ref, ref, self._host(ref, judged))

    def _called(self, mesh: Mesh, ref: PortRef) -> Resource:
        service = mesh.services[ref.service]
        port = service.port(ref.port)
        assert port is not None, "routes name ports that exist"
        mtls = is_called_by_mtls(service, ref.port)
        return self._cluster(ref, ref, port.identities if mtls else (), mtls)


def _resource_set(
    listeners: Layer, routes: Layer, clusters: Layer, endpoints: Layer
) -> ResourceSet:
    return ResourceSet(
        MappingProxyType(
            {
                CLUSTER: (clusters,),
                ENDPOINTS: (endpoints,),
                LISTENER: (listeners,),
                ROUTES: (routes,),
            }
        )
    )


def _host(routes: PortRoutes) -> HostFragment:
    return outbound_host(routes, allowed=True, local=False)
