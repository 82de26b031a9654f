"""Pods of headless services, each called by its own name or address.

To its callers such a pod is a service of its own with one endpoint: splits of the service have no
say, because whoever names a pod wants that one.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from smi_xds.mesh.model import PortRoutes, RouteEntry, Service, WeightedBackend
from smi_xds.mesh.reach import Admitted, with_callers
from smi_xds.values import SpiffeId


def pod_routes(
    service: Service,
    ports: tuple[PortRoutes, ...],
    at: Callable[[SpiffeId], Admitted],
) -> tuple[PortRoutes, ...]:
    """The routes to each pod of a headless service; `ports` are those to the service itself."""
    return tuple(_pod_routes(service, ports, at))


def _pod_routes(
    service: Service,
    ports: tuple[PortRoutes, ...],
    at: Callable[[SpiffeId], Admitted],
) -> Iterator[PortRoutes]:
    own = RouteEntry(backends=(WeightedBackend(service=service.service, weight=1),))
    for routes in ports:
        port = None if routes.ref.udp else service.port(routes.port)
        for name, pod in port.pods if port is not None else ():
            there = Service(service=service.service, ports=(pod,))
            yield with_callers(replace(routes, entries=(own,), pod=name), (there,), at)
