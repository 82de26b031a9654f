"""Who may call which service port, and the local ports of TCP services."""

import pytest

from smi_xds.mesh import reach
from smi_xds.mesh.model import Mesh, MeshSettings, PortRef, Protocol, Service, ServicePort, Target
from smi_xds.mesh.reach import BOUND_PORTS, bound_ports, claims
from smi_xds.objects.kube import Transport
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import IdentityBinding, Subject
from smi_xds.values import AccessMode, ServiceRef
from tests.support.mesh import build_mesh
from tests.support.objects import (
    NS,
    http,
    mk_http_routes,
    mk_match,
    mk_pod,
    mk_port,
    mk_service,
    mk_split,
    mk_target,
    mk_tcp_route,
    mk_udp_route,
    spiffe,
    tcp,
    udp,
)

WORLD = (
    mk_pod("web", "10.0.0.1"),
    mk_pod("client", "10.0.0.2"),
    mk_service("web", mk_port(80), mk_port(5432)),
    mk_http_routes("all", mk_match("all")),
    mk_tcp_route("all"),
)


def build(*objects: MeshObject, access: AccessMode = AccessMode.STRICT) -> Mesh:
    return build_mesh(*WORLD, *objects, settings=MeshSettings(access=access))


BINDING = Subject(kind="IdentityBinding", name="callers")


def mk_binding(name: str, *, labels: dict[str, str]) -> IdentityBinding:
    return IdentityBinding(namespace=NS, name=name, match_labels=tuple(sorted(labels.items())))


def ref(service: str, port: int = 80) -> PortRef:
    return PortRef(ServiceRef(NS, service), port)


def test_nobody_reaches_what_nothing_grants() -> None:
    """Without a TrafficTarget nobody may call."""
    mesh = build()
    assert (mesh.open, mesh.reach) == (frozenset(), {})


def test_a_source_reaches_the_ports_that_are_granted() -> None:
    """An HTTPRouteGroup opens HTTP ports to its sources, a TCPRoute all that it lists."""
    mesh = build(mk_target("t", ["client"], "web", http("all")))
    assert mesh.reach == {spiffe("client"): frozenset({ref("web")})}
    mesh = build(mk_target("t", ["client"], "web", tcp("all")))
    assert mesh.reach == {spiffe("client"): frozenset({ref("web"), ref("web", 5432)})}


def test_permissive_access_lets_anyone_call() -> None:
    """One permissive workload behind a port is enough: it would let the call in."""
    mesh = build(access=AccessMode.PERMISSIVE)
    assert mesh.open == {ref("web"), ref("web", 5432)}
    mesh = build(mk_pod("more", "10.0.0.3", app="web", access="permissive"))
    assert mesh.open == {ref("web"), ref("web", 5432)}


def test_shadow_access_lets_anyone_call() -> None:
    """Nothing is denied there, so nobody is told that it would be by their own sidecar."""
    mesh = build(mk_target("t", ["client"], "web", tcp("all")), access=AccessMode.SHADOW)
    assert mesh.open == {ref("web"), ref("web", 5432)}
    assert mesh.reach == {}


def test_what_is_outside_the_mesh_may_be_called_by_anyone() -> None:
    """Nobody enforces anything there."""
    mesh = build(mk_pod("old", "10.0.0.3", app="old", sidecar=""), mk_service("old"))
    assert mesh.open == {ref("old")}


def test_a_service_without_endpoints_is_no_secret() -> None:
    """With nobody behind it there is no right to lack: the answer is 503, not 403."""
    mesh = build(mk_service("empty"), mk_service("root"), mk_split("s", "root", {"gone": 1}))
    assert mesh.open == {ref("empty"), ref("root")}


def test_a_split_root_is_reached_by_the_callers_of_its_backends() -> None:
    """Who may call any backend may call the root; the server judges which."""
    mesh = build(
        mk_service("root"),
        mk_pod("v1", "10.0.0.3"),
        mk_service("v1"),
        mk_service("v2"),
        mk_split("s", "root", {"v1": 1, "v2": 0}),
        mk_target("t", ["client"], "v1", http("all")),
    )
    assert mesh.reach == {spiffe("client"): frozenset({ref("root"), ref("v1")})}
    assert mesh.open == {ref("v2")}


# ------------------------------------------------------------------ whose word counts


def test_who_is_refused_for_a_conflict_of_protocols_is_not_told() -> None:
    """The first Service says TCP, which an HTTPRouteGroup opens to nobody: 403 for both."""
    first = mk_service("a", mk_port(80, "tcp"), app="web")
    mesh = build(first, mk_target("t", ["client"], "web", http("all")))
    assert mesh.reach == {}
    mesh = build(first, mk_target("t", ["client"], "web", tcp("all")))
    assert mesh.reach == {spiffe("client"): {ref("a"), ref("web"), ref("web", 5432)}}


def test_who_is_let_in_in_spite_of_a_conflict_is_told() -> None:
    """Requests are judged there, whatever the second Service says of them."""
    second = mk_service("web-too", mk_port(80, "tcp"), app="web")
    mesh = build(second, mk_target("t", ["client"], "web", http("all")))
    assert mesh.reach == {spiffe("client"): {ref("web"), ref("web-too")}}


def test_nobody_is_told_of_a_port_that_stays_closed() -> None:
    """Its sidecar uses the number itself."""
    mesh = build(
        mk_service("odd", mk_port(80, target=15001), app="web"),
        mk_target("t", ["client"], "web", tcp("all")),
    )
    assert mesh.reach == {spiffe("client"): {ref("web"), ref("web", 5432)}}


def test_who_is_told_by_an_address_that_nobody_sees_is_not_told() -> None:
    """Of two pods of one account an intercepted one sees who calls, and a bound one does not."""
    mesh = build(
        mk_pod("more", "10.0.0.3", account="web", sidecar="intercepted"),
        mk_service("more"),
        mk_binding("callers", labels={"app": "client"}),
        mk_target("t", [BINDING], "web", http("all")),
    )
    assert mesh.reach == {spiffe("client"): {ref("more")}}


def test_who_may_call_one_pod_is_not_told_of_others_of_its_account() -> None:
    """An IdentityBinding that selects pods protects those: elsewhere nobody is let in by it."""
    mesh = build(
        mk_pod("more", "10.0.0.3", account="web"),
        mk_service("more"),
        mk_binding("callers", labels={"app": "more"}),
        mk_target("t", ["client"], BINDING, http("all")),
    )
    assert mesh.reach == {spiffe("client"): {ref("more")}}


def test_an_udp_port_has_callers_of_its_own() -> None:
    """A TCP and a UDP port of one number are two doors."""
    mesh = build(
        mk_service("both", mk_port(80), mk_port(80, "u", transport=Transport.UDP), app="web"),
        mk_udp_route("all"),
        mk_target("t", ["client"], "web", udp("all")),
    )
    assert mesh.reach == {spiffe("client"): {PortRef(ServiceRef(NS, "both"), 80, udp=True)}}


# ------------------------------------------------------------------ local ports


def tcp_service(name: str, *targets: int) -> Service:
    port = ServicePort(
        number=5432,
        protocol=Protocol.TCP,
        targets=tuple(Target(identity=None, port=port, access=None, mtls=None) for port in targets),
    )
    return Service(service=ServiceRef(NS, name), ports=(port,))


def ports_of(*services: Service) -> dict[str, int]:
    found = bound_ports(claims(service) for service in services)
    return {ref.service.name: port for ref, port in found.items()}


def test_a_local_port_comes_from_the_name() -> None:
    """It is shown to users and stands in their settings: it must never change."""
    mesh = build_mesh(mk_service("db", mk_port(5432), mk_port(80), namespace="shop"))
    assert mesh.bound_ports == {ref("db", 5432): 22546}


def test_a_local_port_that_a_workload_serves_is_not_taken() -> None:
    """The sidecar of that workload listens there already."""
    alone = ports_of(tcp_service("db"))["db"]
    assert ports_of(tcp_service("db", alone))["db"] == alone + 1


def test_of_two_that_meet_the_later_name_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from the end of the range to its beginning."""
    monkeypatch.setattr(reach, "_hash", lambda text: len(BOUND_PORTS) - 1)
    found = ports_of(tcp_service("b"), tcp_service("a"), tcp_service("c"))
    assert found == {"a": BOUND_PORTS[-1], "b": BOUND_PORTS[0], "c": BOUND_PORTS[1]}


def test_without_a_free_port_a_service_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """More services than ports is no reason to stop, or to give one port twice."""
    monkeypatch.setattr(reach, "BOUND_PORTS", range(20_000, 20_002))
    assert ports_of(*map(tcp_service, "abc")).keys() == {"a", "b"}
