"""Who may call which service port, seen from the caller: what each sidecar needs to know."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from smi_xds.mesh.model import Grant, PortRef, PortRoutes, Protocol, Service, ServicePort
from smi_xds.values import AccessMode, SpiffeId


def with_callers(
    routes: PortRoutes,
    backends: tuple[Service | None, ...],
    grants: tuple[tuple[SpiffeId, tuple[Grant, ...]], ...],
) -> PortRoutes:
    """The routes with everyone who has a right to anything behind them.

    `backends` are the services that the entries name (the root's own last); `grants` those of
    the identities behind them. Access is enforced where traffic arrives: an endpoint outside the
    mesh has nobody who could, so anyone may call it.
    """
    udp = routes.ref.udp
    there = [service.port(routes.port, udp=udp) for service in backends if service is not None]
    ports = [port for port in there if port is not None]
    if not any(port.targets for port in ports):
        # Nothing to protect, and nobody to ask: the honest answer is 503, not 403.
        return replace(routes, callers=None)
    callers: set[SpiffeId] = set()
    for port in ports:
        found = _callers(port, dict(grants), routes.protocol)
        if found is None:
            return replace(routes, callers=None)
        callers |= found
    return replace(routes, callers=tuple(sorted(callers)))


def _callers(
    port: ServicePort, grants: Mapping[SpiffeId, tuple[Grant, ...]], protocol: Protocol
) -> set[SpiffeId] | None:
    callers: set[SpiffeId] = set()
    for target in port.targets:
        if target.identity is None or target.access is not AccessMode.STRICT:
            return None
        for grant in grants.get(target.identity, ()):
            if grant.admits(target.port, protocol):
                callers.update(source.identity for source in grant.sources)
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
