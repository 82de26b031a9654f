"""Who may talk to whom, as the same grants and routes say."""

import json

import pytest

from smi_xds.mesh.graph import Allow, Graph, Share, Splitting, graph, in_words
from smi_xds.mesh.model import HttpMatch
from smi_xds.mesh.plain import complete
from smi_xds.objects.kube import Transport
from smi_xds.objects.smi import IdentityBinding, Subject
from tests.support.mesh import build_mesh
from tests.support.objects import (
    NS,
    http,
    mk_account,
    mk_http_routes,
    mk_match,
    mk_namespace,
    mk_pod,
    mk_port,
    mk_service,
    mk_split,
    mk_target,
    mk_tcp_route,
    mk_udp_route,
    tcp,
    udp,
)

API = mk_pod("api", "10.0.0.2")
WEB = mk_account("web")
ROUTES = mk_http_routes("r", mk_match("m", "/items", ("GET", "HEAD"), x_user="ann"))


def allow(source: str = "shop/web", **more: object) -> Allow:
    fields: dict[str, object] = {"service": "shop/api", "port": 80, "protocol": "http"}
    return Allow(source=source, **{**fields, **more})  # type: ignore[arg-type] # in few words


def test_callers_are_listed_with_what_they_may() -> None:
    """The TrafficTarget, and its matches in words."""
    mesh = build_mesh(
        API, WEB, mk_service("api"), ROUTES, mk_target("t", ["web"], "api", http("r"))
    )

    found = graph(mesh)

    assert found.allows == (allow(target="shop/t", requests=("GET|HEAD /items x-user: ann",)),)
    (node,) = found.services
    assert (node.service, [(it.number, it.protocol, it.identities) for it in node.ports]) == (
        "shop/api",
        [(80, "http", ("shop/api",))],
    )


def test_connections_have_no_requests() -> None:
    """A TCP port is allowed as a whole, an HTTP port by a TCPRoute too."""
    mesh = build_mesh(
        API,
        WEB,
        mk_service("api", mk_port(80), mk_port(3306)),
        mk_tcp_route("p"),
        mk_target("t", ["web"], "api", tcp("p")),
    )

    assert graph(mesh).allows == (
        allow(target="shop/t"),
        allow(port=3306, protocol="tcp-server-first", target="shop/t"),
    )


def test_udp_ports_are_told_from_tcp() -> None:
    """By the UDPRoutes that admit datagrams."""
    mesh = build_mesh(
        API,
        WEB,
        mk_service("api", mk_port(53, "dns", transport=Transport.UDP), mk_port(53, "http-dns")),
        mk_udp_route("p"),
        mk_target("t", ["web"], "api", udp("p")),
    )

    assert graph(mesh).allows == (allow(port=53, protocol="udp", target="shop/t"),)


@pytest.mark.parametrize(
    "access, mtls, source, why",
    [
        ("permissive", "permissive", "anyone", "access is permissive"),
        ("permissive", "strict", "any identity", "access is permissive"),
        ("shadow", "permissive", "anyone", "access is in shadow mode"),
    ],
)
def test_who_is_not_asked_for_a_right_is_told(
    access: str, mtls: str, source: str, why: str
) -> None:
    """Where access is not strict, and who that lets in."""
    namespace = mk_namespace(access=access, mtls=mtls)

    assert graph(build_mesh(namespace, API, mk_service("api"))).allows == (allow(source, why=why),)


def test_shadow_mode_shows_the_rights_too() -> None:
    """They are what will count."""
    mesh = build_mesh(
        mk_namespace(access="shadow"),
        API,
        WEB,
        mk_service("api"),
        ROUTES,
        mk_target("t", ["web"], "api", http("r")),
    )

    assert [it.source for it in graph(mesh).allows] == ["any identity", "shop/web"]


def test_what_has_no_sidecar_is_open_to_anyone() -> None:
    """Nobody judges there."""
    mesh = build_mesh(mk_pod("api", "10.0.0.2", sidecar=""), mk_service("api"))

    assert graph(mesh).allows == (allow("anyone", why="it has no sidecar"),)


def test_callers_bound_to_addresses_are_told() -> None:
    """By the labels of an IdentityBinding."""
    binding = IdentityBinding(namespace=NS, name="b", match_labels=(("app", "web"),))
    mesh = build_mesh(
        mk_pod("api", "10.0.0.2", sidecar="intercepted"),
        mk_pod("web", "10.0.0.1"),
        mk_service("api"),
        ROUTES,
        binding,
        mk_target("t", [Subject(kind="IdentityBinding", name="b")], "api", http("r")),
    )

    (found,) = graph(mesh).allows
    assert (found.source, found.why) == ("shop/web", "from 10.0.0.1 alone")


def test_splits_have_shares() -> None:
    """For each entry its conditions; nothing has no share."""
    mesh = build_mesh(
        API,
        WEB,
        mk_service("api"),
        mk_service("v2"),
        ROUTES,
        mk_split("s", "api", {"api": 3, "v2": 1}, matches=("r",)),
        mk_split("z", "api", {"v2": 0}),
    )

    assert graph(mesh).splits == (
        Splitting(
            split="shop/s",
            service="shop/api",
            port=80,
            requests=("GET|HEAD /items x-user: ann",),
            backends=(
                Share(service="shop/api", share=75.0),
                Share(service="shop/v2", share=25.0),
            ),
        ),
        Splitting(
            split="shop/z",
            service="shop/api",
            port=80,
            requests=(),
            backends=(Share(service="shop/v2", share=0.0),),
        ),
    )


def test_a_namespace_shows_what_concerns_it() -> None:
    """Its own services, and those that its accounts may call."""
    mesh = build_mesh(
        API,
        WEB,
        mk_service("api"),
        ROUTES,
        mk_target("t", ["web", "far/job"], "api", http("r")),
        mk_account("job", namespace="far"),
        mk_pod("x", "10.0.0.9", namespace="other"),
        mk_service("x", namespace="other"),
        mk_split("s", "api", {"api": 1}),
    )

    far, shop, other = (graph(mesh, namespace=name) for name in ("far", "shop", "other"))

    assert [it.source for it in far.allows] == ["far/job"]
    assert ([it.service for it in far.services], len(far.splits)) == (["shop/api"], 1)
    assert [it.source for it in shop.allows] == ["far/job", "shop/web"]
    assert ([it.service for it in other.services], other.splits) == (["other/x"], ())
    assert graph(mesh, namespace="none") == Graph(services=(), allows=(), splits=())


def test_a_condition_in_words() -> None:
    """Short, and never empty."""
    assert in_words(HttpMatch()) == "every request"
    assert in_words(HttpMatch(methods=("GET",))) == "GET"
    assert in_words(HttpMatch(path="/a", headers=(("x", "1"), ("y", "2")))) == "/a x: 1 y: 2"


def test_a_graph_is_complete_json() -> None:
    """Every field is there."""
    mesh = build_mesh(
        API, WEB, mk_service("api"), ROUTES, mk_target("t", ["web"], "api", http("r"))
    )

    found = complete(graph(mesh))

    assert json.loads(json.dumps(found)) == found
    assert isinstance(found, dict)
    assert found["splits"] == []
