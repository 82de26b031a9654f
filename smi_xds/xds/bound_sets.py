"""What bound sidecars get beside the resources of services: listeners, and one table of routes."""

from collections.abc import Callable, Iterator

from smi_xds.mesh.model import PortRef, PortRoutes, Workload
from smi_xds.mesh.passes import Graph, Table
from smi_xds.values import ProxyId, SpiffeId
from smi_xds.xds.bound import inbound_listener, outbound_http_listener, outbound_tcp_listener
from smi_xds.xds.clusters import inbound_cluster
from smi_xds.xds.outbound import Callers, in_order
from smi_xds.xds.resources import Layers, Resource, by_type
from smi_xds.xds.routes import HostFragment, inbound_routes, outbound_host, outbound_routes


class Hosts:
    """Tables of the virtual hosts of service ports, two each: for other namespaces and its own."""

    def __init__(
        self, graph: Graph, routes: Table[PortRef, PortRoutes], wanted: Callable[[], bool]
    ) -> None:
        self._routes, self._wanted = routes, wanted
        http = graph.each(routes, lambda ref: True if _has_host(routes[ref]) else None)
        self._order = graph.whole(lambda: in_order(http.mapping()))
        self._allowed = graph.each(http, lambda ref: self._hosts(ref, allowed=True))
        self._denied = graph.each(http, lambda ref: self._hosts(ref, allowed=False))

    def allowed(self, ref: PortRef, *, local: bool) -> HostFragment:
        """As somebody with a right to it gets it."""
        return self._allowed[ref][local]

    def table(self, reach: frozenset[PortRef], namespace: str) -> Resource:
        """Every HTTP service by Host, as a caller in a namespace with this reach gets them."""
        return outbound_routes(
            tuple(
                (self._allowed if ref in reach else self._denied)[ref][
                    ref.service.namespace == namespace
                ]
                for ref in self._order()
            )
        )

    def _hosts(self, ref: PortRef, *, allowed: bool) -> tuple[HostFragment, HostFragment] | None:
        if not self._wanted():
            return None
        routes = self._routes[ref]
        return (
            outbound_host(routes, allowed=allowed, local=False),
            outbound_host(routes, allowed=allowed, local=True),
        )


def _has_host(routes: PortRoutes) -> bool:
    return routes.protocol.is_http and not routes.ref.is_address


class BoundSets:
    """Tables of what bound sidecars of one identity share."""

    def __init__(
        self,
        graph: Graph,
        *,
        identities: Table[SpiffeId, frozenset[ProxyId]],
        hosts: Hosts,
        callers: Callers,
    ) -> None:
        self._hosts, self._callers = hosts, callers
        self._table = graph.each(identities, self._routes)

    def layers(self, identity: SpiffeId) -> tuple[Layers, ...]:
        """What the sidecars of an identity share."""
        return (by_type(self._table[identity]),)

    def _routes(self, identity: SpiffeId) -> Resource:
        account = identity.service_account
        reach = self._callers.reach(identity) | self._callers.open()
        return self._hosts.table(reach, account.namespace if account else "")


def bound_resources(
    workload: Workload, local: tuple[tuple[PortRef, int], ...]
) -> Iterator[Resource]:
    """What a sidecar gets for its own workload and address; `local` are its ports for services."""
    yield outbound_http_listener(workload)
    for ref, number in local:
        if not ref.udp:
            yield outbound_tcp_listener(workload, ref, number)
    for port in workload.ports:
        if (listener := inbound_listener(workload, port)) is not None:
            yield listener
        if port.protocol.is_http:
            yield inbound_routes(workload, port)
        yield inbound_cluster(workload, port)
