"""UDP: which ports of a workload datagrams are for, and whether they go through a tunnel.

Datagrams between sidecars go through a tunnel that proves who sends them. An endpoint without a
sidecar has nobody at the other end: datagrams reach it as they are, and only where that is so for
all endpoints behind a service port, because a caller sends them in one way alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from smi_xds.mesh.model import (
    PortRef,
    PortRoutes,
    Protocol,
    Service,
    Target,
    UdpPort,
    Workload,
)
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ServiceRef


def udp_ports(served: Iterable[tuple[PortRef, int]]) -> tuple[UdpPort, ...]:
    """The UDP ports of a workload; `served` are the service ports and what they target."""
    found: dict[int, set[PortRef]] = {}
    for ref, target in served:
        found.setdefault(target, set()).add(ref)
    return tuple(
        UdpPort(number=number, services=tuple(sorted(refs)))
        for number, refs in sorted(found.items())
    )


def split_to(routes: PortRoutes) -> tuple[PortRef, ...]:
    """The UDP ports of other services that get a share of a service's datagrams."""
    if not routes.ref.udp:
        return ()
    names = {backend.service for entry in routes.entries for backend in entry.backends}
    return tuple(
        PortRef(name, routes.port, udp=True) for name in sorted(names) if name != routes.service
    )


def with_roots(
    workload: Workload, roots: Callable[[PortRef], Iterable[PortRef] | None]
) -> Workload:
    """The workload, asked for splits as well: `roots` are those that send to a port of a service.

    Callers of a split ask for its root, whichever backend they are sent to.
    """
    ports = tuple(
        replace(
            port,
            services=tuple(
                sorted(
                    {*port.services, *(root for ref in port.services for root in roots(ref) or ())}
                )
            ),
        )
        for port in workload.udp_ports
    )
    return workload if ports == workload.udp_ports else replace(workload, udp_ports=ports)


def as_carried(routes: PortRoutes, services: Mapping[ServiceRef, Service]) -> PortRoutes:
    """The routes, told apart by whether datagrams go through a tunnel."""
    targets = _targets(routes, services)
    outside = bool(targets) and all(target.identity is None for target in targets)
    return replace(routes, outside=True) if outside else routes


def udp_problems(routes: PortRoutes, services: Mapping[ServiceRef, Service]) -> Iterator[Problem]:
    """Endpoints that datagrams cannot reach, because others are in the mesh."""
    known = {target.identity is None for target in _targets(routes, services)}
    if len(known) > 1:
        yield Problem(
            ref=ObjectRef("Service", routes.service.namespace, routes.service.name),
            field=f"port {routes.port}",
            code=ProblemCode.UDP_OUTSIDE_MESH,
            message="Some of what is behind this UDP port has a sidecar and some has none; "
            "datagrams go through a tunnel between sidecars, so those without one get nothing.",
            cure="Give all of them a sidecar, or none.",
        )


def _targets(routes: PortRoutes, services: Mapping[ServiceRef, Service]) -> list[Target]:
    if routes.protocol is not Protocol.UDP:
        return []
    names = {backend.service for entry in routes.entries for backend in entry.backends}
    ports = [services[name].port(routes.port, udp=True) for name in sorted(names)]
    return [target for port in ports if port is not None for target in port.targets]
