"""UDP: what UDPRoutes admit, where datagrams go, and what is wrong with either."""

import pytest

from smi_xds.mesh.model import Mesh, MeshSettings, PortRef, Protocol, UdpPort
from smi_xds.mesh.reach import BOUND_PORTS
from smi_xds.objects.kube import ServicePort, Transport
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import Rule
from smi_xds.problems import ProblemCode
from smi_xds.values import AccessMode, ProxyId, ServiceRef
from tests.support.mesh import build_mesh, told
from tests.support.objects import (
    NS,
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


def u(number: int, *, target: int | str | None = None) -> ServicePort:
    """A UDP port of a Service."""
    return mk_port(number, f"u{number}", target=target, transport=Transport.UDP)


WORLD = (
    mk_pod("client", "10.0.0.1"),
    mk_pod("dns", "10.0.0.2"),
    mk_service("dns", u(53, target=5353), u(8125), mk_port(53, "tcp-53", target=5353)),
)
DNS, TCP_DNS, STATS = (
    PortRef(ServiceRef(NS, "dns"), 53, udp=True),
    PortRef(ServiceRef(NS, "dns"), 53),
    PortRef(ServiceRef(NS, "dns"), 8125, udp=True),
)


def build(*objects: MeshObject, access: AccessMode = AccessMode.STRICT) -> Mesh:
    return build_mesh(*WORLD, *objects, settings=MeshSettings(access=access))


def granted(mesh: Mesh) -> dict[int, list[str]]:
    """The TrafficTargets that apply to each UDP port of the server."""
    ports = mesh.workloads[ProxyId(NS, "dns")].udp_ports
    return {port.number: [grant.target for grant in port.grants] for port in ports}


def test_a_workload_knows_its_udp_ports_and_what_means_them() -> None:
    """TCP and UDP of one number are two ports, of the service and of the pod."""
    workload = build().workloads[ProxyId(NS, "dns")]
    assert workload.udp_ports == (
        UdpPort(number=5353, services=(DNS,)),
        UdpPort(number=8125, services=(STATS,)),
    )
    assert [port.number for port in workload.ports] == [5353]
    assert (str(DNS), str(TCP_DNS)) == ("shop/dns:53/udp", "shop/dns:53")


@pytest.mark.parametrize(
    "route, expected",
    [
        (mk_udp_route("r", 5353), {5353: ["shop/t"], 8125: []}),
        (mk_udp_route("r"), {5353: ["shop/t"], 8125: ["shop/t"]}),
    ],
)
def test_a_udp_route_admits_the_target_ports_that_it_lists(
    route: MeshObject, expected: dict[int, list[str]]
) -> None:
    """Or all of them; and nothing of TCP."""
    mesh = build(route, mk_target("t", ["client"], "dns", udp("r")))
    assert granted(mesh) == expected
    assert mesh.workloads[ProxyId(NS, "dns")].ports[0].grants == ()
    assert mesh.reach[spiffe("client")] == {DNS, STATS} - ({STATS} if not expected[8125] else set())
    assert told(mesh) == []


def test_a_tcp_route_admits_no_datagrams() -> None:
    """Not even one for all ports."""
    mesh = build(mk_tcp_route("r"), mk_target("t", ["client"], "dns", tcp("r")))
    assert granted(mesh) == {5353: [], 8125: []}
    assert mesh.reach == {spiffe("client"): {TCP_DNS}}


def test_udp_routes_of_one_target_unite() -> None:
    """As TCPRoutes do; one that is missing empties them all, and takes nothing from TCP."""
    one, two = mk_udp_route("one", 5353), mk_udp_route("two", 8125)
    mesh = build(one, two, mk_target("t", ["client"], "dns", udp("one"), udp("two")))
    assert granted(mesh) == {5353: ["shop/t"], 8125: ["shop/t"]}

    rules = (udp("one"), udp("gone"), tcp("all"))
    mesh = build(one, mk_tcp_route("all"), mk_target("t", ["client"], "dns", *rules))
    assert granted(mesh) == {5353: [], 8125: []}
    assert mesh.reach == {spiffe("client"): {TCP_DNS}}
    assert told(mesh) == [("spec.rules[1].name", ProblemCode.MISSING_ROUTE)]


def test_the_old_destination_port_restricts_udp_as_well() -> None:
    """It grants less wherever it stands."""
    mesh = build(mk_udp_route("r"), mk_target("t", ["client"], "dns", udp("r"), port=5353))
    assert granted(mesh) == {5353: ["shop/t"], 8125: []}


@pytest.mark.parametrize(
    "port, code",
    [
        (5353, None),
        (53, ProblemCode.NOT_A_TARGET_PORT),
        (8080, ProblemCode.WRONG_TRANSPORT),
        (54, ProblemCode.UNKNOWN_PORT),
        (0, ProblemCode.INVALID_PORT),
    ],
)
def test_a_port_that_is_none_of_the_pods_udp_ports_is_a_problem(
    port: int, code: ProblemCode | None
) -> None:
    """A Service's port, one of TCP, one that nobody names."""
    web = mk_service("web", mk_port(8080), app="dns")
    mesh = build(web, mk_udp_route("r", port), mk_target("t", ["client"], "dns", udp("r")))
    assert [found for _, found in told(mesh)] == ([] if code is None else [code])


@pytest.mark.parametrize(
    "rule, code",
    [(udp("all"), ProblemCode.WRONG_TRANSPORT), (udp("one"), ProblemCode.UNKNOWN_PORT)],
)
def test_a_udp_route_for_pods_without_udp_is_a_problem(rule: Rule, code: ProblemCode) -> None:
    """It says what to do; with nothing known of the pods there is nothing to say."""
    target = mk_target("t", ["client"], "web", rule)
    routes = (mk_udp_route("all"), mk_udp_route("one", 53))
    web = (mk_pod("web", "10.0.0.9"), mk_service("web"))
    assert told(build(*routes, *web, target)) == [("spec.rules[0]", code)]
    assert told(build(*routes, mk_pod("web", "10.0.0.9"), target)) == []


def test_a_tcp_route_for_a_udp_port_is_a_problem() -> None:
    """It is told apart from a port that nobody names."""
    mesh = build(mk_tcp_route("r", 8125), mk_target("t", ["client"], "dns", tcp("r")))
    assert told(mesh) == [("spec.rules[0]", ProblemCode.WRONG_TRANSPORT)]
    assert "write `protocol: TCP`" in mesh.problems[0].cure


# ------------------------------------------------------------------ where datagrams go


def test_udp_is_split_and_the_backends_know_the_root() -> None:
    """Callers ask the tunnel for the root, whichever backend they are sent to."""
    split = mk_split("s", "root", {"dns": 1, "root": 2, "none": 0})
    mesh = build(mk_service("root", u(53)), mk_service("none", u(53), app="-"), split)
    root = PortRef(ServiceRef(NS, "root"), 53, udp=True)
    (entry,) = mesh.routes[root].entries
    assert {b.service.name: b.weight for b in entry.backends} == {"dns": 1, "root": 2, "none": 0}
    assert [p.services for p in mesh.workloads[ProxyId(NS, "dns")].udp_ports] == [
        (DNS, root),
        (STATS,),
    ]


def test_a_tcp_port_of_the_same_number_is_no_backend_of_a_udp_port() -> None:
    """Backends have the root's transport."""
    web = mk_service("web", mk_port(53, "tcp-53"), app="dns")
    mesh = build(web, mk_service("root", u(53)), mk_split("s", "root", {"web": 1}))
    assert mesh.routes[PortRef(ServiceRef(NS, "root"), 53, udp=True)].entries[0].backends == ()
    assert told(mesh) == [("spec.backends[0].service", ProblemCode.BACKEND_PORT_MISMATCH)]


def test_where_nobody_has_a_sidecar_datagrams_go_as_they_are() -> None:
    """Anyone may send them; without any endpoint, a tunnel is what will be."""
    old = mk_pod("old", "10.0.0.3", sidecar="")
    mesh = build(old, mk_service("old", u(53)), mk_service("empty", u(53)))
    routes = {ref.service.name: it for ref, it in mesh.routes.items() if ref.udp}
    assert {name: it.outside for name, it in routes.items()} == {
        "dns": False,
        "empty": False,
        "old": True,
    }
    assert routes["old"].callers is None


def test_endpoints_without_a_sidecar_beside_others_are_a_problem() -> None:
    """Behind one service, or behind one split."""
    old = mk_pod("old", "10.0.0.3", app="dns", sidecar="")
    assert told(build(old)) == [
        ("port 53", ProblemCode.UDP_OUTSIDE_MESH),
        ("port 8125", ProblemCode.UDP_OUTSIDE_MESH),
    ]
    old = mk_pod("old", "10.0.0.3", sidecar="")
    split = mk_split("s", "root", {"dns": 1, "old": 1})
    mesh = build(old, mk_service("old", u(53)), mk_service("root", u(53)), split)
    assert [(p.ref.name, p.code) for p in mesh.problems] == [("root", ProblemCode.UDP_OUTSIDE_MESH)]


def test_permissive_access_opens_udp_as_well() -> None:
    """As it does for requests and connections."""
    assert build(access=AccessMode.PERMISSIVE).open == {DNS, TCP_DNS, STATS}


def test_udp_services_have_local_ports_of_their_own() -> None:
    """From the same range: a TCP service may have the number, a UDP target port may not."""
    ports = build().bound_ports
    assert set(ports) == {DNS, STATS, TCP_DNS}
    assert all(number in BOUND_PORTS for number in ports.values())

    taken = build(mk_service("more", u(1, target=ports[DNS]), app="dns"))
    assert taken.bound_ports[DNS] == ports[DNS] + 1
    tcp_too = build(mk_service("more", mk_port(1, "tcp", target=ports[DNS]), app="dns"))
    assert tcp_too.bound_ports[DNS] == ports[DNS]


def test_udp_never_is_what_a_host_without_a_port_means() -> None:
    """Only HTTP has hosts."""
    mesh = build(mk_service("web", u(80), mk_port(80)))
    web = {ref: it for ref, it in mesh.routes.items() if ref.service.name == "web"}
    assert {ref.udp: it.default_port for ref, it in web.items()} == {True: False, False: True}
    assert {ref.udp: it.protocol for ref, it in web.items()} == {
        True: Protocol.UDP,
        False: Protocol.HTTP,
    }
