"""The passes for intercepted workloads and for pods of headless services."""

from collections.abc import Callable, Iterator, Mapping

from smi_xds.mesh.destinations import (
    NO_DESTINATIONS,
    Claim,
    Destinations,
    address_claims,
    build_destinations,
)
from smi_xds.mesh.headless import pod_routes
from smi_xds.mesh.model import (
    Destination,
    PortRef,
    PortRoutes,
    Service,
    Sidecar,
    Workload,
)
from smi_xds.mesh.passes import Each, Graph, Groups, Table, Whole
from smi_xds.mesh.reach import Admitted
from smi_xds.mesh.traffic import Traffic
from smi_xds.problems import Problem
from smi_xds.values import ProxyId, ServiceRef, SpiffeId

_YES = "yes"


class InterceptionPasses:
    """Who is called by which address, and the pods that are called one by one."""

    def __init__(
        self,
        graph: Graph,
        *,
        services: Table[ServiceRef, Service],
        traffic: Table[ServiceRef, Traffic],
        workloads: Table[ProxyId, Workload],
        admitted: Callable[[SpiffeId], Admitted],
    ) -> None:
        self._services = services
        self._traffic = traffic
        self._admitted = admitted
        self._there: Groups[str, ProxyId, Workload] = graph.groups(workloads, _is_intercepted)
        self._claims: Each[ServiceRef, tuple[Claim, ...]]
        self._claims = graph.each(services, lambda it: address_claims(services[it]) or None)
        self._routes: Each[ServiceRef, tuple[PortRoutes, ...]]
        self._routes = graph.each(services, self._pod_routes)
        self._destinations: Whole[Destinations] = graph.whole(self._build_destinations)
        self._pods: Whole[Mapping[PortRef, PortRoutes]] = graph.whole(self._all_pods)

    @property
    def destinations(self) -> Mapping[Destination, PortRef]:
        """What intercepted workloads mean by an address; nothing where there is none of them."""
        return self._destinations().found

    @property
    def pods(self) -> Mapping[PortRef, PortRoutes]:
        """The routes to each pod of headless services, without a name only where intercepted."""
        return self._pods()

    def problems(self) -> tuple[Problem, ...]:
        """Addresses that several services claim."""
        return self._destinations().problems

    def _build_destinations(self) -> Destinations:
        if not self._there.mapping():
            return NO_DESTINATIONS
        return build_destinations(self._claims.mapping().values())

    def _pod_routes(self, ref: ServiceRef) -> tuple[PortRoutes, ...] | None:
        service = self._services[ref]
        if not service.headless:
            return None
        return pod_routes(service, self._traffic[ref].ports, self._admitted)

    def _all_pods(self) -> Mapping[PortRef, PortRoutes]:
        intercepted = bool(self._there.mapping())
        found = (routes for group in self._routes.mapping().values() for routes in group)
        return {it.ref: it for it in found if intercepted or not it.ref.is_address}


def _is_intercepted(workload: Workload) -> Iterator[str]:
    if workload.sidecar is Sidecar.INTERCEPTED:
        yield _YES
