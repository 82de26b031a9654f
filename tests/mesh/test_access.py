"""TrafficTargets become grants; whatever is wrong grants less and is told."""

from dataclasses import replace

import pytest

from smi_xds.mesh.model import Grant, HttpMatch, Mesh, Protocol, Source
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import Rule, Subject, TrafficTarget
from smi_xds.problems import ProblemCode
from smi_xds.values import ProxyId
from tests.support.mesh import build_mesh, told
from tests.support.objects import (
    NS,
    http,
    mk_account,
    mk_http_routes,
    mk_match,
    mk_pod,
    mk_port,
    mk_service,
    mk_target,
    mk_tcp_route,
    mk_udp_route,
    spiffe,
    tcp,
    udp,
)

# A server with an HTTP port, target 8080, and a TCP port 5432; and two who may call.
WORLD = (
    mk_pod("server", "10.0.0.1"),
    mk_pod("client", "10.0.0.2"),
    mk_pod("other", "10.0.0.3"),
    mk_service("server", mk_port(80, "http", target=8080), mk_port(5432, "tcp-db")),
)
ALL_TCP = mk_tcp_route("all")
ROUTES = mk_http_routes("web", mk_match("api", "/api"), mk_match("metrics", "/metrics", ("GET",)))
API, METRICS = HttpMatch(path="/api"), HttpMatch(path="/metrics", methods=("GET",))


def build(*objects: MeshObject) -> Mesh:
    return build_mesh(*WORLD, *objects)


def grants(mesh: Mesh, port: int = 8080) -> tuple[Grant, ...]:
    ports = mesh.workloads[ProxyId(NS, "server")].ports
    return next(p.grants for p in ports if p.number == port)


def test_an_http_route_group_admits_its_matches_on_http_ports_alone() -> None:
    """A rule with an HTTPRouteGroup admits requests, and no connection to a TCP port."""
    mesh = build(ROUTES, mk_target("t", ["client"], "server", http("web", "api")))
    assert [g.http for g in grants(mesh)] == [(API,)]
    assert grants(mesh, 5432) == ()
    assert told(mesh) == []


def test_omitted_matches_mean_all_matches() -> None:
    """A rule without `matches` stands for every match of the group."""
    for rule in (http("web"), Rule(kind="HTTPRouteGroup", name="web", matches=())):
        mesh = build(ROUTES, mk_target("t", ["client"], "server", rule))
        assert [g.http for g in grants(mesh)] == [(API, METRICS)]


def test_a_tcp_route_alone_admits_connections_and_requests_on_its_ports() -> None:
    """A TCPRoute admits both TCP and HTTP on the ports it lists, and on no other."""
    mesh = build(mk_tcp_route("db", 5432), mk_target("t", ["client"], "server", tcp("db")))
    assert grants(mesh) == ()
    assert [(g.ports, g.http) for g in grants(mesh, 5432)] == [((5432,), None)]
    mesh = build(ALL_TCP, mk_target("t", ["client"], "server", tcp("all")))
    assert [g.ports for g in (*grants(mesh), *grants(mesh, 5432))] == [None, None]


def test_both_kinds_in_one_target_must_hold_together() -> None:
    """A TCPRoute beside an HTTPRouteGroup restricts its requests to the ports listed."""
    web = mk_tcp_route("web", 8080)
    mesh = build(ROUTES, web, mk_target("t", ["client"], "server", http("web"), tcp("web")))
    assert [(g.ports, g.http) for g in grants(mesh)] == [((8080,), (API, METRICS))]
    db = mk_tcp_route("db", 5432)
    mesh = build(ROUTES, db, mk_target("t", ["client"], "server", http("web"), tcp("db")))
    assert grants(mesh) == ()
    assert grants(mesh, 5432) == ()
    assert told(mesh) == [("spec.rules[0]", ProblemCode.NOT_AN_HTTP_PORT)]


def test_several_tcp_routes_unite_their_ports() -> None:
    """The ports of all TCPRoutes of one target are listed; one without ports lists all."""
    both = (mk_tcp_route("db", 5432), mk_tcp_route("web", 8080))
    mesh = build(*both, mk_target("t", ["client"], "server", tcp("db"), tcp("web")))
    assert [g.ports for g in grants(mesh)] == [(5432, 8080)]
    mesh = build(*both, ALL_TCP, mk_target("t", ["client"], "server", tcp("db"), tcp("all")))
    assert [g.ports for g in grants(mesh)] == [None]


def test_targets_of_one_destination_unite_but_never_mix() -> None:
    """Each target is a grant of its own, with its own sources and matches."""
    mesh = build(
        ROUTES,
        mk_target("a", ["client"], "server", http("web", "api")),
        mk_target("b", ["other"], "server", http("web", "metrics")),
    )
    assert [(g.target, g.sources, g.http) for g in grants(mesh)] == [
        ("shop/a", (Source(spiffe("client")),), (API,)),
        ("shop/b", (Source(spiffe("other")),), (METRICS,)),
    ]


def test_sources_of_other_namespaces_are_named_by_namespace() -> None:
    """A source without a namespace is of the target's own, another one of the one it names."""
    mesh = build(
        ALL_TCP,
        mk_account("client", namespace="elsewhere"),
        mk_target("t", ["elsewhere/client", "client"], "server", tcp("all")),
    )
    assert grants(mesh)[0].sources == (
        Source(spiffe("client", "elsewhere")),
        Source(spiffe("client")),
    )


def test_a_source_that_does_not_exist_is_nobody() -> None:
    """A certificate outlives the account that it was for: so the account's name must not."""
    mesh = build(ALL_TCP, mk_target("t", ["gone", "client"], "server", tcp("all")))
    assert grants(mesh)[0].sources == (Source(spiffe("client")),)
    assert told(mesh) == [("spec.sources[0].name", ProblemCode.MISSING_SERVICE_ACCOUNT)]


@pytest.mark.parametrize(
    "target, problems",
    [
        (
            mk_target("t", [], "server", tcp("all")),
            [("spec.sources", ProblemCode.NO_SOURCES)],
        ),
        (mk_target("t", ["client"], "server"), [("spec.rules", ProblemCode.NO_RULES)]),
        (
            TrafficTarget(
                namespace=NS, name="t", destination=Subject(kind="ServiceAccount", name="server")
            ),
            [
                ("spec.rules", ProblemCode.NO_RULES),
                ("spec.sources", ProblemCode.NO_SOURCES),
            ],
        ),
        (
            mk_target("t", ["client"], None, tcp("all")),
            [("spec.destination", ProblemCode.INVALID_OBJECT)],
        ),
        (
            mk_target("t", ["client"], Subject(kind="Group", name="server"), tcp("all")),
            [("spec.destination.kind", ProblemCode.UNKNOWN_KIND)],
        ),
        (
            mk_target("t", [Subject(kind="Group", name="client")], "server", tcp("all")),
            [("spec.sources[0].kind", ProblemCode.UNKNOWN_KIND)],
        ),
        (
            mk_target("t", ["client"], "server", tcp("all"), Rule(kind="GRPCRoute", name="x")),
            [("spec.rules[1].kind", ProblemCode.UNKNOWN_KIND)],
        ),
        (
            mk_target("t", ["client"], "server", tcp("gone")),
            [("spec.rules[0].name", ProblemCode.MISSING_ROUTE)],
        ),
        (
            mk_target("t", ["client"], "server", tcp("all"), tcp("gone")),
            [("spec.rules[1].name", ProblemCode.MISSING_ROUTE)],
        ),
        (
            mk_target("t", ["client"], "server", tcp("all"), http("gone")),
            [("spec.rules[1].name", ProblemCode.MISSING_ROUTE)],
        ),
        (
            mk_target("t", ["client"], "server", http("web"), http("gone")),
            [("spec.rules[1].name", ProblemCode.MISSING_ROUTE)],
        ),
        (
            mk_target("t", ["client"], "server", http("web", "gone")),
            [("spec.rules[0].matches[0]", ProblemCode.MISSING_MATCH)],
        ),
        (
            mk_target("t", ["client"], "server", http("empty")),
            [],
        ),
        (
            mk_target("t", ["client"], "server", udp("dns")),
            [("spec.rules[0]", ProblemCode.UNKNOWN_PORT)],
        ),
        (
            mk_target("t", ["shop/client"], "shop/server", tcp("all"), namespace="elsewhere"),
            [
                ("spec.destination.namespace", ProblemCode.FOREIGN_NAMESPACE),
                ("spec.rules[0].name", ProblemCode.MISSING_ROUTE),
            ],
        ),
    ],
)
def test_what_is_wrong_grants_nothing(
    target: TrafficTarget, problems: list[tuple[str, ProblemCode]]
) -> None:
    """No sources, no rules, unknown kinds, dangling names, a foreign namespace: nobody gets in."""
    mesh = build(ALL_TCP, ROUTES, mk_http_routes("empty"), mk_udp_route("dns", 53), target)
    assert grants(mesh) == ()
    assert grants(mesh, 5432) == ()
    assert told(mesh) == [("spec.matches", ProblemCode.NO_MATCHES), *problems]
    assert mesh.reach == {}


def test_a_single_bad_match_among_good_ones_only_drops_out() -> None:
    """A dangling match name, or a refused expression, takes nothing from the other matches."""
    routes = mk_http_routes("web", mk_match("api", "/api"), mk_match("bad", "("))
    mesh = build(routes, mk_target("t", ["client"], "server", http("web", "api", "bad", "gone")))
    assert [g.http for g in grants(mesh)] == [(API,)]
    assert told(mesh) == [
        ("spec.matches[1].pathRegex", ProblemCode.INVALID_REGEX),
        ("spec.rules[0].matches[1]", ProblemCode.MISSING_MATCH),
        ("spec.rules[0].matches[2]", ProblemCode.MISSING_MATCH),
    ]


def test_matches_of_a_route_of_ports_are_told() -> None:
    """Whoever wrote them may have meant a restriction; the rule allows the ports all the same."""
    rules = (
        Rule(kind="TCPRoute", name="all", matches=("api",)),
        Rule(kind="UDPRoute", name="dns", matches=("api",)),
    )
    target = mk_target("t", ["client"], "server", *rules)
    mesh = build(ALL_TCP, mk_udp_route("dns", 8080), target)
    assert [grant.tcp for grant in grants(mesh)] == [True]
    assert ("spec.rules[0].matches", ProblemCode.IGNORED_MATCHES) in told(mesh)
    assert ("spec.rules[1].matches", ProblemCode.IGNORED_MATCHES) in told(mesh)


def test_a_source_of_unknown_kind_leaves_the_others() -> None:
    """One source that matches nobody takes nothing from the others."""
    group = Subject(kind="Group", name="x")
    mesh = build(ALL_TCP, mk_target("t", [group, "client"], "server", tcp("all")))
    assert grants(mesh)[0].sources == (Source(spiffe("client")),)


def test_a_udp_route_takes_nothing_from_a_tcp_route_beside_it() -> None:
    """UDP is judged by UDPRoutes alone: a TCPRoute beside one admits what it lists."""
    dns = mk_udp_route("dns", 53)
    mesh = build(ALL_TCP, dns, mk_target("t", ["client"], "server", udp("dns"), tcp("all")))
    assert [g.ports for g in grants(mesh, 5432)] == [None]
    assert told(mesh) == [("spec.rules[0]", ProblemCode.UNKNOWN_PORT)]


@pytest.mark.parametrize(
    "port, code",
    [
        (80, ProblemCode.NOT_A_TARGET_PORT),
        (9999, ProblemCode.UNKNOWN_PORT),
        (0, ProblemCode.INVALID_PORT),
        (65536, ProblemCode.INVALID_PORT),
    ],
)
def test_ports_that_the_pods_do_not_serve_are_told(port: int, code: ProblemCode) -> None:
    """A Service's own port number, an unknown one and no number at all grant nothing."""
    mesh = build(mk_tcp_route("r", port), mk_target("t", ["client"], "server", tcp("r")))
    assert grants(mesh) == ()
    assert told(mesh) == [("spec.rules[0]", code)]


def test_the_problem_of_a_service_port_names_the_target_port() -> None:
    """Whoever lists the Service's port is told which one to list."""
    mesh = build(mk_tcp_route("r", 80), mk_target("t", ["client"], "server", tcp("r")))
    assert mesh.problems[0].cure == "List the target port 8080 in TCPRoute shop/r."


def test_ports_of_a_destination_without_pods_are_not_judged() -> None:
    """While nothing runs as an account, nobody can say which ports it will serve."""
    mesh = build(mk_tcp_route("r", 7), mk_target("t", ["client"], "later", tcp("r")))
    assert told(mesh) == [("spec.destination.name", ProblemCode.MISSING_SERVICE_ACCOUNT)]


def test_the_old_destination_port_restricts_wherever_it_stands() -> None:
    """`destination.port` of v1alpha1 and v1alpha2 restricts in newer versions too, and is told."""
    mesh = build(ALL_TCP, mk_target("t", ["client"], "server", tcp("all"), port=5432))
    assert grants(mesh) == ()
    assert [g.ports for g in grants(mesh, 5432)] == [(5432,)]
    assert told(mesh) == [("spec.destination.port", ProblemCode.DEPRECATED_PORT)]
    old = mk_target("t", ["client"], "server", http("web"), port=8080)
    mesh = build(ROUTES, replace(old, version="v1alpha2"))
    assert [g.ports for g in grants(mesh)] == [(8080,)]
    assert told(mesh) == []


def test_fields_of_the_first_version_are_named_as_there() -> None:
    """It has no spec, and its rules are called specs."""
    old = mk_target("t", ["gone"], "gone", http("gone"))
    mesh = build(replace(old, version="v1alpha1"))
    assert [field for field, _ in told(mesh)] == [
        "destination.name",
        "sources[0].name",
        "specs[0].name",
    ]


def test_the_old_destination_port_and_a_tcp_route_must_agree() -> None:
    """A port that the TCPRoute does not list is not granted by `destination.port`."""
    web = mk_tcp_route("web", 8080)
    mesh = build(web, mk_target("t", ["client"], "server", tcp("web"), port=5432))
    assert (grants(mesh), grants(mesh, 5432)) == ((), ())


def test_a_grant_admits_by_protocol() -> None:
    """Requests need `l7` and a match, connections `tcp`, datagrams a UDPRoute with the port."""
    sources = (Source(spiffe("client")),)
    everything = Grant(target="t", sources=sources, ports=None, http=None, tcp=True, l7=True)
    admitted = [p for p in Protocol if everything.admits(1, p)]
    assert admitted == [p for p in Protocol if p is not Protocol.UDP]
    nothing = Grant(target="t", sources=sources, ports=None, http=(), tcp=False, l7=True)
    assert not any(nothing.admits(1, p) for p in Protocol)
    listed: tuple[int, ...] | None
    for listed, numbers in [((1,), [1]), (None, [1, 2])]:
        datagrams = replace(nothing, udp=listed)
        assert [port for port in (1, 2) if datagrams.admits(port, Protocol.UDP)] == numbers
