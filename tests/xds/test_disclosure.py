"""Least disclosure, on random worlds: nobody is told what is of no use to him.

Rights are read from the workloads that enforce them, not from what callers are told.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeAlias

from hypothesis import given, settings

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import (
    InboundPort,
    Mesh,
    MeshSettings,
    PortRef,
    PortRoutes,
    ServicePort,
    UdpPort,
)
from smi_xds.objects.store import Origin, Replaced, Store
from smi_xds.values import AccessMode, Secret, ServiceRef, SpiffeId
from smi_xds.xds import names
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, SECRET, TYPES, ResourceSet
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator
from tests.support.meshes import World, everywhere_strict, without_targets, worlds
from tests.support.objects import with_slices

Backend: TypeAlias = tuple[ServiceRef, ServicePort]


def marker(identity: SpiffeId) -> bytes:
    """What stands in this identity's key, and nowhere else."""
    return f"<key of {identity}>".encode()


def translated(world: World) -> tuple[Mesh, dict[str, ResourceSet]]:
    store = Store(["test"])
    store.apply(Origin("test"), Replaced(tuple(with_slices(world))))
    mesh = MeshBuilder(MeshSettings())(store.objects())
    leaves = {it: leaf_secret(b"certificate", Secret(marker(it))) for it in mesh.identities}
    return mesh, dict(Translator()(mesh, credentials=Credentials(trust_bundle=b"r", leaves=leaves)))


@settings(max_examples=60)
@given(worlds())
def test_nobody_gets_the_key_of_another(world: World) -> None:
    """Its own, under the one name for it, and no other in any byte of anything."""
    mesh, sets = translated(world)
    for workload in mesh.workloads.values():
        resources = sets[str(workload.proxy)]
        keys = {marker(identity) for identity in mesh.identities}
        for type_ in TYPES:
            for name, resource in resources.all(type_).items():
                found = {key for key in keys if key in resource.body}
                own = type_ is SECRET and name == names.IDENTITY
                assert found == ({marker(workload.identity)} if own else set())


@settings(max_examples=60)
@given(worlds())
def test_nobody_is_told_of_endpoints_that_he_may_not_call(world: World) -> None:
    """Clusters, endpoints and peers are those of services behind which somebody lets him in."""
    mesh, sets = translated(world)
    _check(mesh, sets)


@settings(max_examples=30)
@given(worlds())
def test_without_any_right_there_are_no_endpoints(world: World) -> None:
    """Where everybody is strict and nobody is allowed, only what has no guard is to be seen."""
    mesh, sets = translated(everywhere_strict(without_targets(world)))
    _check(mesh, sets)
    for resources in sets.values():
        for name in resources.all(ENDPOINTS).keys() - {names.DENIED}:
            found = next(routes for routes in _routes(mesh) if str(routes.ref) == name)
            own = _port(mesh, found.service, found)
            # Behind a backend of another service there may be nobody, of whom nothing is told.
            assert found.callers is None or (own is not None and not own.targets)


def _check(mesh: Mesh, sets: dict[str, ResourceSet]) -> None:
    roots = [(routes, _backends(mesh, routes)) for routes in _routes(mesh)]
    everywhere = {it.address for _, ports in roots for _, port in ports for it in port.endpoints}
    for workload in mesh.workloads.values():
        resources = sets[str(workload.proxy)]
        useful, addresses = set[str](), set[str]()
        for routes, backends in roots:
            if _has_some_right(mesh, workload.identity, routes, backends):
                useful |= {str(routes.ref), *_names(routes)}
                addresses |= {it.address for _, port in backends for it in port.endpoints}
        assert resources.all(ENDPOINTS).keys() - {names.DENIED} <= useful
        peers = {name for name in resources.all(SECRET) if name.startswith("peers|")}
        assert peers <= {f"peers|{name}" for name in useful}
        services = {str(routes.ref) for routes, _ in roots}
        assert resources.all(CLUSTER).keys() & services <= useful
        said = b"".join(it.body for it in resources.all(ENDPOINTS).values())
        # Each is told with its length before it: one that begins like another is another.
        told = {it for it in everywhere if bytes([len(it)]) + it.encode() in said}
        assert told <= addresses


def _has_some_right(
    mesh: Mesh, identity: SpiffeId, routes: PortRoutes, backends: Sequence[Backend]
) -> bool:
    targets = [(name, target) for name, port in backends for target in port.targets]
    # Nobody is there: the honest answer is 503, for which the (empty) endpoints are told.
    return not targets or any(
        target.identity is None
        or target.access is not AccessMode.STRICT
        or _lets_in(mesh, target.identity, target.port, identity, name=name, udp=routes.ref.udp)
        for name, target in targets
    )


def _lets_in(
    mesh: Mesh, server: SpiffeId, port: int, caller: SpiffeId, *, name: ServiceRef, udp: bool
) -> bool:
    """Whether a workload of that identity, behind that service, has a grant for this caller."""
    return any(
        source.identity == caller
        for workload in mesh.workloads.values()
        if workload.identity == server
        for own in (workload.udp_ports if udp else workload.ports)
        if own.number == port and name in _services(own)
        for grant in own.grants
        for source in grant.sources
    )


def _services(port: InboundPort | UdpPort) -> set[ServiceRef]:
    return {it.service if isinstance(it, PortRef) else it for it in port.services}


def _routes(mesh: Mesh) -> Iterator[PortRoutes]:
    return chain(mesh.routes.values(), mesh.pods.values())


def _backends(mesh: Mesh, routes: PortRoutes) -> Sequence[Backend]:
    """What these routes may lead to."""
    names = sorted({it.service for entry in routes.entries for it in entry.backends})
    return [(name, port) for name in names if (port := _port(mesh, name, routes)) is not None]


def _port(mesh: Mesh, name: ServiceRef, routes: PortRoutes) -> ServicePort | None:
    """What these routes mean by a service: a port of it, or of one of its pods."""
    service = mesh.services.get(name)
    port = service.port(routes.port, udp=routes.ref.udp) if service is not None else None
    return dict(port.pods).get(routes.pod, port) if port is not None else None


def _names(routes: PortRoutes) -> Iterator[str]:
    for entry in routes.entries:
        for backend in entry.backends:
            yield str(PortRef(backend.service, routes.port, udp=routes.ref.udp, pod=routes.pod))
