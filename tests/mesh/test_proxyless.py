"""gRPC processes without a proxy: as clients, as servers, and what they cannot judge."""

from dataclasses import replace

import pytest

from smi_xds.mesh.model import HttpMatch, Mesh, PortRef, RouteEntry, Sidecar, WeightedBackend
from smi_xds.mesh.proxyless import as_judged, is_called_by_mtls
from smi_xds.objects.kube import Pod
from smi_xds.objects.parse import MeshObject
from smi_xds.problems import ProblemCode
from smi_xds.values import ProxyId, ServiceRef
from tests.support.mesh import build_mesh, told
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
    spiffe,
    tcp,
)

JOB = mk_pod("job", "", sidecar="proxyless")
WEB = PortRef(ServiceRef(NS, "web"), 80)
SIDECAR = "metadata.annotations[smi-xds.io/sidecar]"


def world(*more: MeshObject) -> tuple[MeshObject, ...]:
    return (
        JOB,
        mk_pod("web", "10.0.0.2"),
        mk_service("web"),
        mk_http_routes("all", mk_match("all")),
        mk_target("t", ["job"], "web", http("all")),
        *more,
    )


def entries(*matches: HttpMatch) -> tuple[RouteEntry, ...]:
    return (
        RouteEntry(split="shop/s", matches=matches, backends=(_backend("v2"),)),
        RouteEntry(backends=(_backend("web"),)),
    )


def _backend(name: str) -> WeightedBackend:
    return WeightedBackend(service=ServiceRef(NS, name), weight=1)


def judged(*matches: HttpMatch) -> tuple[tuple[HttpMatch, ...], ...]:
    """The matches of each entry, as a gRPC client judges them."""
    routes = replace(build_mesh(*world()).routes[WEB], entries=entries(*matches))
    return tuple(entry.matches for entry in as_judged(routes).entries)


# ------------------------------------------------------------------ clients


def test_a_client_is_a_workload_with_an_identity() -> None:
    """It needs no address, serves nothing, and reaches what its account may call."""
    mesh = build_mesh(*world())
    job = mesh.workloads[ProxyId(NS, "job")]
    assert (job.identity, job.sidecar, job.ports) == (spiffe("job"), Sidecar.PROXYLESS, ())
    assert (job.address, job.sidecar.listens) == ("", False)
    assert mesh.reach[job.identity] == {WEB}
    assert mesh.problems == ()


def test_a_client_that_has_ended_is_none() -> None:
    """Its pod is done."""
    assert build_mesh(mk_pod("job", done=True, sidecar="proxyless")).workloads == {}


def test_clients_may_share_an_address() -> None:
    """Nothing is bound there."""
    mesh = build_mesh(mk_pod("a", sidecar="proxyless"), mk_pod("b", sidecar="proxyless"))
    assert mesh.problems == ()


@pytest.mark.parametrize(
    "match, expected",
    [
        (HttpMatch(path="/a"), HttpMatch(path="/a")),
        (HttpMatch(methods=("GET", "POST"), path="/a"), HttpMatch(path="/a")),
        (HttpMatch(methods=("POST",)), HttpMatch()),
        (HttpMatch(headers=(("content-type", "a"),)), HttpMatch(headers=(("content-type", "a"),))),
        (HttpMatch(path=r"a\\C"), HttpMatch(path=r"a\\C")),
    ],
)
def test_every_call_is_a_post(match: HttpMatch, expected: HttpMatch) -> None:
    """Methods are decided beforehand; paths and headers that the caller sets are judged."""
    assert judged(match) == ((expected,), ())


@pytest.mark.parametrize(
    "match",
    [
        HttpMatch(methods=("GET",)),
        HttpMatch(headers=(("host", "a"),)),
        HttpMatch(headers=((":authority", "a"),)),
        HttpMatch(headers=(("trace-bin", "a"),)),
        HttpMatch(headers=(("user-agent", "a"),)),
        HttpMatch(headers=(("grpc-timeout", "a"),)),
        HttpMatch(headers=(("x", r"a\C"),)),
        HttpMatch(path=r"\\\C"),
    ],
)
def test_what_cannot_be_judged_holds_never(match: HttpMatch) -> None:
    """The match goes, and with the last one the entry: else it would hold always."""
    assert judged(match) == ((),)
    assert judged(match, HttpMatch(path="/a")) == ((HttpMatch(path="/a"),), ())


def test_routes_that_are_judged_alike_are_the_very_same() -> None:
    """So that what was made of them is shared."""
    routes = build_mesh(*world()).routes[WEB]
    assert as_judged(routes) is routes


# ------------------------------------------------------------------ servers


def pods(*modes: str) -> tuple[Pod, ...]:
    """Pods behind `web`, each with `ACCESS/MTLS` modes, or outside of the mesh."""
    found = []
    for number, mode in enumerate(modes):
        access, _, mtls = mode.partition("/")
        pod = mk_pod(
            f"web-{number}",
            f"10.0.1.{number}",
            account="web",
            app="web",
            sidecar="bound" if mtls else mode,
            access=access if mtls else "",
            mtls=mtls,
        )
        found.append(pod)
    return tuple(found)


def called_by_mtls(mesh: Mesh) -> bool:
    return is_called_by_mtls(mesh.services[WEB.service], WEB.port)


@pytest.mark.parametrize(
    "modes, expected",
    [
        ((), True),
        (("strict/strict",), True),
        (("permissive/strict",), True),
        (("strict/permissive",), True),
        (("permissive/permissive",), False),
        (("none",), False),
        (("proxyless",), False),
        (("none", "permissive/permissive"), False),
        (("none", "strict/strict"), True),
    ],
)
def test_plaintext_is_for_services_that_take_anyone(modes: tuple[str, ...], expected: bool) -> None:
    """One endpoint that asks for a name decides for all; without endpoints it is mTLS."""
    mesh = build_mesh(JOB, mk_service("web"), *pods(*modes))
    assert called_by_mtls(mesh) is expected


def test_a_service_without_that_port_is_not_called_in_plaintext() -> None:
    """There is nobody to ask, so nothing is given away."""
    mesh = build_mesh(*world())
    assert is_called_by_mtls(mesh.services[WEB.service], 81)


def test_a_server_without_a_proxy_is_open_to_anyone() -> None:
    """Nobody stands before it: it is called in plaintext, like one outside of the mesh."""
    mesh = build_mesh(mk_service("web"), *pods("proxyless"))
    (port,) = mesh.services[WEB.service].ports
    assert [endpoint.identity for endpoint in port.endpoints] == [None]
    assert WEB in mesh.open


@pytest.mark.parametrize(
    "access, mtls", [("strict", "strict"), ("strict", "permissive"), ("permissive", "strict")]
)
def test_a_strict_server_without_a_proxy_is_a_problem(access: str, mtls: str) -> None:
    """What it asks for cannot be kept."""
    pod = mk_pod("web", sidecar="proxyless", access=access, mtls=mtls)
    mesh = build_mesh(mk_service("web"), pod)
    assert told(mesh) == [(SIDECAR, ProblemCode.PROXYLESS_SERVER)]


def test_a_permissive_server_without_a_proxy_is_none() -> None:
    """It asks for nothing."""
    pod = mk_pod("web", sidecar="proxyless", access="permissive", mtls="permissive")
    assert build_mesh(mk_service("web"), pod).problems == ()


# ------------------------------------------------------------------ problems


def test_a_match_that_cannot_be_judged_is_a_problem_of_the_split() -> None:
    """Said of each match, as soon as a client without a proxy may call the root."""
    objects = world(
        mk_pod("v2", "10.0.0.3", account="web"),
        mk_service("v2"),
        mk_http_routes("hidden", mk_match("a", host="web"), mk_match("b", x_bin="1")),
        mk_split("s", "web", {"v2": 1}, matches=("hidden",)),
    )
    assert told(build_mesh(*objects)) == [("spec.matches", ProblemCode.PROXYLESS_MATCH)] * 2
    assert build_mesh(mk_pod("job", "10.0.0.9"), *objects[1:]).problems == ()


def test_a_condition_on_methods_is_no_problem() -> None:
    """It is decided, not dropped."""
    mesh = build_mesh(
        *world(
            mk_http_routes("get", mk_match("a", methods=("GET",))),
            mk_split("s", "web", {"web": 1}, matches=("get",)),
        )
    )
    assert mesh.problems == ()


def test_an_expression_that_go_does_not_know_is_a_problem() -> None:
    r"""RE2 takes `\C`, grpc-go refuses all routes of the service for it."""
    mesh = build_mesh(
        *world(
            mk_http_routes("odd", mk_match("a", r"/\C")),
            mk_split("s", "web", {"web": 1}, matches=("odd",)),
        )
    )
    (problem,) = mesh.problems
    assert problem.code is ProblemCode.PROXYLESS_MATCH
    assert r"'/\\C'" in problem.message


def test_endpoints_of_both_kinds_are_a_problem() -> None:
    """A client has one way to call them all; the message says which are reached."""
    mesh = build_mesh(*world(mk_pod("bare", "10.0.0.3", app="web", sidecar="none")))
    assert told(mesh) == [("port 80", ProblemCode.PROXYLESS_MIXED)]


def test_a_right_to_call_tcp_is_a_problem() -> None:
    """gRPC knows requests only; services that anyone may call are not counted."""
    objects = (
        *world(),
        mk_pod("db", "10.0.0.3"),
        mk_service("db", mk_port(5432)),
        mk_pod("cache", "10.0.0.4", access="permissive"),
        mk_service("cache", mk_port(6379)),
        mk_tcp_route("any"),
        mk_target("db", ["job"], "db", tcp("any")),
    )
    assert told(build_mesh(*objects)) == [(SIDECAR, ProblemCode.PROXYLESS_TCP)]
