"""TrafficSplits become routes."""

from decimal import Decimal

import pytest

from smi_xds.mesh.model import HttpMatch, Mesh, PortRef, PortRoutes, RouteEntry, WeightedBackend
from smi_xds.objects.kube import Transport
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import Backend, SplitMatch, TrafficSplit
from smi_xds.problems import ProblemCode
from smi_xds.values import ServiceRef
from tests.support.mesh import build_mesh, told
from tests.support.objects import (
    NS,
    mk_http_routes,
    mk_match,
    mk_pod,
    mk_port,
    mk_service,
    mk_split,
)

# A root and two backends, each with an HTTP and a TCP port, and one that has neither.
PORTS = (mk_port(80, "http"), mk_port(5432, "tcp-db"))
WORLD = (
    mk_service("root", *PORTS, app="any"),
    mk_service("v1", *PORTS, app="any"),
    mk_service("v2", *PORTS, app="any"),
    mk_service("odd", mk_port(5432, "http-db", target=8080), app="any"),
    mk_pod("pod", app="any"),
)
FIREFOX = mk_http_routes("firefox", mk_match("ff", user_agent=".*Firefox.*"))
ADMIN = mk_http_routes("admin", mk_match("a", "/admin"), mk_match("b", methods=("PUT",)))
IS_FIREFOX = HttpMatch(headers=(("user-agent", ".*Firefox.*"),))


def build(*objects: MeshObject) -> Mesh:
    return build_mesh(*WORLD, *objects)


def entries(mesh: Mesh, port: int = 80) -> list[tuple[str, dict[str, int]]]:
    routes = mesh.routes[PortRef(ServiceRef(NS, "root"), port)]
    return [(e.split, {b.service.name: b.weight for b in e.backends}) for e in routes.entries]


def test_without_a_split_traffic_goes_to_the_service_itself() -> None:
    """A root without splits is routed to its own endpoints, on each of its ports."""
    mesh = build()
    assert entries(mesh) == entries(mesh, 5432) == [("", {"root": 1})]


def test_a_split_takes_all_ports_that_its_backends_have() -> None:
    """SMI names no ports: a split holds for HTTP and for TCP."""
    mesh = build(mk_split("s", "root", {"v1": 90, "v2": 10}))
    assert entries(mesh) == entries(mesh, 5432) == [("shop/s", {"v1": 90, "v2": 10})]


@pytest.mark.parametrize(
    "root", ["root", "root.shop", "root.shop.svc", "root.shop.svc.cluster.local."]
)
def test_a_root_may_be_written_as_fqdn(root: str) -> None:
    """What applications dial may be written in any of its forms."""
    assert entries(build(mk_split("s", root, {"v1": 1}))) == [("shop/s", {"v1": 1})]


@pytest.mark.parametrize("root", ["root.other", "root.example.com", "root.shop.example.com"])
def test_a_root_elsewhere_has_no_effect(root: str) -> None:
    """A host outside the split's namespace is no root, whether its first label is known or not."""
    mesh = build(mk_split("s", root, {"v1": 1}), mk_split("t", f"un{root}", {"v1": 1}))
    assert entries(mesh) == [("", {"root": 1})]
    assert told(mesh) == [("spec.service", ProblemCode.FOREIGN_ROOT)] * 2


def test_a_missing_root_is_told() -> None:
    """A split of a Service that is not there waits for it."""
    mesh = build(mk_split("s", "gone", {"v1": 1}))
    assert told(mesh) == [("spec.service", ProblemCode.MISSING_SERVICE)]


def test_splits_with_matches_come_first_then_the_oldest() -> None:
    """Matches first; of those without, the older wins and the other is told."""
    mesh = build(
        FIREFOX,
        mk_split("a", "root", {"v1": 1}, created="2024-02-01T00:00:00Z"),
        mk_split("b", "root", {"v2": 1}, created="2024-01-01T00:00:00Z"),
        mk_split("c", "root", {"v2": 1}, matches=("firefox",), created="2024-03-01T00:00:00Z"),
    )
    assert entries(mesh) == [("shop/c", {"v2": 1}), ("shop/b", {"v2": 1})]
    assert entries(mesh, 5432) == [("shop/b", {"v2": 1})]
    assert [(str(p.ref), p.code) for p in mesh.problems] == [
        ("TrafficSplit shop/a", ProblemCode.SHADOWED_SPLIT),
        ("TrafficSplit shop/c", ProblemCode.MATCHES_ON_TCP),
    ]


def test_splits_of_one_age_go_by_name() -> None:
    """Files have no age: the name decides, not the order of reading."""
    mesh = build(mk_split("b", "root", {"v2": 1}), mk_split("a", "root", {"v1": 1}))
    assert entries(mesh) == [("shop/a", {"v1": 1})]


def test_splits_whose_matches_are_all_taken_are_shadowed() -> None:
    """A split is told if others take all that it asks for, and only then."""
    mesh = build(
        FIREFOX,
        ADMIN,
        mk_split("a", "root", {"v1": 1}, matches=("firefox",)),
        mk_split("b", "root", {"v2": 1}, matches=("firefox",)),
        mk_split("c", "root", {"v2": 1}, matches=("firefox", "admin")),
    )
    assert ("TrafficSplit shop/b", ProblemCode.SHADOWED_SPLIT) in [
        (str(p.ref), p.code) for p in mesh.problems
    ]
    assert "TrafficSplit shop/c" not in [
        str(p.ref) for p in mesh.problems if p.code is ProblemCode.SHADOWED_SPLIT
    ]
    assert entries(mesh)[-1] == ("", {"root": 1})


def test_a_match_that_always_holds_shadows_the_splits_behind() -> None:
    """A match with nothing but a name takes every request, though no connection."""
    world = (
        mk_http_routes("all", mk_match("all")),
        mk_service("web", mk_port(80), app="any"),
        mk_split("a", "web", {"v1": 1}, matches=("all",)),
        mk_split("b", "web", {"v2": 1}),
        mk_split("c", "root", {"v1": 1}, matches=("all",)),
        mk_split("d", "root", {"v2": 1}),
    )
    mesh = build(*world)
    assert entries(mesh) == [("shop/c", {"v1": 1})]
    assert entries(mesh, 5432) == [("shop/d", {"v2": 1})]
    assert [str(p.ref) for p in mesh.problems if p.code is ProblemCode.SHADOWED_SPLIT] == [
        "TrafficSplit shop/b"
    ]


def test_several_groups_in_matches_are_alternatives() -> None:
    """All matches of all groups are merged; a repeated one counts once."""
    mesh = build(
        FIREFOX, ADMIN, mk_split("s", "root", {"v1": 1}, matches=("admin", "firefox", "admin"))
    )
    assert mesh.routes[PortRef(ServiceRef(NS, "root"), 80)].entries[0].matches == (
        HttpMatch(path="/admin"),
        HttpMatch(methods=("PUT",)),
        IS_FIREFOX,
    )


@pytest.mark.parametrize(
    "match, problem",
    [
        ("gone", ("spec.matches[0].name", ProblemCode.MISSING_ROUTE)),
        (SplitMatch(kind="TCPRoute", name="x"), ("spec.matches[0].kind", ProblemCode.UNKNOWN_KIND)),
    ],
)
def test_a_split_whose_matches_refer_to_nothing_is_not_applied(
    match: str | SplitMatch, problem: tuple[str, ProblemCode]
) -> None:
    """It was meant for some requests: it must not take all of them."""
    mesh = build(mk_split("s", "root", {"v1": 1}, matches=(match,)))
    assert entries(mesh) == entries(mesh, 5432) == [("", {"root": 1})]
    assert told(mesh) == [
        ("spec.matches", ProblemCode.SPLIT_WITHOUT_MATCHES),
        problem,
    ]


def test_empty_matches_mean_no_condition() -> None:
    """`matches: []`, which Go clients write for an absent list, is an unconditional split."""
    assert entries(build(mk_split("s", "root", {"v1": 1}, matches=()))) == [("shop/s", {"v1": 1})]


def test_the_root_as_its_own_backend_is_its_own_endpoints() -> None:
    """A backend that equals the root is the root unsplit: rollout tools write it so."""
    mesh = build(mk_split("s", "root", {"root": 1, "v1": 3}))
    assert entries(mesh) == [("shop/s", {"root": 1, "v1": 3})]
    assert told(mesh) == []


def test_splits_are_one_level_deep() -> None:
    """A backend that is itself a root is its own endpoints."""
    mesh = build(mk_split("s", "root", {"v1": 1}), mk_split("t", "v1", {"v2": 1}))
    assert entries(mesh) == [("shop/s", {"v1": 1})]


@pytest.mark.parametrize(
    "weights, expected",
    [
        ({"v1": 1000, "v2": 500}, {"v1": 1000, "v2": 500}),
        ({"v1": Decimal("0.5"), "v2": 1}, {"v1": 5, "v2": 10}),
        ({"v1": Decimal("0.250"), "v2": Decimal("1E+1")}, {"v1": 25, "v2": 1000}),
        ({"v1": Decimal("1e-9"), "v2": 2**62}, {"v1": 1, "v2": 999_999_999}),
        ({"v1": 0, "v2": 7 * 10**18}, {"v1": 0, "v2": 1_000_000_000}),
    ],
)
def test_weights_keep_their_proportions(
    weights: dict[str, Decimal | int | str | None], expected: dict[str, int]
) -> None:
    """Whole weights stay as they are, fractions are scaled, and nothing outgrows 32 bits."""
    assert entries(build(mk_split("s", "root", weights))) == [("shop/s", expected)]


def test_negative_and_missing_weights_count_as_none() -> None:
    """Both are told; the others stand."""
    mesh = build(mk_split("s", "root", {"v1": -1, "v2": 2, "root": None}))
    assert entries(mesh) == [("shop/s", {"root": 0, "v1": 0, "v2": 2})]
    assert told(mesh) == [
        ("spec.backends[0].weight", ProblemCode.NEGATIVE_WEIGHT),
        ("spec.backends[2].weight", ProblemCode.MISSING_WEIGHT),
    ]


def test_weights_of_a_backend_that_is_listed_twice_add_up() -> None:
    """Nobody's share is lost to a repeated line."""
    backends = tuple(Backend(service=s, weight=Decimal(w)) for s, w in [("v1", 1), ("v1", 2)])
    mesh = build(TrafficSplit(namespace=NS, name="s", service="root", backends=backends))
    assert entries(mesh) == [("shop/s", {"v1": 3})]
    assert told(mesh) == [("spec.backends[1].service", ProblemCode.DUPLICATE_BACKEND)]


@pytest.mark.parametrize(
    "weights, problem",
    [
        ({"v1": 0, "v2": 0}, ("spec.backends", ProblemCode.NO_WEIGHT)),
        ({}, ("spec.backends", ProblemCode.NO_BACKENDS)),
        ({"gone": 1}, ("spec.backends[0].service", ProblemCode.MISSING_BACKEND)),
    ],
)
def test_a_split_without_weights_leads_nowhere(
    weights: dict[str, Decimal | int | str | None], problem: tuple[str, ProblemCode]
) -> None:
    """Nothing to choose from is an answer (503), not a reason to go to the root."""
    mesh = build(mk_split("s", "root", weights))
    assert [sum(backends.values()) for _, backends in entries(mesh)] == [0]
    assert told(mesh) == [problem]


def test_a_backend_that_lacks_the_port_gets_nothing_there() -> None:
    """A backend without the root's port, or with another protocol on it, is left out and told."""
    mesh = build(mk_split("s", "root", {"v1": 1, "odd": 1}))
    assert entries(mesh) == entries(mesh, 5432) == [("shop/s", {"v1": 1})]
    assert told(mesh) == [("spec.backends[1].service", ProblemCode.BACKEND_PORT_MISMATCH)]
    assert "has no port 80" in mesh.problems[0].message


def test_a_udp_port_is_no_backend_of_a_tcp_port() -> None:
    """Both are not HTTP, yet no TCP connection may go to a port that speaks UDP."""
    dns = mk_service("dns", mk_port(5432, transport=Transport.UDP), app="any")
    mesh = build(dns, mk_split("s", "root", {"v1": 1, "dns": 1}))
    assert entries(mesh, 5432) == [("shop/s", {"v1": 1})]


@pytest.mark.parametrize("ports, default", [((8080, 80, 81), 80), ((9090, 8080), 8080)])
def test_the_port_that_a_host_without_one_means(ports: tuple[int, ...], default: int) -> None:
    """80 where there is one, else the lowest HTTP port; never a TCP port."""
    service = mk_service("web", mk_port(79, "tcp"), *(mk_port(p, f"http-{p}") for p in ports))
    mesh = build_mesh(service, mk_pod("web"))
    assert [ref.port for ref, routes in mesh.routes.items() if routes.default_port] == [default]


def test_the_routes_of_a_port_are_plain_values() -> None:
    """What a later room reads: service, port, protocol, entries and callers."""
    routes = build(mk_split("s", "root", {"v1": 1})).routes[PortRef(ServiceRef(NS, "root"), 80)]
    v1 = WeightedBackend(service=ServiceRef(NS, "v1"), weight=1)
    assert routes == PortRoutes(
        service=ServiceRef(NS, "root"),
        port=80,
        protocol=routes.protocol,
        entries=(RouteEntry(split="shop/s", backends=(v1,)),),
        callers=(),
        default_port=True,
    )


def test_a_backend_that_is_split_itself_is_told() -> None:
    """Its own split is not followed; the root among its own backends is no such thing."""
    mesh = build_mesh(
        mk_service("web"),
        mk_service("v2"),
        mk_split("outer", "web", {"web": 1, "v2": 1}),
        mk_split("inner", "v2", {"web": 1}),
    )

    assert [it for it in told(mesh) if it[1] is ProblemCode.NESTED_SPLIT] == [
        ("spec.backends[0].service", ProblemCode.NESTED_SPLIT),
        ("spec.backends[1].service", ProblemCode.NESTED_SPLIT),
    ]


def test_matches_of_another_group_are_not_known() -> None:
    """`apiGroup` may be left out, and has to be right where it is given."""
    match = SplitMatch(kind="HTTPRouteGroup", name="r", api_group="example.com")
    mesh = build_mesh(
        mk_service("web"),
        mk_http_routes("r", mk_match("m")),
        mk_split("s", "web", {"web": 1}, matches=(match,)),
    )

    assert told(mesh) == [
        ("spec.matches", ProblemCode.SPLIT_WITHOUT_MATCHES),
        ("spec.matches[0].apiGroup", ProblemCode.UNKNOWN_KIND),
    ]
