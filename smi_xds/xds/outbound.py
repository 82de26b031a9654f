"""What each identity may call, and the resources of services that its sidecars get for that.

One layer has what an identity is listed for; one, the same for all, has what anyone may call. So
what changes for somebody else changes nothing for it.
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from smi_xds.mesh.model import PortRef, PortRoutes
from smi_xds.mesh.passes import Each, Graph, Table, Whole
from smi_xds.values import ProxyId, SpiffeId, TypeUrl
from smi_xds.xds.backends import Backends
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, SECRET, Layer, Resource, as_layer
from smi_xds.xds.routes import called_by

_ANYONE: Final = "anyone"
_order = attrgetter("service.namespace", "service.name", "port", "udp", "pod")


def in_order(refs: Iterable[PortRef]) -> list[PortRef]:
    """Service ports by name and number; comparing keys of them costs a tenth of comparing them."""
    return sorted(refs, key=_order)


class Callers:
    """Tables of who may call which service ports."""

    def __init__(
        self,
        graph: Graph,
        *,
        identities: Table[SpiffeId, frozenset[ProxyId]],
        routes: Table[PortRef, PortRoutes],
        backends: Backends,
        ports: Table[PortRef, int],
    ) -> None:
        self._called_by = graph.each(routes, lambda ref: called_by(routes[ref]))
        self._open = graph.groups(routes, lambda it: (_ANYONE,) if it.callers is None else ())
        self._reach = graph.groups(routes, lambda it: it.callers or ())
        self._called = graph.each(identities, lambda it: self._behind(self.reach(it)))
        self._called_by_all = graph.whole(lambda: self._behind(self.open()))
        self._ports = ports
        self._local = graph.each(identities, self._local_ports)
        self._shared = {
            type_: SharedLayers(graph, identities, resources, self.called, self._called_by_all)
            for type_, resources in (
                (CLUSTER, backends.clusters),
                (ENDPOINTS, backends.endpoints),
                (SECRET, backends.peers),
            )
        }

    def reach(self, identity: SpiffeId) -> frozenset[PortRef]:
        """The service ports for which an identity is listed."""
        return self._reach.get(identity) or frozenset()

    def open(self) -> frozenset[PortRef]:
        """The service ports that anyone may call."""
        return self._open.get(_ANYONE) or frozenset()

    def called(self, identity: SpiffeId) -> frozenset[PortRef]:
        """The service ports whose clusters the routes name for which an identity is listed."""
        return self._called[identity]

    def local_ports(self, identity: SpiffeId) -> tuple[tuple[PortRef, int], ...]:
        """The TCP and UDP services that an identity may call, each with its port at the caller."""
        return self._local[identity]

    def _local_ports(self, identity: SpiffeId) -> tuple[tuple[PortRef, int], ...]:
        called = self._called[identity] | self._called_by_all()
        found = ((ref, self._ports.get(ref)) for ref in in_order(called))
        return tuple((ref, port) for ref, port in found if port is not None)

    def layers(self, type_: TypeUrl, identity: SpiffeId) -> tuple[Layer, ...]:
        """The clusters, endpoints or expected peers that an identity gets, in layers."""
        return self._shared[type_](identity)

    def _behind(self, refs: frozenset[PortRef]) -> frozenset[PortRef]:
        return frozenset[PortRef]().union(*(self._called_by[ref] for ref in refs))


class SharedLayers:
    """Layers of the resources of service ports, of each identity and of all."""

    def __init__(
        self,
        graph: Graph,
        identities: Table[SpiffeId, frozenset[ProxyId]],
        resources: Table[PortRef, Resource],
        called: Callable[[SpiffeId], frozenset[PortRef]],
        called_by_all: Callable[[], frozenset[PortRef]],
    ) -> None:
        def of(refs: frozenset[PortRef]) -> Layer:
            return as_layer(resources[ref] for ref in in_order(refs))

        self._own: Each[SpiffeId, Layer] = graph.each(identities, lambda it: of(called(it)))
        self._all: Whole[Layer] = graph.whole(lambda: of(called_by_all()))

    def __call__(self, identity: SpiffeId) -> tuple[Layer, ...]:
        return (self._own[identity], self._all())
