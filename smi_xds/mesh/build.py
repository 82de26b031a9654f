"""The ordered passes that turn objects into the mesh.

Every pass is a pure function per service, account or pod (`mesh.passes`); a round after one event
recomputes what that event touched, and keeps the rest by identity.
Bad input becomes a problem and grants less; it never stops a round.
"""

from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Any, Final

from smi_xds.mesh.annotations import PodSettings, pod_settings
from smi_xds.mesh.external import nested_splits
from smi_xds.mesh.former import Ports
from smi_xds.mesh.grants import AccessPasses
from smi_xds.mesh.interception import InterceptionPasses
from smi_xds.mesh.matches import RouteMatches, read_matches
from smi_xds.mesh.model import (
    Mesh,
    MeshSettings,
    PortRef,
    PortRoutes,
    Service,
    Sidecar,
    Workload,
)
from smi_xds.mesh.passes import Each, Given, Graph, Whole
from smi_xds.mesh.proxyless import proxyless_problems
from smi_xds.mesh.reach import (
    Admitted,
    Claims,
    Reach,
    admitted,
    bound_ports,
    claims,
    judged_by,
    with_callers,
)
from smi_xds.mesh.services import build_service
from smi_xds.mesh.traffic import Traffic, build_traffic, foreign_root
from smi_xds.mesh.udp import split_to, with_roots
from smi_xds.mesh.workloads import (
    Backing,
    Served,
    ServedPort,
    address_conflicts,
    bound_address,
    build_backing,
    build_workload,
    with_grants,
)
from smi_xds.objects.kube import Namespace
from smi_xds.objects.smi import HTTPRouteGroup, TrafficSplit
from smi_xds.objects.views import Objects, PodGroup, ServiceGroup
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ProxyId, ServiceRef, SpiffeId

ANYONE: Final = "anyone"
"""The one group of a table that is divided in two."""

NO_PORTS: Final[Ports] = {}

NOBODY: Final[Admitted] = {}
"""Whom an identity lets in that no workload has."""


class MeshBuilder:
    """Builds the mesh, round after round; holds nothing but the tables of its passes."""

    def __init__(self, settings: MeshSettings) -> None:
        self._mesh_settings = settings
        graph = self._graph = Graph()
        # What is given: the views of the store.
        self._namespaces: Given[str, Namespace] = graph.given()
        self._service_groups: Given[ServiceRef, ServiceGroup] = graph.given()
        self._pods: Given[ProxyId, PodGroup] = graph.given()
        self._http_routes: Given[ObjectRef, HTTPRouteGroup] = graph.given()
        self._splits: Given[ServiceRef, tuple[TrafficSplit, ...]] = graph.given()
        self._former: Given[ProxyId, tuple[ServedPort, ...]] = graph.given()
        # The passes, each reading what stands before it.
        self._settings = graph.each(self._pods, self._read_settings)
        self._services = graph.each(self._service_groups, self._build_service)
        self._backing = graph.each(self._service_groups, self._build_backing)
        self._serving = graph.each(self._pods, self._read_serving)
        self._served = graph.each(self._pods, self._build_workload)
        self._matches = graph.each(self._http_routes, self._read_matches)
        self._access = AccessPasses(
            graph,
            settings.trust_domain,
            aliases=settings.aliases,
            pods=self._pods,
            served=self._served,
            matches=self._matches,
        )
        self._identities = graph.groups(self._served, _proved)
        self._admitted = graph.each(self._identities, self._read_admitted)
        self._traffic = graph.each(self._services, self._build_traffic)
        self._routed = graph.groups(self._traffic, _routed)
        self._routes = graph.each(self._routed, self._build_routes)
        self._udp_roots = graph.groups(self._routes, split_to)
        self._workloads = graph.each(self._served, self._build_rights)
        self._open = graph.groups(self._routes, _is_open)
        self._reach = graph.groups(self._routes, _callers)
        claims = graph.each(self._services, self._claims)
        self._bound = graph.whole(lambda: bound_ports(claims.mapping().values()))
        self._clients = graph.groups(self._workloads, _is_client)
        self._interception = InterceptionPasses(
            graph,
            services=self._services,
            traffic=self._traffic,
            workloads=self._workloads,
            admitted=self._admitted_at,
        )
        self._problems = self._collected(graph)

    def _collected(self, graph: Graph) -> "Whole[tuple[Problem, ...]]":
        addresses = graph.groups(self._workloads, bound_address)
        tables: tuple[Each[Any, tuple[Problem, ...]], ...] = (
            graph.each(self._settings, lambda it: self._settings[it][1] or None),
            graph.each(self._backing, lambda it: self._backing[it].problems or None),
            graph.each(self._served, lambda it: self._served[it].problems or None),
            graph.each(self._matches, lambda it: self._matches[it].problems or None),
            *self._access.problems,
            graph.each(self._traffic, lambda it: self._traffic[it].problems or None),
            graph.each(self._splits, self._missing_root),
            graph.each(self._splits, self._nested),
            graph.each(addresses, lambda it: address_conflicts(it, addresses[it]) or None),
        )
        proxyless = graph.whole(self._proxyless)

        def collect() -> tuple[Problem, ...]:
            found = (problems for table in tables for problems in table.mapping().values())
            return tuple(sorted(set(chain(proxyless(), self._interception.problems(), *found))))

        return graph.whole(collect)

    @property
    def serving(self) -> Ports:
        """What each pod served for Services in the mesh that was built last."""
        return self._serving.mapping()

    def __call__(self, objects: Objects, *, former: Ports = NO_PORTS) -> Mesh:
        """The mesh of these objects, in which the ports of `former` are open as well."""
        self._namespaces.set(objects.namespaces)
        self._service_groups.set(objects.services)
        self._pods.set(objects.pods)
        self._access.take(objects)
        self._http_routes.set(objects.http_routes)
        self._splits.set(objects.splits)
        self._former.set(former)
        self._graph.run()
        problems = self._problems()
        if objects.problems:
            problems = tuple(sorted({*objects.problems, *problems}))
        return Mesh(
            trust_domain=self._mesh_settings.trust_domain,
            aliases=self._mesh_settings.aliases,
            fading=self._mesh_settings.fading,
            services=self._services.mapping(),
            workloads=self._workloads.mapping(),
            routes=self._routes.mapping(),
            open=self._open.get(ANYONE) or frozenset(),
            reach=self._reach.mapping(),
            bound_ports=self._bound(),
            pods=self._interception.pods,
            destinations=self._interception.destinations,
            identities=self._identities.mapping(),
            problems=problems,
            objects=objects,
        )

    # ------------------------------------------------------------------ the passes

    def _read_settings(self, proxy: ProxyId) -> tuple[PodSettings, tuple[Problem, ...]]:
        namespace = self._namespaces.get(proxy.namespace)
        return pod_settings(self._pods[proxy].pod, namespace, self._mesh_settings)

    def _build_service(self, ref: ServiceRef) -> Service:
        group = self._service_groups[ref]
        settings = tuple(self._settings[pod.proxy][0] for pod in group.pods)
        return build_service(group, settings, self._mesh_settings.trust_domain)

    def _build_backing(self, ref: ServiceRef) -> Backing:
        return build_backing(self._service_groups[ref])

    def _read_serving(self, proxy: ProxyId) -> tuple[ServedPort, ...]:
        return tuple(
            served
            for service in self._pods[proxy].services
            if (backing := self._backing.get(service)) is not None
            for served in backing.pods.get(proxy.name, ())
        )

    def _build_workload(self, proxy: ProxyId) -> Served:
        return build_workload(
            self._pods[proxy].pod,
            self._settings[proxy][0],
            self._serving[proxy],
            former=self._former.get(proxy) or (),
            trust_domain=self._mesh_settings.trust_domain,
        )

    def _read_matches(self, ref: ObjectRef) -> RouteMatches:
        return read_matches(self._http_routes[ref])

    def _build_rights(self, proxy: ProxyId) -> Workload | None:
        workload = self._served[proxy].workload
        if workload is None:
            return None
        return with_roots(self._grant(workload), self._udp_roots.get)

    def _grant(self, workload: Workload) -> Workload:
        return with_grants(workload, self._access.of_workload(workload))

    def _read_admitted(self, identity: SpiffeId) -> Admitted | None:
        # One of each kind: the pods of a large Deployment all let the same callers in.
        found: dict[Hashable, Workload] = {}
        for proxy in self._identities[identity]:
            workload = self._served[proxy].workload
            assert workload is not None, "only workloads prove an identity"
            found.setdefault((judged_by(workload), self._access.bound_to(proxy)), workload)
        return admitted(map(self._grant, found.values())) or None

    def _admitted_at(self, identity: SpiffeId) -> Admitted:
        return self._admitted.get(identity) or NOBODY

    def _build_traffic(self, ref: ServiceRef) -> Traffic:
        splits = self._splits.get(ref) or ()
        return build_traffic(
            self._services[ref],
            splits,
            tuple(self._split_matches(split) for split in splits),
            tuple(
                self._services.get(ServiceRef(split.namespace, backend.service))
                for split in splits
                for backend in split.backends
            ),
        )

    def _split_matches(self, split: TrafficSplit) -> tuple[RouteMatches | None, ...]:
        return tuple(
            self._matches.get(ObjectRef(match.kind, split.namespace, match.name))
            for match in split.matches or ()
        )

    def _build_routes(self, ref: PortRef) -> PortRoutes:
        routes = next(it for it in self._traffic[ref.service].ports if it.ref == ref)
        backends = (self._services.get(name) for name in _backends(routes))
        return with_callers(routes, (it for it in backends if it is not None), self._admitted_at)

    def _claims(self, ref: ServiceRef) -> Claims:
        return claims(self._services[ref])

    def _missing_root(self, root: ServiceRef) -> tuple[Problem, ...] | None:
        if root in self._service_groups:
            return None
        return tuple(_no_root(root, split) for split in self._splits[root])

    def _nested(self, root: ServiceRef) -> tuple[Problem, ...] | None:
        found = nested_splits(self._splits[root], lambda it: bool(self._splits.get(it)))
        return tuple(found) or None

    def _proxyless(self) -> tuple[Problem, ...]:
        if not self._clients.mapping():
            return ()
        workloads = self._workloads.mapping()
        clients = tuple(workloads[proxy] for proxy in self._clients.get(ANYONE) or ())
        reach = Reach(open=self._open.get(ANYONE) or frozenset(), by_identity=self._reach.mapping())
        return proxyless_problems(clients, self._services.mapping(), self._routes.mapping(), reach)


def _backends(port: PortRoutes) -> list[ServiceRef]:
    return sorted({backend.service for entry in port.entries for backend in entry.backends})


def _proved(served: Served) -> tuple[SpiffeId, ...]:
    return (served.workload.identity,) if served.workload is not None else ()


def _no_root(root: ServiceRef, split: TrafficSplit) -> Problem:
    return foreign_root(split) or Problem(
        ref=split.ref,
        field="spec.service",
        code=ProblemCode.MISSING_SERVICE,
        message=f"There is no Service {root}, so the split has no effect.",
        cure="Create it, or correct the name.",
    )


def _routed(traffic: Traffic) -> Iterator[PortRef]:
    return (port.ref for port in traffic.ports)


def _is_open(routes: PortRoutes) -> tuple[str, ...]:
    return (ANYONE,) if routes.callers is None else ()


def _callers(routes: PortRoutes) -> tuple[SpiffeId, ...]:
    return routes.callers or ()


def _is_client(workload: Workload) -> tuple[str, ...]:
    return (ANYONE,) if workload.sidecar is Sidecar.PROXYLESS else ()
