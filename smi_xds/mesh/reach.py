"""Who may call which service port, seen from the caller: what each sidecar needs to know."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeAlias

from smi_xds.mesh.model import (
    Grant,
    PortRef,
    PortRoutes,
    Protocol,
    Service,
    ServicePort,
    Workload,
)
from smi_xds.values import AccessMode, ServiceRef, SpiffeId


@dataclass(frozen=True, slots=True)
class Door:
    """A target port, as one service leads to it."""

    service: ServiceRef
    number: int
    udp: bool


Admitted: TypeAlias = Mapping[Door, frozenset[SpiffeId]]
"""Whom the workloads of one identity let in at each of their doors, from anywhere or from some
address."""


def admitted(workloads: Iterable[Workload]) -> Admitted:
    """Read it from the very grants by which they judge.

    Their word counts and not the service's: they may speak another protocol than it says, and
    not see what address a caller has.
    """
    found: defaultdict[Door, set[SpiffeId]] = defaultdict(set)
    for workload in workloads:
        for door, grants in _doors(workload):
            found[door].update(source.identity for grant in grants for source in grant.sources)
    return {door: frozenset(callers) for door, callers in found.items()}


def judged_by(workload: Workload) -> Hashable:
    """What decides, beside the TrafficTargets, whom a workload lets in."""
    return workload.ports, workload.udp_ports, workload.sidecar.sees_addresses


def _doors(workload: Workload) -> Iterator[tuple[Door, tuple[Grant, ...]]]:
    for port in workload.ports:
        for service in port.services:
            yield Door(service, port.number, udp=False), port.grants
    for udp_port in workload.udp_ports:
        for name in dict.fromkeys(ref.service for ref in udp_port.services):
            yield Door(name, udp_port.number, udp=True), udp_port.grants


def with_callers(
    routes: PortRoutes,
    backends: Iterable[Service],
    at: Callable[[SpiffeId], Admitted],
) -> PortRoutes:
    """The routes with everyone who has a right to anything behind them.

    `backends` are the services that the entries name; `at` says whom the workloads of an identity
    let in. Access is enforced where traffic arrives: an endpoint outside the mesh has nobody who
    could, so anyone may call it.
    """
    udp = routes.ref.udp
    there = ((it.service, port) for it in backends if (port := it.port(routes.port, udp=udp)))
    ports = [(service, port) for service, port in there if port.targets]
    if not ports:
        # Nothing to protect, and nobody to ask: the honest answer is 503, not 403.
        return replace(routes, callers=None)
    callers: set[SpiffeId] = set()
    for service, port in ports:
        found = _callers(service, port, at)
        if found is None:
            return replace(routes, callers=None)
        callers |= found
    return replace(routes, callers=tuple(sorted(callers)))


def _callers(
    service: ServiceRef, port: ServicePort, at: Callable[[SpiffeId], Admitted]
) -> set[SpiffeId] | None:
    callers: set[SpiffeId] = set()
    for target in port.targets:
        if target.identity is None or target.access is not AccessMode.STRICT:
            return None
        door = Door(service, target.port, udp=port.protocol is Protocol.UDP)
        callers |= at(target.identity).get(door, frozenset())
    return callers


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Service ports that anyone may call, and those that each listed identity may call too."""

    open: frozenset[PortRef]
    by_identity: Mapping[SpiffeId, frozenset[PortRef]]


# Local ports of bound sidecars: below the ephemeral range of Linux (32768), above the ports that
# Istio and we use.
BOUND_PORTS = range(20_000, 28_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What one service wants of the local ports, and which numbers its workloads need."""

    wanted: tuple[PortRef, ...]
    taken: frozenset[tuple[bool, int]]
    """Numbers, and whether it is UDP that needs them: the two do not meet."""


def claims(service: Service) -> Claims:
    """Read them from a service."""
    return Claims(
        wanted=tuple(
            ref
            for port in service.ports
            if not port.protocol.is_http
            for udp in [port.protocol is Protocol.UDP]
            for ref in (
                PortRef(service.service, port.number, udp=udp),
                *(
                    PortRef(service.service, port.number, pod=name)
                    for name, _ in port.pods
                    if not udp
                ),
            )
            if not ref.is_address
        ),
        taken=frozenset(
            (port.protocol is Protocol.UDP, target.port)
            for port in service.ports
            for target in port.targets
        ),
    )


def bound_ports(claims: Iterable[Claims]) -> Mapping[PortRef, int]:
    """A local port for every TCP and UDP service port, the same on every workload.

    From the hash of its name, so that it stays when services come and go; of two that meet, the
    one whose name sorts later moves on to the next free port. A port that some workload serves is
    never taken: its sidecar, or its application, listens there already. Without a free port, a
    service has none. A TCP and a UDP port may share a number.
    """
    every = tuple(claims)
    taken = set[tuple[bool, int]]().union(*(one.taken for one in every))
    found = {}
    for ref in sorted(ref for one in every for ref in one.wanted):
        start = BOUND_PORTS.start + _hash(str(ref)) % len(BOUND_PORTS)
        numbers = chain(range(start, BOUND_PORTS.stop), BOUND_PORTS)
        free = (number for number in numbers if (ref.udp, number) not in taken)
        if (number := next(free, None)) is not None:
            found[ref] = number
            taken.add((ref.udp, number))
    return found


def _hash(text: str) -> int:
    # FNV-1a, 32 bits: the number is shown to users and must never change.
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
