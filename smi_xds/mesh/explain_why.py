"""Names for a verdict: which rule and match allowed, and which TrafficTarget came nearest.

Read from the objects that the mesh was made of, and from its problems. Nothing is decided here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from smi_xds.mesh.access import HTTP_ROUTES, TCP_ROUTE, UDP_ROUTE
from smi_xds.mesh.explain_find import workloads_of
from smi_xds.mesh.explain_request import fails
from smi_xds.mesh.explain_values import Admission, Miss, Request
from smi_xds.mesh.matches import read_matches
from smi_xds.mesh.model import Mesh, Protocol, Source, Workload
from smi_xds.objects.kube import Pod
from smi_xds.objects.smi import IdentityBinding, Rule, Subject, TCPRoute, TrafficTarget, UDPRoute
from smi_xds.objects.versions import as_written
from smi_xds.objects.views import Objects
from smi_xds.problems import Problem, ProblemCode, Severity
from smi_xds.values import ObjectRef, ServiceAccountRef, SpiffeId

# An operator looks at one or two; the rest is in `check`.
_SHOWN = 3

# They are told in words of our own, with what was asked for beside them.
_SAID_ANYWAY = frozenset({ProblemCode.NO_SOURCES, ProblemCode.NO_RULES})

_NOTHING = Objects()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A call as the sidecar of `destination` sees it, on its own port."""

    destination: Workload
    port: int
    protocol: Protocol
    identity: SpiffeId | None
    address: str
    request: Request | None

    def admits(self, source: Source, mesh: Mesh) -> bool:
        """Whether a grant's source is this caller; without an address: wherever it runs."""
        if self.identity is None or source.identity != self.identity:
            return False
        if source.addresses is None or self.address:
            return source.admits(self.address or None)
        callers = workloads_of(mesh, self.identity)
        return bool(callers) and all(source.admits(caller.address) for caller in callers)


def admission(mesh: Mesh, name: str, seen: Seen) -> Admission:
    """By which rule and match a TrafficTarget that allows it does."""
    objects = mesh.objects or _NOTHING
    for target in _every_target(objects):
        if _name(target) != name:
            continue
        routes = _port_rules(objects, target, seen.protocol)
        port_rule = next((_rule(it) for it, ports in routes if not ports or seen.port in ports), "")
        for rule, match, failed in _tried(objects, target, seen):
            if not failed:
                return Admission(target=name, rule=_rule(rule), match=match, port_rule=port_rule)
        return Admission(target=name, rule=port_rule, port_rule=port_rule)
    return Admission(target=name, rule="")


def nearest(mesh: Mesh, seen: Seen) -> tuple[Miss, ...]:
    """The TrafficTargets of this destination that fail at the least, each with all that fails."""
    objects = mesh.objects or _NOTHING
    misses = [
        _miss(mesh, it, seen) for it in _every_target(objects) if _protects(objects, it, seen)
    ]
    return tuple(sorted(misses, key=lambda miss: (len(miss.reasons), miss.target))[:_SHOWN])


def _miss(mesh: Mesh, target: TrafficTarget, seen: Seen) -> Miss:
    objects = mesh.objects or _NOTHING
    reasons = [
        *(f"{it.message.rstrip('.')} [{it.code}]" for it in _errors(mesh, target)),
        *_source_reasons(mesh, target, seen),
        *_rule_reasons(objects, target, seen),
    ]
    tried = list(_tried(objects, target, seen))
    if not tried or not all(failed for _, _, failed in tried):
        return Miss(target=_name(target), reasons=tuple(reasons))
    rule, match, failed = min(tried, key=lambda it: len(it[2]))
    where = f"match {match} of {_rule(rule)} does not hold{_others(len(tried) - 1)}"
    reasons.append(f"{where}: {' and '.join(failed)}")
    return Miss(target=_name(target), reasons=tuple(reasons), rule=_rule(rule), match=match)


def _others(number: int) -> str:
    return ("", ", nor does the other one")[number] if number < 2 else f", nor do {number} others"


def _errors(mesh: Mesh, target: TrafficTarget) -> Iterator[Problem]:
    """What is wrong with it, and with the groups that it names."""
    groups = {rule.name for rule in target.rules or () if rule.kind == HTTP_ROUTES}
    refs = {target.ref, *(ObjectRef(HTTP_ROUTES, target.namespace, name) for name in groups)}
    for problem in mesh.problems:
        is_error = problem.code.severity is Severity.ERROR
        if problem.ref in refs and is_error and problem.code not in _SAID_ANYWAY:
            yield problem


# ------------------------------------------------------------------ who


def _source_reasons(mesh: Mesh, target: TrafficTarget, seen: Seen) -> Iterator[str]:
    objects = mesh.objects or _NOTHING
    listed = [it for it in target.sources or () if _is_caller(objects, mesh, target, it, seen)]
    if not listed:
        named = ", ".join(_subject(target, it) for it in target.sources or ()) or "none at all"
        yield f"{_caller(mesh, seen.identity)} is not among its sources ({named})"


def _caller(mesh: Mesh, identity: SpiffeId | None) -> str:
    """In an operator's words: an account of another trust domain may have the name of a source."""
    is_ours = identity is not None and identity.trust_domain == mesh.trust_domain
    account = identity.service_account if identity and is_ours else None
    return str(account or identity)


def _is_caller(
    objects: Objects, mesh: Mesh, target: TrafficTarget, subject: Subject, seen: Seen
) -> bool:
    account = ServiceAccountRef(subject.namespace or target.namespace, subject.name)
    if subject.kind == "ServiceAccount":
        return seen.identity == SpiffeId.of(mesh.trust_domain, account)
    binding = _binding(objects, account)
    if subject.kind != "IdentityBinding" or binding is None or seen.identity is None:
        return False
    pods = [pod for it in workloads_of(mesh, seen.identity) if (pod := _pod(objects, it))]
    if seen.address:
        pods = [pod for pod in pods if seen.address in pod.ips]
    return _binds(binding, seen.identity, pods)


def _protects(objects: Objects, target: TrafficTarget, seen: Seen) -> bool:
    """Whether it speaks of this destination, as far as anybody can tell from its words."""
    subject = target.destination
    if subject is None:
        return False
    account = ServiceAccountRef(subject.namespace or target.namespace, subject.name)
    identity = seen.destination.identity
    if subject.kind != "IdentityBinding":
        return account == identity.service_account
    binding, pod = _binding(objects, account), _pod(objects, seen.destination)
    return binding is not None and _binds(binding, identity, [pod] if pod else [])


def _binding(objects: Objects, name: ServiceAccountRef) -> IdentityBinding | None:
    return objects.identity_bindings.get(ObjectRef("IdentityBinding", name.namespace, name.name))


def _binds(binding: IdentityBinding, identity: SpiffeId, pods: list[Pod]) -> bool:
    """Whether one of its schemes means this identity; by labels, all of these pods."""
    account = identity.service_account
    bound = ServiceAccountRef(binding.namespace, binding.service_account or "")
    if account == bound and bound.name:
        return True
    if str(identity) in (binding.spiffe_identities or ()):
        return True
    labels = frozenset(binding.match_labels or ())
    inside = [pod for pod in pods if pod.namespace == binding.namespace]
    return bool(labels and pods and inside == pods and all(labels <= it.labels for it in pods))


def _pod(objects: Objects, workload: Workload) -> Pod | None:
    group = objects.pods.get(workload.proxy)
    return None if group is None else group.pod


def _subject(target: TrafficTarget, subject: Subject) -> str:
    name = f"{subject.namespace or target.namespace}/{subject.name}"
    return name if subject.kind == "ServiceAccount" else f"{subject.kind} {name}"


# ------------------------------------------------------------------ what


def _rule_reasons(objects: Objects, target: TrafficTarget, seen: Seen) -> Iterator[str]:
    kinds = {rule.kind for rule in target.rules or ()}
    if not kinds:
        yield "it has no rules"
        return
    if seen.protocol is Protocol.UDP:
        if UDP_ROUTE not in kinds:
            yield "it has no UDPRoute, and nothing else admits datagrams"
    elif kinds <= {UDP_ROUTE}:
        yield "its UDPRoutes admit datagrams alone"
    elif HTTP_ROUTES in kinds and seen.protocol.is_tcp:
        yield f"an HTTPRouteGroup admits no connections to a port that speaks {seen.protocol}"
    yield from _port_reasons(objects, target, seen)


def _port_reasons(objects: Objects, target: TrafficTarget, seen: Seen) -> Iterator[str]:
    rules = list(_port_rules(objects, target, seen.protocol))
    listed = sorted({port for _, ports in rules for port in ports})
    if rules and all(ports for _, ports in rules) and seen.port not in listed:
        names = " and ".join(_rule(rule) for rule, _ in rules)
        ports = ", ".join(str(port) for port in listed)
        yield f"the target port {seen.port} is not listed by {names} ({ports})"
    only = target.destination_port
    if only not in (None, seen.port):
        where = as_written("spec.destination.port", target)
        yield f"{where} is {only}, the target port is {seen.port}"


def _port_rules(
    objects: Objects, target: TrafficTarget, protocol: Protocol
) -> Iterator[tuple[Rule, tuple[int, ...]]]:
    """Each rule about the ports of this protocol, with what it lists; nothing means every port."""
    kind = UDP_ROUTE if protocol is Protocol.UDP else TCP_ROUTE
    for rule in target.rules or ():
        ref = ObjectRef(rule.kind, target.namespace, rule.name)
        route: TCPRoute | UDPRoute | None = None
        if rule.kind == kind:
            route = objects.tcp_routes.get(ref) or objects.udp_routes.get(ref)
        if route is not None:
            yield rule, route.ports or ()


def _tried(
    objects: Objects, target: TrafficTarget, seen: Seen
) -> Iterator[tuple[Rule, str, tuple[str, ...]]]:
    """Each match that its rules name, with everything in it that does not hold."""
    request = seen.request
    if request is None or not seen.protocol.is_http:
        return
    for rule in target.rules or ():
        group = objects.http_routes.get(ObjectRef(rule.kind, target.namespace, rule.name))
        for name, match in read_matches(group).by_name if group is not None else ():
            if not rule.matches or name in rule.matches:
                yield rule, name, fails(match, request, request.judged_path)


# ------------------------------------------------------------------ names


def _every_target(objects: Objects) -> Iterator[TrafficTarget]:
    for family in (objects.targets, objects.bound_targets):
        for targets in family.values():
            yield from targets


def _name(target: TrafficTarget) -> str:
    return f"{target.namespace}/{target.name}"


def _rule(rule: Rule) -> str:
    return f"{rule.kind} {rule.name}"
