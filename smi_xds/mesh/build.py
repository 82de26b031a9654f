"""The ordered passes that turn objects into the mesh.

Every pass is a pure function per service, account or pod, memoised on exactly what it reads;
a round after one event recomputes what that event touched, and keeps the rest by identity.
Bad input becomes a problem and grants less; it never stops a round.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from smi_xds.mesh.access import (
    HTTP_ROUTES,
    TCP_ROUTE,
    Access,
    AccountPorts,
    RuleRoute,
    build_access,
)
from smi_xds.mesh.annotations import PodSettings, pod_settings
from smi_xds.mesh.matches import RouteMatches, read_matches
from smi_xds.mesh.memo import Memo
from smi_xds.mesh.model import (
    Grant,
    Mesh,
    MeshSettings,
    PortRef,
    PortRoutes,
    Service,
    Sidecar,
    Workload,
)
from smi_xds.mesh.proxyless import proxyless_problems
from smi_xds.mesh.reach import bound_ports, build_reach, with_callers
from smi_xds.mesh.services import build_service
from smi_xds.mesh.traffic import Traffic, build_traffic, foreign_root
from smi_xds.mesh.workloads import (
    Backing,
    Served,
    account_ports,
    address_conflicts,
    build_backing,
    build_workload,
    with_grants,
)
from smi_xds.objects.smi import TrafficSplit, TrafficTarget
from smi_xds.objects.views import Objects
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef, ServiceRef, SpiffeId


class MeshBuilder:
    """Builds the mesh, round after round; holds nothing but the memos of its passes."""

    def __init__(self, settings: MeshSettings) -> None:
        self._settings = settings
        self._pod_settings: Memo[ProxyId, ..., tuple[PodSettings, tuple[Problem, ...]]]
        self._pod_settings = Memo(pod_settings)
        self._service: Memo[ServiceRef, ..., Service] = Memo(build_service)
        self._backing: Memo[ServiceRef, ..., Backing] = Memo(build_backing)
        self._workload: Memo[ProxyId, ..., Served] = Memo(build_workload)
        self._matches: Memo[ObjectRef, ..., RouteMatches] = Memo(read_matches)
        self._ports: Memo[ServiceAccountRef, ..., AccountPorts] = Memo(account_ports)
        self._access: Memo[ServiceAccountRef, ..., Access] = Memo(build_access)
        self._granted: Memo[ProxyId, ..., Workload] = Memo(with_grants)
        self._traffic: Memo[ServiceRef, ..., Traffic] = Memo(build_traffic)
        self._callers: Memo[PortRef, ..., PortRoutes] = Memo(with_callers)
        self._bound: Memo[None, ..., Mapping[PortRef, int]] = Memo(bound_ports)
        self._conflicts: Memo[None, ..., tuple[Problem, ...]] = Memo(address_conflicts)
        self._proxyless: Memo[None, ..., tuple[Problem, ...]] = Memo(proxyless_problems)

    def __call__(self, objects: Objects) -> Mesh:
        """The mesh of these objects."""
        domain = self._settings.trust_domain
        pods = self._pods(objects)
        services = self._services(objects, pods)
        backing = {ref: self._backing(ref, group) for ref, group in objects.services.items()}
        served = self._served(objects, pods, backing)
        matches = {ref: self._matches(ref, group) for ref, group in objects.http_routes.items()}
        access = self._accounts(objects, served, matches)
        grants = {SpiffeId.of(domain, a): found.grants for a, found in access.items()}
        workloads = {
            proxy: self._granted(proxy, one.workload, grants.get(one.workload.identity, ()))
            for proxy, one in served.items()
            if one.workload is not None
        }
        traffic = self._traffics(objects, services, matches)
        routes = self._routes(services, traffic, grants)
        reach = build_reach(routes)
        clients = tuple(w for w in workloads.values() if w.sidecar is Sidecar.PROXYLESS)
        problems = chain(
            objects.problems,
            (problem for _, found in pods.values() for problem in found),
            (problem for found in backing.values() for problem in found.problems),
            (problem for one in served.values() for problem in one.problems),
            (problem for found in matches.values() for problem in found.problems),
            (problem for found in access.values() for problem in found.problems),
            (problem for found in traffic.values() for problem in found.problems),
            _missing_roots(objects),
            self._conflicts(None, tuple(workloads.values())),
            self._proxyless(None, clients, services, routes, reach) if clients else (),
        )
        mesh = Mesh(
            trust_domain=domain,
            services=services,
            workloads=workloads,
            routes=routes,
            open=reach.open,
            reach=reach.by_identity,
            bound_ports=self._bound(None, services),
            problems=tuple(sorted(set(problems))),
        )
        self._sweep()
        return mesh

    def _sweep(self) -> None:
        for memo in vars(self).values():
            if isinstance(memo, Memo):
                memo.sweep()

    def _pods(self, objects: Objects) -> Mapping[ProxyId, tuple[PodSettings, tuple[Problem, ...]]]:
        return {
            proxy: self._pod_settings(
                proxy, group.pod, objects.namespaces.get(proxy.namespace), self._settings
            )
            for proxy, group in objects.pods.items()
        }

    def _services(
        self,
        objects: Objects,
        pods: Mapping[ProxyId, tuple[PodSettings, tuple[Problem, ...]]],
    ) -> Mapping[ServiceRef, Service]:
        return {
            ref: self._service(
                ref,
                group,
                tuple(pods[pod.proxy][0] for pod in group.pods),
                self._settings.trust_domain,
            )
            for ref, group in sorted(objects.services.items())
        }

    def _served(
        self,
        objects: Objects,
        pods: Mapping[ProxyId, tuple[PodSettings, tuple[Problem, ...]]],
        backing: Mapping[ServiceRef, Backing],
    ) -> Mapping[ProxyId, Served]:
        return {
            proxy: self._workload(
                proxy,
                group.pod,
                pods[proxy][0],
                tuple(
                    served
                    for service in group.services
                    if service in backing
                    for served in backing[service].pods.get(proxy.name, ())
                ),
                self._settings.trust_domain,
            )
            for proxy, group in sorted(objects.pods.items())
        }

    def _accounts(
        self,
        objects: Objects,
        served: Mapping[ProxyId, Served],
        matches: Mapping[ObjectRef, RouteMatches],
    ) -> Mapping[ServiceAccountRef, Access]:
        found = {}
        for account, targets in sorted(objects.targets.items()):
            pods = objects.pods_of.get(account, ())
            ports = self._ports(account, tuple(served[pod.proxy] for pod in pods))
            found[account] = self._access(
                account,
                targets,
                tuple(_referred(target, objects, matches) for target in targets),
                frozenset(a for a in _named(targets) if _exists(a, objects)),
                ports,
                self._settings.trust_domain,
            )
        return found

    def _traffics(
        self,
        objects: Objects,
        services: Mapping[ServiceRef, Service],
        matches: Mapping[ObjectRef, RouteMatches],
    ) -> Mapping[ServiceRef, Traffic]:
        found = {}
        for ref, service in services.items():
            splits = objects.splits.get(ref, ())
            found[ref] = self._traffic(
                ref,
                service,
                splits,
                tuple(_split_matches(split, matches) for split in splits),
                tuple(
                    services.get(ServiceRef(split.namespace, backend.service))
                    for split in splits
                    for backend in split.backends
                ),
            )
        return found

    def _routes(
        self,
        services: Mapping[ServiceRef, Service],
        traffic: Mapping[ServiceRef, Traffic],
        grants: Mapping[SpiffeId, tuple[Grant, ...]],
    ) -> Mapping[PortRef, PortRoutes]:
        routes = {}
        for found in traffic.values():
            for port in found.ports:
                ref = PortRef(port.service, port.port)
                backends = tuple(services.get(name) for name in _backends(port))
                identities = sorted({i for b in backends if b for i in _identities(b, port.port)})
                routes[ref] = self._callers(
                    ref, port, backends, tuple((i, grants.get(i, ())) for i in identities)
                )
        return routes


def _referred(
    target: TrafficTarget, objects: Objects, matches: Mapping[ObjectRef, RouteMatches]
) -> tuple[RuleRoute, ...]:
    referred: list[RuleRoute] = []
    for rule in target.rules or ():
        ref = ObjectRef(rule.kind, target.namespace, rule.name)
        if rule.kind == HTTP_ROUTES:
            referred.append(matches.get(ref))
        elif rule.kind == TCP_ROUTE:
            referred.append(objects.tcp_routes.get(ref))
        else:
            referred.append(None)
    return tuple(referred)


def _named(targets: Iterable[TrafficTarget]) -> Iterator[ServiceAccountRef]:
    for target in targets:
        destination = (target.destination,) if target.destination is not None else ()
        for subject in (*destination, *(target.sources or ())):
            yield ServiceAccountRef(subject.namespace or target.namespace, subject.name)


def _exists(account: ServiceAccountRef, objects: Objects) -> bool:
    return account in objects.accounts or account in objects.pods_of


def _split_matches(
    split: TrafficSplit, matches: Mapping[ObjectRef, RouteMatches]
) -> tuple[RouteMatches | None, ...]:
    return tuple(
        matches.get(ObjectRef(match.kind, split.namespace, match.name))
        for match in split.matches or ()
    )


def _backends(port: PortRoutes) -> list[ServiceRef]:
    return sorted({backend.service for entry in port.entries for backend in entry.backends})


def _identities(service: Service, number: int) -> tuple[SpiffeId, ...]:
    port = service.port(number)
    return port.identities if port is not None else ()


def _missing_roots(objects: Objects) -> Iterator[Problem]:
    for root, splits in objects.splits.items():
        if root in objects.services:
            continue
        for split in splits:
            yield foreign_root(split) or Problem(
                ref=split.ref,
                field="spec.service",
                code=ProblemCode.MISSING_SERVICE,
                message=f"There is no Service {root}, so the split has no effect.",
                cure="Create it, or correct the name.",
            )
