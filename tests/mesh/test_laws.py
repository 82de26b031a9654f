"""Laws of the mesh, on random worlds."""

from collections.abc import Iterator

from hypothesis import given

from smi_xds.mesh.model import (
    Grant,
    HttpMatch,
    InboundPort,
    Mesh,
    MeshSettings,
    PortRef,
    Source,
    UdpPort,
)
from smi_xds.objects.smi import IdentityBinding, TrafficTarget
from smi_xds.values import AccessMode, ProxyId, SpiffeId
from tests.support.mesh import build_mesh
from tests.support.meshes import World, everywhere_strict, targets, without_targets, worlds

Allow = tuple[ProxyId, str, Source, HttpMatch | None]


def allows(mesh: Mesh) -> set[Allow]:
    """Everything that is allowed at a destination, one source and one condition at a time."""
    return {
        (proxy, f"{port.number}", source, condition)
        for proxy, workload in mesh.workloads.items()
        for port in workload.ports
        for grant in port.grants
        for source in grant.sources
        for condition in _conditions(grant)
    } | {
        (proxy, f"{port.number}/udp", source, None)
        for proxy, workload in mesh.workloads.items()
        for port in workload.udp_ports
        for grant in port.grants
        for source in grant.sources
    }


def _conditions(grant: Grant) -> tuple[HttpMatch | None, ...]:
    return (None,) if grant.http is None else grant.http


def reached(mesh: Mesh, identity: SpiffeId) -> frozenset[PortRef]:
    return mesh.open | mesh.reach.get(identity, frozenset())


@given(worlds(), targets(name="one-more"))
def test_a_traffic_target_more_never_removes_an_allow(world: World, more: TrafficTarget) -> None:
    """TrafficTargets are additive, at the destination and in what callers may reach."""
    before, after = build_mesh(*world), build_mesh(*world, more)
    assert everyone(before) <= everyone(after)
    for identity in before.reach:
        assert reached(before, identity) <= reached(after, identity)
    assert before.open == after.open


@given(worlds())
def test_without_traffic_targets_nobody_is_allowed(world: World) -> None:
    """In strict mode nothing is allowed by default; only what has no endpoints is no secret."""
    mesh = build_mesh(*everywhere_strict(without_targets(world)))
    assert allows(mesh) == set()
    assert mesh.reach == {}
    for ref in mesh.open:
        backends = {b.service for entry in mesh.routes[ref].entries for b in entry.backends}
        ports = [mesh.services[service].port(ref.port, udp=ref.udp) for service in backends]
        assert not any(port.targets for port in ports if port is not None)


@given(worlds())
def test_an_identity_binding_less_never_adds_an_allow(world: World) -> None:
    """It only says who is meant: without it nobody is."""
    before = build_mesh(*world)
    for binding in (it for it in world if isinstance(it, IdentityBinding)):
        after = build_mesh(*(it for it in world if it is not binding))
        assert everyone(after) <= everyone(before)


def everyone(mesh: Mesh) -> set[tuple[ProxyId, str, SpiffeId, str | None, HttpMatch | None]]:
    """What is allowed, to one address at a time; None is one that no pod has."""
    addresses = (None, *(workload.address for workload in mesh.workloads.values()))
    return {
        (proxy, number, source.identity, address, condition)
        for proxy, number, source, condition in allows(mesh)
        for address in addresses
        if source.admits(address)
    }


@given(worlds())
def test_the_shadow_opens_everything_and_judges_as_strict_access_does(world: World) -> None:
    """Which access mode holds changes no grant; in shadow every service may be called."""
    strict, shadow = (
        build_mesh(*everywhere_strict(world), settings=MeshSettings(access=mode))
        for mode in (AccessMode.STRICT, AccessMode.SHADOW)
    )
    assert allows(shadow) == allows(strict)
    assert shadow.reach == {}
    assert shadow.open == set(shadow.routes)


@given(worlds())
def test_whoever_is_allowed_can_reach_the_service(world: World) -> None:
    """No allow at a destination is lost on the way: its source reaches the services before it."""
    mesh = build_mesh(*world)
    for ref, port in served(mesh):
        for grant in port.grants:
            assert all(ref in reached(mesh, source.identity) for source in grant.sources)


def served(mesh: Mesh) -> Iterator[tuple[PortRef, InboundPort | UdpPort]]:
    """Each service port that is not split, with every port of a workload behind it."""
    ports: dict[tuple[SpiffeId, int, bool], InboundPort | UdpPort] = {}
    for it in mesh.workloads.values():
        ports |= {(it.identity, port.number, False): port for port in it.ports}
        ports |= {(it.identity, port.number, True): port for port in it.udp_ports}
    for ref, routes in mesh.routes.items():
        service_port = mesh.services[ref.service].port(ref.port, udp=ref.udp)
        if service_port is None or any(entry.split for entry in routes.entries):
            continue
        for target in service_port.targets:
            key = (target.identity, target.port, ref.udp) if target.identity else None
            port = ports.get(key) if key else None
            # Services that disagree about the protocol are told, and judged by the winner.
            if isinstance(port, UdpPort) or (
                port is not None and port.protocol.is_http == routes.protocol.is_http
            ):
                yield ref, port


@given(worlds())
def test_weights_are_never_negative_and_entries_end(world: World) -> None:
    """No weight is below 0, sums stay in 32 bits, and nothing follows an unconditional entry."""
    for routes in build_mesh(*world).routes.values():
        for entry in routes.entries:
            weights = [backend.weight for backend in entry.backends]
            assert all(weight >= 0 for weight in weights)
            assert sum(weights) < 2**32
        always = [not e.matches or HttpMatch() in e.matches for e in routes.entries]
        assert always.index(True) == len(always) - 1


@given(worlds())
def test_local_ports_are_nobody_elses(world: World) -> None:
    """No two TCP services share a local port, and none is a port that a workload serves."""
    mesh = build_mesh(*world)
    local = list(mesh.bound_ports.values())
    assert len(set(local)) == len(local)
    assert not {p.number for w in mesh.workloads.values() for p in w.ports} & set(local)
