"""The passes of access: from TrafficTargets and IdentityBindings to the grants of each workload.

A TrafficTarget for a service account is read with the others of that account. One for an
IdentityBinding is read by itself, and stands at the accounts and the single pods that it means.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from smi_xds.mesh.access import (
    HTTP_ROUTES,
    TCP_ROUTE,
    UDP_ROUTE,
    Access,
    AccountPorts,
    RuleRoute,
    build_access,
)
from smi_xds.mesh.bindings import Binding, label_of, labels_of, read_binding
from smi_xds.mesh.matches import RouteMatches
from smi_xds.mesh.model import Grant, Workload
from smi_xds.mesh.passes import Each, Given, Graph, Table
from smi_xds.mesh.subjects import ACCOUNT, Named, bound_destination, subjects_of
from smi_xds.mesh.workloads import Served, account_ports
from smi_xds.objects.kube import Pod, ServiceAccount
from smi_xds.objects.smi import IdentityBinding, TCPRoute, TrafficTarget, UDPRoute
from smi_xds.objects.views import Objects, PodGroup
from smi_xds.problems import Problem
from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bound:
    """What one TrafficTarget for an IdentityBinding grants, and at whom."""

    access: Access
    accounts: frozenset[ServiceAccountRef] = frozenset()
    pods: frozenset[ProxyId] = frozenset()


class AccessPasses:
    """Tables from the objects of access to grants."""

    def __init__(
        self,
        graph: Graph,
        trust_domain: str,
        *,
        aliases: tuple[str, ...],
        pods: Table[ProxyId, PodGroup],
        served: Table[ProxyId, Served],
        matches: Table[ObjectRef, RouteMatches],
    ) -> None:
        self._trust_domain, self._aliases = trust_domain, aliases
        self._pods, self._served, self._matches = pods, served, matches
        self._accounts: Given[ServiceAccountRef, ServiceAccount] = graph.given()
        self._pods_of: Given[ServiceAccountRef, tuple[Pod, ...]] = graph.given()
        self._targets: Given[ServiceAccountRef, tuple[TrafficTarget, ...]] = graph.given()
        self._bound_targets: Given[str, tuple[TrafficTarget, ...]] = graph.given()
        self._identity_bindings: Given[ObjectRef, IdentityBinding] = graph.given()
        self._tcp_routes: Given[ObjectRef, TCPRoute] = graph.given()
        self._udp_routes: Given[ObjectRef, UDPRoute] = graph.given()
        self._labelled = graph.groups(pods, lambda group: labels_of(group.pod))
        self._bindings = graph.each(self._identity_bindings, self._read_binding)
        self._ports = graph.each(self._targets, self._account_ports)
        self._access = graph.each(self._targets, self._build_access)
        by_name = graph.groups(self._bound_targets, lambda targets: (it.ref for it in targets))
        self._bound_target = graph.each(by_name, self._find_bound_target)
        self._bound = graph.each(self._bound_target, self._build_bound)
        self._bound_by_account = graph.groups(self._bound, lambda it: it.accounts)
        self._bound_by_pod = graph.groups(self._bound, lambda it: it.pods)
        self.problems: tuple[Each[Any, tuple[Problem, ...]], ...] = (
            graph.each(self._bindings, lambda it: self._bindings[it].problems or None),
            graph.each(self._access, lambda it: self._access[it].problems or None),
            graph.each(self._bound, lambda it: self._bound[it].access.problems or None),
        )
        """What is wrong with these objects, in tables."""

    def take(self, objects: Objects) -> None:
        """Take a new state."""
        self._accounts.set(objects.accounts)
        self._pods_of.set(objects.pods_of)
        self._targets.set(objects.targets)
        self._bound_targets.set(objects.bound_targets)
        self._identity_bindings.set(objects.identity_bindings)
        self._tcp_routes.set(objects.tcp_routes)
        self._udp_routes.set(objects.udp_routes)

    def of_workload(self, workload: Workload) -> tuple[Grant, ...]:
        """The grants that hold at a workload."""
        account = workload.identity.service_account
        assert account is not None, "identities of workloads are accounts"
        by_account = self._bound_by_account.get(account) or frozenset()
        return self._united(account, by_account | self.bound_to(workload.proxy))

    def bound_to(self, proxy: ProxyId) -> frozenset[ObjectRef]:
        """The TrafficTargets that protect this pod by an IdentityBinding which selects it."""
        return self._bound_by_pod.get(proxy) or frozenset()

    def _united(self, account: ServiceAccountRef, bound: frozenset[ObjectRef]) -> tuple[Grant, ...]:
        direct = self._access.get(account)
        grants = direct.grants if direct is not None else ()
        if not bound:
            return grants
        found = (grant for ref in bound for grant in self._bound[ref].access.grants)
        return tuple(sorted((*grants, *found), key=lambda grant: grant.target))

    def _read_binding(self, ref: ObjectRef) -> Binding:
        binding = self._identity_bindings[ref]
        label = label_of(binding)
        selected = self._labelled.get(label) if label is not None else None
        return read_binding(
            binding,
            [self._pods[proxy].pod for proxy in selected or ()],
            exists=self._exists,
            trust_domain=self._trust_domain,
            aliases=self._aliases,
        )

    def _account_ports(self, account: ServiceAccountRef) -> AccountPorts:
        return account_ports(self._served[proxy] for proxy in self._proxies(account))

    def _build_access(self, account: ServiceAccountRef) -> Access:
        return self._read(self._targets[account], self._ports[account])

    def _find_bound_target(self, ref: ObjectRef) -> TrafficTarget:
        return next(it for it in self._bound_targets[ref.namespace] if it.name == ref.name)

    def _build_bound(self, ref: ObjectRef) -> _Bound:
        target = self._bound_target[ref]
        name = bound_destination(target)
        binding = self._bindings.get(name) if name is not None else None
        if binding is None:
            return _Bound(access=self._read((target,), AccountPorts()))
        proxies = set(binding.pods)
        for account in binding.accounts:
            proxies.update(self._proxies(account))
        ports = account_ports(self._served[proxy] for proxy in sorted(proxies))
        return _Bound(
            access=self._read((target,), ports),
            accounts=binding.accounts,
            pods=binding.pods,
        )

    def _read(self, targets: tuple[TrafficTarget, ...], ports: AccountPorts) -> Access:
        routes = tuple(tuple(self._referred(target)) for target in targets)
        named = self._named({ref for target in targets for ref in subjects_of(target)})
        return build_access(targets, routes, named, ports, self._trust_domain)

    def _referred(self, target: TrafficTarget) -> Iterator[RuleRoute]:
        for rule in target.rules or ():
            ref = ObjectRef(rule.kind, target.namespace, rule.name)
            if rule.kind == HTTP_ROUTES:
                yield self._matches.get(ref)
            elif rule.kind == TCP_ROUTE:
                yield self._tcp_routes.get(ref)
            elif rule.kind == UDP_ROUTE:
                yield self._udp_routes.get(ref)
            else:
                yield None

    def _named(self, refs: set[ObjectRef]) -> Named:
        accounts = {ServiceAccountRef(r.namespace, r.name) for r in refs if r.kind == ACCOUNT}
        bindings = {r: binding for r in refs if (binding := self._bindings.get(r)) is not None}
        return Named(
            accounts=frozenset(account for account in accounts if self._exists(account)),
            bindings=bindings,
        )

    def _exists(self, account: ServiceAccountRef) -> bool:
        return account in self._accounts or account in self._pods_of

    def _proxies(self, account: ServiceAccountRef) -> Iterator[ProxyId]:
        return (pod.proxy for pod in self._pods_of.get(account) or ())
