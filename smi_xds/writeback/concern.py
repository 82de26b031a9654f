"""Which proxies an object concerns: those of its destination, and those who call. Pure.

Read from the mesh: an identity stands for all of its proxies, and pods that an IdentityBinding
selects stand for themselves.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import assert_never

from smi_xds.mesh.bindings import read_binding
from smi_xds.mesh.model import Mesh, PortRef, Protocol, Service
from smi_xds.mesh.subjects import ACCOUNT, BINDING
from smi_xds.objects.kube import Pod
from smi_xds.objects.smi import (
    HTTPRouteGroup,
    IdentityBinding,
    SmiObject,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi_xds.objects.views import Objects
from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef, ServiceRef, SpiffeId


@dataclass(frozen=True, slots=True)
class Concern:
    """Some proxies."""

    identities: frozenset[SpiffeId] = frozenset()
    proxies: frozenset[ProxyId] = frozenset()
    is_everyone: bool = False


NOBODY = Concern()
EVERYONE = Concern(is_everyone=True)


def smi_objects(objects: Objects) -> Iterator[SmiObject]:
    """Every SMI object."""
    for targets in objects.targets.values():
        yield from targets
    for targets in objects.bound_targets.values():
        yield from targets
    yield from objects.identity_bindings.values()
    yield from objects.http_routes.values()
    yield from objects.tcp_routes.values()
    yield from objects.udp_routes.values()
    for splits in objects.splits.values():
        yield from splits


class Concerns:
    """Asked about the objects of one mesh; remembers what it answered."""

    def __init__(self, mesh: Mesh) -> None:
        assert mesh.objects is not None, "a mesh that was built of objects"
        self._mesh = mesh
        self._objects = mesh.objects
        self._found: dict[ObjectRef, Concern] = {}
        self._users: dict[ObjectRef, list[TrafficTarget | TrafficSplit]] = defaultdict(list)
        self._pods: dict[str, list[Pod]] | None = None
        for it in smi_objects(self._objects):
            if isinstance(it, TrafficTarget | TrafficSplit):
                for ref in _named(it):
                    self._users[ref].append(it)

    def of(self, it: SmiObject) -> Concern:
        """The proxies that this object of the mesh concerns."""
        found = self._found.get(it.ref)
        if found is None:
            found = self._found[it.ref] = self._find(it)
        return found

    def _find(self, it: SmiObject) -> Concern:
        match it:
            case TrafficTarget():
                return _united(self._subject(subject, it) for subject in _subjects(it))
            case TrafficSplit():
                return self._split(it)
            case IdentityBinding() | HTTPRouteGroup() | TCPRoute() | UDPRoute():
                return _united(self.of(user) for user in self._users.get(it.ref, ()))
            case never:
                assert_never(never)

    def _subject(self, subject: Subject, target: TrafficTarget) -> Concern:
        namespace = subject.namespace or target.namespace
        if subject.kind == ACCOUNT:
            return self._accounts([ServiceAccountRef(namespace, subject.name)])
        ref = ObjectRef(subject.kind, namespace, subject.name)
        binding = self._objects.identity_bindings.get(ref)
        if binding is None:
            return NOBODY
        candidates = self._pods_in(namespace) if binding.match_labels else ()
        meant = read_binding(
            binding, candidates, exists=lambda _: True, trust_domain=self._mesh.trust_domain
        )
        return Concern(self._accounts(meant.accounts).identities, meant.pods)

    def _accounts(self, accounts: Iterable[ServiceAccountRef]) -> Concern:
        return Concern(frozenset(SpiffeId.of(self._mesh.trust_domain, it) for it in accounts))

    def _pods_in(self, namespace: str) -> Iterable[Pod]:
        if self._pods is None:
            self._pods = defaultdict(list)
            for group in self._objects.pods.values():
                self._pods[group.pod.namespace].append(group.pod)
        return self._pods.get(namespace, ())

    def _split(self, split: TrafficSplit) -> Concern:
        """Who calls its root on a port on which it counts."""
        root = ServiceRef(split.namespace, split.service.partition(".")[0])
        service = self._mesh.services.get(root)
        ports = () if service is None else service.ports
        return _united(
            self._split_port(split, PortRef(root, it.number, udp=it.protocol is Protocol.UDP))
            for it in ports
        )

    def _split_port(self, split: TrafficSplit, ref: PortRef) -> Concern:
        routes = self._mesh.routes.get(ref)
        name = f"{split.namespace}/{split.name}"
        if routes is None or all(entry.split != name for entry in routes.entries):
            return NOBODY
        if routes.callers is None:
            return EVERYONE
        callers = Concern(frozenset(routes.callers))
        if not ref.udp:
            return callers
        # Callers ask for the split's root, which the workloads behind it have to know.
        backends = (self._mesh.services.get(b.service) for e in routes.entries for b in e.backends)
        return _united((callers, *(_behind(it, ref) for it in backends if it is not None)))


def _named(it: TrafficTarget | TrafficSplit) -> set[ObjectRef]:
    """The objects of SMI that it names."""
    if isinstance(it, TrafficTarget):
        rules = {ObjectRef(rule.kind, it.namespace, rule.name) for rule in it.rules or ()}
        subjects = {
            ObjectRef(subject.kind, subject.namespace or it.namespace, subject.name)
            for subject in _subjects(it)
            if subject.kind == BINDING
        }
        return rules | subjects
    return {ObjectRef(match.kind, it.namespace, match.name) for match in it.matches or ()}


def _subjects(target: TrafficTarget) -> Iterator[Subject]:
    if target.destination is not None:
        yield target.destination
    yield from target.sources or ()


def _behind(service: Service, ref: PortRef) -> Concern:
    port = service.port(ref.port, udp=ref.udp)
    return NOBODY if port is None else Concern(frozenset(port.identities))


def _united(concerns: Iterable[Concern]) -> Concern:
    found = [it for it in concerns if it != NOBODY]
    if any(it.is_everyone for it in found):
        return EVERYONE
    match found:
        case []:
            return NOBODY
        case [one]:
            return one
        case _:
            return Concern(
                frozenset().union(*(it.identities for it in found)),
                frozenset().union(*(it.proxies for it in found)),
            )
