"""Who may call which service port, seen from the caller: what each sidecar needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from smi_xds.mesh.model import Grant, PortRef, PortRoutes, Protocol, Service, ServicePort
from smi_xds.values import Mode, ServiceRef, SpiffeId


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
    callers: set[SpiffeId] = set()
    by_identity = dict(grants)
    for service in backends:
        port = service.port(routes.port) if service is not None else None
        found = _callers(port, by_identity, routes.protocol) if port is not None else set()
        if found is None:
            return replace(routes, callers=None)
        callers |= found
    return replace(routes, callers=tuple(sorted(callers)))


def _callers(
    port: ServicePort, grants: Mapping[SpiffeId, tuple[Grant, ...]], protocol: Protocol
) -> set[SpiffeId] | None:
    callers: set[SpiffeId] = set()
    for target in port.targets:
        if target.identity is None or target.access is Mode.PERMISSIVE:
            return None
        for grant in grants.get(target.identity, ()):
            if grant.admits(target.port, protocol):
                callers.update(grant.sources)
    return callers


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Service ports that anyone may call, and those that each listed identity may call too."""

    open: frozenset[PortRef]
    by_identity: Mapping[SpiffeId, frozenset[PortRef]]


def build_reach(routes: Mapping[PortRef, PortRoutes]) -> Reach:
    """Turn the routes' callers around."""
    anyone: set[PortRef] = set()
    reach: dict[SpiffeId, set[PortRef]] = {}
    for ref, port in routes.items():
        if port.callers is None:
            anyone.add(ref)
            continue
        for caller in port.callers:
            reach.setdefault(caller, set()).add(ref)
    return Reach(
        open=frozenset(anyone),
        by_identity={caller: frozenset(refs) for caller, refs in sorted(reach.items())},
    )


# Local ports of bound sidecars: below the ephemeral range of Linux (32768), above the ports that
# Istio and we use.
BOUND_PORTS = range(20_000, 28_000)


def bound_ports(services: Mapping[ServiceRef, Service]) -> Mapping[PortRef, int]:
    """A local port for every TCP service port, the same on every workload.

    From the hash of its name, so that it stays when services come and go; of two that meet, the
    one whose name sorts later moves on to the next free port.
    """
    refs = sorted(
        PortRef(ref, port.number)
        for ref, service in services.items()
        for port in service.ports
        if port.protocol.is_tcp
    )
    taken: dict[int, PortRef] = {}
    for ref in refs:
        offset = _hash(str(ref)) % len(BOUND_PORTS)
        while offset in taken:
            offset = (offset + 1) % len(BOUND_PORTS)
        taken[offset] = ref
    return {ref: BOUND_PORTS[offset] for offset, ref in sorted(taken.items(), key=lambda i: i[1])}


def _hash(text: str) -> int:
    # FNV-1a, 32 bits: the number is shown to users and must never change.
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
