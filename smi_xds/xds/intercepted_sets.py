"""What intercepted sidecars get beside the resources of services: listeners and routes.

A listener and a route configuration per service port, the same bytes for all callers. Last stands
a layer with the denied variant of every service; what an identity may call hides it. So what
changes for somebody else changes nothing for it.
"""

from collections.abc import Iterable, Iterator

from smi_xds.mesh.model import Destination, PortRef, PortRoutes, Workload
from smi_xds.mesh.passes import Graph, Table
from smi_xds.values import ProxyId, SpiffeId
from smi_xds.xds.clusters import denied, inbound_cluster, inbound_passthrough, passthrough
from smi_xds.xds.intercepted import outbound_listener, virtual_inbound, virtual_outbound
from smi_xds.xds.outbound import Callers, in_order
from smi_xds.xds.resources import Layers, Resource, by_type
from smi_xds.xds.routes import inbound_routes, service_routes


class InterceptedSets:
    """Tables of what intercepted sidecars share; where there are none, no address has a meaning."""

    def __init__(
        self,
        graph: Graph,
        *,
        identities: Table[SpiffeId, frozenset[ProxyId]],
        routes: Table[PortRef, PortRoutes],
        destinations: Table[Destination, PortRef],
        callers: Callers,
    ) -> None:
        self._routes, self._callers = routes, callers
        self._at = graph.groups(destinations, lambda ref: (ref,))
        self._protocol = graph.each(self._at, lambda ref: routes[ref].protocol)
        self._http = graph.each(self._at, self._http_listeners)
        self._allowed = graph.each(self._at, lambda ref: self._variant(ref, allowed=True))
        self._denied = graph.each(self._at, lambda ref: self._variant(ref, allowed=False))
        self._order = graph.whole(lambda: in_order(self._denied.mapping()))
        self._denied_all = graph.whole(
            lambda: by_type(*(it for ref in self._order() for it in self._denied[ref]))
        )
        self._open = graph.whole(lambda: self._admitted(callers.open()))
        self._own = graph.each(identities, lambda it: self._admitted(callers.reach(it)))

    def layers(self, identity: SpiffeId) -> tuple[Layers, ...]:
        """What the sidecars of an identity share; the first hides what stands in the others."""
        return self._own[identity], self._open(), self._denied_all()

    def _admitted(self, refs: Iterable[PortRef]) -> Layers:
        return by_type(*(it for ref in in_order(refs) for it in self._allowed.get(ref) or ()))

    def _variant(self, ref: PortRef, *, allowed: bool) -> tuple[Resource, ...]:
        routes = self._routes[ref]
        if routes.protocol.is_http:  # requests are denied by their route
            return (service_routes(routes, allowed=allowed), *self._http[ref])
        return self._listeners(ref, allowed=allowed)

    def _listeners(self, ref: PortRef, *, allowed: bool) -> tuple[Resource, ...]:
        protocol = self._protocol[ref]
        return tuple(
            outbound_listener(destination, ref, protocol, allowed=allowed)
            for destination in sorted(self._at[ref])
        )

    def _http_listeners(self, ref: PortRef) -> tuple[Resource, ...] | None:
        return self._listeners(ref, allowed=True) if self._protocol[ref].is_http else None


def intercepted_resources(workload: Workload) -> Iterator[Resource]:
    """What a sidecar gets for its own workload, and the ways out."""
    yield virtual_outbound(workload)
    yield virtual_inbound(workload)
    for port in workload.ports:
        if port.protocol.is_http:
            yield inbound_routes(workload, port)
        yield inbound_cluster(workload, port)
    yield from (inbound_passthrough(workload), passthrough(), denied())
