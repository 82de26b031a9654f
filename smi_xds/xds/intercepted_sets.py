"""What intercepted sidecars get beside clusters of services: listeners and routes.

A listener and a route configuration per service port, the same bytes for all callers. One layer
has them as whoever is allowed gets them, once for the whole mesh; before it stands a layer per
identity with the denied variants of what it must not call, which hide the others.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from smi_xds.mesh.memo import Memo
from smi_xds.mesh.model import Destination, Mesh, PortRef, PortRoutes, Workload
from smi_xds.values import ProxyId, SpiffeId, TypeUrl
from smi_xds.xds.clusters import denied, inbound_cluster, inbound_passthrough, passthrough
from smi_xds.xds.grpc_sets import Layer, by_name
from smi_xds.xds.intercepted import outbound_listener, virtual_inbound, virtual_outbound
from smi_xds.xds.resources import CLUSTER, LISTENER, ROUTES, Resource
from smi_xds.xds.routes import inbound_routes, service_routes

Layers = Mapping[TypeUrl, tuple[Layer, ...]]

_Variants = tuple[tuple[PortRef, Resource], ...]
"""Resources, each with the service port that it is about."""


class InterceptedSets:
    """Translates round after round; holds nothing but memos."""

    def __init__(self) -> None:
        self._listener: Memo[tuple[Destination, bool], ..., Resource] = Memo(outbound_listener)
        self._routes: Memo[tuple[PortRef, bool], ..., Resource] = Memo(service_routes)
        self._denied: Memo[None, ..., _Variants] = Memo(_as_it_is)
        self._shared: Memo[None, ..., Layers] = Memo(_by_type)
        self._denials: Memo[SpiffeId, ..., Layers] = Memo(_denials)
        self._private: Memo[ProxyId, ..., Layers] = Memo(_private)
        self._joined: Memo[ProxyId, ..., Layers] = Memo(_join)

    def __call__(
        self,
        mesh: Mesh,
        workloads: Iterable[Workload],
        reach: Mapping[SpiffeId, frozenset[PortRef]],
    ) -> Mapping[ProxyId, Layers]:
        """The layers of each workload; `reach` is what each identity may call."""
        there = tuple(workloads)
        sets = self._sets(mesh, there, reach) if there else {}
        for memo in vars(self).values():
            if isinstance(memo, Memo):
                memo.sweep()
        return sets

    def _sets(
        self,
        mesh: Mesh,
        workloads: tuple[Workload, ...],
        reach: Mapping[SpiffeId, frozenset[PortRef]],
    ) -> Mapping[ProxyId, Layers]:
        meant = [
            (destination, ref, mesh.pods[ref] if ref.pod else mesh.routes[ref])
            for destination, ref in mesh.destinations.items()
        ]
        shared = self._shared(None, tuple(it for _, it in self._variants(meant, allowed=True)))
        denied_all = self._denied(None, tuple(self._variants(meant, allowed=False)))
        denials = {
            identity: self._denials(identity, denied_all, reach[identity])
            for identity in {workload.identity for workload in workloads}
        }
        return {
            workload.proxy: self._joined(
                workload.proxy,
                self._private(workload.proxy, workload),
                denials[workload.identity],
                shared,
            )
            for workload in workloads
        }

    def _variants(
        self, meant: list[tuple[Destination, PortRef, PortRoutes]], *, allowed: bool
    ) -> Iterator[tuple[PortRef, Resource]]:
        for destination, ref, routes in meant:
            http = routes.protocol.is_http
            if http:
                yield ref, self._routes((ref, allowed), routes, allowed)
            if allowed or not http:  # requests are denied by their route
                key = (destination, allowed)
                yield ref, self._listener(key, destination, ref, routes.protocol, allowed)


def _as_it_is(variants: _Variants) -> _Variants:
    """Memoised: equal ones of the round before are the very same object."""
    return variants


def _denials(variants: _Variants, reach: frozenset[PortRef]) -> Layers:
    return _by_type(tuple(resource for ref, resource in variants if ref not in reach))


def _private(workload: Workload) -> Layers:
    http = [port for port in workload.ports if port.protocol.is_http]
    return _by_type(
        (
            virtual_outbound(workload),
            virtual_inbound(workload),
            *(inbound_routes(workload, port) for port in http),
            *(inbound_cluster(workload, port) for port in workload.ports),
            inbound_passthrough(workload),
            passthrough(),
            denied(),
        )
    )


def _by_type(resources: tuple[Resource, ...]) -> Layers:
    return {
        type_: (by_name(tuple(it for it in resources if it.type == type_)),)
        for type_ in (CLUSTER, LISTENER, ROUTES)
    }


def _join(*groups: Layers) -> Layers:
    return MappingProxyType(
        {
            type_: tuple(layer for group in groups for layer in group[type_] if layer)
            for type_ in (CLUSTER, LISTENER, ROUTES)
        }
    )
