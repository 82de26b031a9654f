"""What service ports are to their callers: a cluster, its endpoints, the identities expected there.

Encoded once for the whole mesh: none of it depends on who asks.
"""

from collections.abc import Callable
from dataclasses import replace

from smi_xds.mesh.model import Endpoint, PortRef, PortRoutes, Service, ServicePort
from smi_xds.mesh.passes import Each, Graph, Table
from smi_xds.values import ServiceRef, SpiffeId
from smi_xds.xds import names
from smi_xds.xds.clusters import outbound_cluster
from smi_xds.xds.endpoints import EndpointEncoder, Group
from smi_xds.xds.resources import Resource
from smi_xds.xds.secrets import peers_secret
from smi_xds.xds.shares import disjoint
from smi_xds.xds.udp import outbound_udp_cluster, tunnel_ends


class Backends:
    """Tables of resources by service port."""

    def __init__(
        self,
        graph: Graph,
        *,
        services: Table[ServiceRef, Service],
        routes: Table[PortRef, PortRoutes],
        trust_bundle: Callable[[], bytes],
    ) -> None:
        self._services, self._routes, self._trust_bundle = services, routes, trust_bundle
        self._nature = graph.each(routes, lambda ref: (routes[ref].protocol, routes[ref].outside))
        self._behind = graph.each(routes, self._find)
        # Each keeps the bytes of its last endpoints: of a thousand one is encoded.
        self._encoder: Each[PortRef, EndpointEncoder]
        self._encoder = graph.each(routes, lambda _: EndpointEncoder())
        self.clusters = graph.each(routes, self._cluster)
        self.endpoints = graph.each(routes, self._assignment)
        self.peers = graph.each(routes, self._expected)

    def _find(self, ref: PortRef) -> tuple[tuple[Group, ...], tuple[SpiffeId, ...]]:
        """The endpoints behind a service port's own cluster, and the identities expected there."""
        routes = self._routes[ref]
        if not routes.protocol.is_http and routes.entries[0].split:
            groups, identities = [], set[SpiffeId]()
            for backend in routes.entries[0].backends:
                port = self._port(replace(ref, service=backend.service))
                identities.update(port.identities)
                # Envoy gives no connections to a locality without a weight; it need not know it.
                if backend.weight:
                    endpoints = _endpoints(port, routes)
                    group = Group(
                        name=str(backend.service), weight=backend.weight, endpoints=endpoints
                    )
                    groups.append(group)
            return disjoint(tuple(groups)), tuple(sorted(identities))
        port = self._port(ref)
        endpoints = _endpoints(port, routes)
        groups = [Group(endpoints=endpoints)] if endpoints else []
        return tuple(groups), port.identities

    def _port(self, ref: PortRef) -> ServicePort:
        port = self._services[ref.service].port(ref.port, udp=ref.udp)
        assert port is not None, "routes name ports that exist"
        return dict(port.pods)[ref.pod] if ref.pod else port

    def _cluster(self, ref: PortRef) -> Resource:
        protocol, outside = self._nature[ref]
        if ref.udp:
            return outbound_udp_cluster(ref, outside=outside)
        return outbound_cluster(ref, protocol)

    def _assignment(self, ref: PortRef) -> Resource:
        groups, _ = self._behind[ref]
        return self._encoder[ref](names.outbound_cluster(ref), groups)

    def _expected(self, ref: PortRef) -> Resource:
        _, identities = self._behind[ref]
        return peers_secret(ref, identities, self._trust_bundle())


def _endpoints(port: ServicePort, routes: PortRoutes) -> tuple[Endpoint, ...]:
    return tunnel_ends(port.endpoints) if routes.ref.udp and not routes.outside else port.endpoints
