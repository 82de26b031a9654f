"""Explanations: verdicts, the names behind them, and what came nearest."""

import json
from dataclasses import replace

import pytest

from smi_xds.mesh.explain import Explanation, Kind, Question, Verdict, explain
from smi_xds.mesh.explain_parse import parse_question
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.mesh.plain import complete
from smi_xds.objects.kube import Transport
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import IdentityBinding, Subject
from smi_xds.problems import AskError
from smi_xds.values import AccessMode, Mode, ServiceAccountRef, ServiceRef, SpiffeId
from tests.support.mesh import build_mesh
from tests.support.objects import (
    NS,
    http,
    mk_account,
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

ROUTES = mk_http_routes(
    "api",
    mk_match("read", "/items", ("GET", "HEAD")),
    mk_match("admin", "/", x_role="admin"),
    mk_match("bare", host=r"api\.shop"),
)
SIDECARS = (mk_pod("web", "10.0.0.1"), mk_pod("api", "10.0.0.2"))
BASE = (*SIDECARS, mk_service("api"), ROUTES)
ALLOWED = (*BASE, mk_target("t", ["web"], "api", http("api", "read", "admin")))


def ask(mesh: Mesh, source: str = "shop/web", to: str = "shop/api:80", **more: str) -> Explanation:
    """An explanation; `headers` are `name=value` with blanks between them."""
    headers = more.pop("headers", "").split()
    return explain(mesh, parse_question(source=source, destination=to, headers=headers, **more))


def world(*objects: MeshObject, settings: MeshSettings | None = None) -> Mesh:
    return build_mesh(*objects, settings=settings or MeshSettings())


def nearest(answer: Explanation) -> tuple[str, ...]:
    """The reasons of the TrafficTarget that came nearest."""
    return answer.branches[0].destinations[0].nearest[0].reasons


# ------------------------------------------------------------------ allowed


def test_the_match_that_allows_is_named() -> None:
    """TrafficTarget, rule and match, and the sentence that says so."""
    answer = ask(world(*ALLOWED), path="/items/7?x=1")

    assert answer.verdict is Verdict.ALLOWED
    assert answer.why == "TrafficTarget shop/t allows it by HTTPRouteGroup api, match read."
    assert answer.source == str(spiffe("web"))
    assert (answer.service, answer.port, answer.protocol) == ("shop/api", 80, "http")
    (branch,) = answer.branches
    assert (branch.service, branch.weight, branch.share) == ("shop/api", 1, 100.0)
    (there,) = branch.destinations
    assert (there.identity, there.port, there.ready) == (str(spiffe("api")), 80, 1)
    assert (there.access, there.mtls, there.workloads) == ("strict", "strict", ("shop/api",))
    (by,) = there.allowed_by
    assert (by.target, by.rule, by.match, by.port_rule) == (
        "shop/t",
        "HTTPRouteGroup api",
        "read",
        "",
    )


@pytest.mark.parametrize(
    "request_, match",
    [
        ({"path": "/items", "method": "HEAD"}, "read"),
        ({"path": "/x/../items"}, "read"),
        ({"path": "//items"}, "read"),
        ({"path": "/x", "headers": "X-Role=admin"}, "admin"),
        ({"path": "/x", "method": "PURGE", "headers": "x-role:admin"}, "admin"),
    ],
)
def test_each_part_of_a_match_counts(request_: dict[str, str], match: str) -> None:
    """Path, method and headers, as Envoy would see them."""
    answer = ask(world(*ALLOWED), **request_)

    assert answer.verdict is Verdict.ALLOWED
    assert answer.branches[0].destinations[0].allowed_by[0].match == match


def test_every_traffic_target_that_allows_is_named() -> None:
    """They unite: taking one away leaves the other."""
    answer = ask(world(*ALLOWED, mk_target("u", ["web"], "api", http("api"))), path="/items")

    by = answer.branches[0].destinations[0].allowed_by
    assert [it.target for it in by] == ["shop/t", "shop/u"]


def test_a_tcp_route_is_named_where_it_decides() -> None:
    """Alone it is the rule; beside an HTTPRouteGroup it is what lists the port."""
    alone = (mk_tcp_route("p", 80), mk_target("t", ["web"], "api", tcp("p")))
    both = (mk_tcp_route("p"), mk_target("t", ["web"], "api", tcp("p"), http("api")))

    (first,) = ask(world(*BASE, *alone)).branches[0].destinations[0].allowed_by
    (second,) = ask(world(*BASE, *both), path="/items").branches[0].destinations[0].allowed_by

    assert (first.rule, first.match, first.port_rule) == ("TCPRoute p", "", "TCPRoute p")
    assert (second.rule, second.match, second.port_rule) == (
        "HTTPRouteGroup api",
        "read",
        "TCPRoute p",
    )


@pytest.mark.parametrize(
    "host, verdict",
    [
        ("", Verdict.ALLOWED),
        ("host=api.shop:8080", Verdict.ALLOWED),
        ("host=api.shop.", Verdict.ALLOWED),
        (":authority=api.shop", Verdict.ALLOWED),
        ("host=other", Verdict.DENIED),
    ],
)
def test_the_host_is_matched_without_port_and_trailing_dot(host: str, verdict: Verdict) -> None:
    """Without a header it is the service's short name."""
    mesh = world(*BASE, mk_target("t", ["web"], "api", http("api", "bare")))

    assert ask(mesh, headers=host).verdict is verdict


def test_headers_of_one_name_are_joined() -> None:
    """As Envoy's matchers read them."""
    answer = ask(world(*ALLOWED), headers="x-role=admin X-Role=other")

    assert answer.verdict is Verdict.DENIED
    assert answer.request is not None
    assert answer.request.headers == {"x-role": "admin,other"}


def test_tcp_is_judged_by_connection() -> None:
    """A request makes no difference there, and a note says so."""
    mesh = world(
        *SIDECARS,
        mk_service("api", mk_port(3306)),
        mk_tcp_route("db", 3306),
        mk_target("t", ["web"], "api", tcp("db")),
    )

    answer = ask(mesh, to="shop/api:3306", kind="tcp")
    noted = ask(mesh, to="shop/api:3306", kind="http")

    assert (answer.verdict, answer.request, answer.notes) == (Verdict.ALLOWED, None, ())
    assert noted.verdict is Verdict.ALLOWED
    assert noted.notes == (
        "The port speaks tcp-server-first: connections are judged, and no requests.",
    )


# ------------------------------------------------------------------ denied


@pytest.mark.parametrize(
    "request_, reason",
    [
        (
            {"path": "/echo", "method": "HEAD"},
            "match read of HTTPRouteGroup api does not hold, nor does the other one: "
            "the path /echo does not begin with a match of '/items'",
        ),
        (
            {"path": "/items", "method": "POST"},
            "match read of HTTPRouteGroup api does not hold, nor does the other one: "
            "the method POST is not GET or HEAD",
        ),
        (
            {"path": "/x", "headers": "x-role=guest"},
            "match read of HTTPRouteGroup api does not hold, nor does the other one: "
            "the path /x does not begin with a match of '/items'",
        ),
    ],
)
def test_the_nearest_match_is_named_with_what_fails(request_: dict[str, str], reason: str) -> None:
    """Of several the one of which the least fails."""
    answer = ask(world(*ALLOWED), **request_)

    assert answer.verdict is Verdict.DENIED
    assert nearest(answer) == (reason,)
    assert answer.why == f"No TrafficTarget allows it. The nearest is shop/t: {reason}."


def test_headers_and_hosts_that_differ_are_told() -> None:
    """What was there, or that nothing was."""
    mesh = world(*BASE, mk_target("t", ["web"], "api", http("api", "admin")))
    hosts = world(*BASE, mk_target("t", ["web"], "api", http("api", "bare")))

    where = "match admin of HTTPRouteGroup api does not hold: "
    assert nearest(ask(mesh)) == (f"{where}there is no header x-role",)
    assert nearest(ask(mesh, headers="x-role=guest")) == (
        f"{where}the header x-role is 'guest', which is no match of 'admin'",
    )
    assert nearest(ask(hosts, headers="host=h")) == (
        r"match bare of HTTPRouteGroup api does not hold: the host h is no match of 'api\\.shop'",
    )


def test_a_source_that_is_not_listed_is_told() -> None:
    """With those that are."""
    other = Subject(kind="IdentityBinding", name="b", namespace="ops")
    mesh = world(*BASE, mk_target("t", ["far/one", other], "api", http("api")))

    assert "shop/web is not among its sources (far/one, IdentityBinding ops/b)" in nearest(
        ask(mesh, path="/items")
    )


def test_without_any_traffic_target_that_is_the_reason() -> None:
    """There is nothing near."""
    answer = ask(world(*BASE))

    assert answer.why == "No TrafficTarget has shop/api as its destination, so nobody may call."
    assert answer.branches[0].destinations[0].nearest == ()


def test_ports_that_are_not_listed_are_told() -> None:
    """By the rule that would have to list it, and by the destination of old versions."""
    mesh = world(
        *BASE,
        mk_tcp_route("p", 81, 82),
        mk_target("t", ["web"], "api", tcp("p")),
        mk_target("old", ["web"], "api", http("api"), port=81),
        replace(mk_target("first", ["web"], "api", http("api"), port=81), version="v1alpha1"),
    )

    answer = ask(mesh, path="/items")

    misses = {miss.target: miss.reasons for miss in answer.branches[0].destinations[0].nearest}
    assert misses["shop/t"][-1] == "the target port 80 is not listed by TCPRoute p (81, 82)"
    assert "spec.destination.port is 81, the target port is 80" in misses["shop/old"]
    assert "destination.port is 81, the target port is 80" in misses["shop/first"]


@pytest.mark.parametrize(
    "number, rule, reason",
    [
        (80, udp("u"), "its UDPRoutes admit datagrams alone"),
        (
            3306,
            http("api"),
            "an HTTPRouteGroup admits no connections to a port that speaks tcp-server-first",
        ),
    ],
)
def test_rules_of_another_kind_admit_nothing(number: int, rule: object, reason: str) -> None:
    """UDPRoutes are about datagrams, HTTPRouteGroups about requests."""
    mesh = world(
        *SIDECARS,
        mk_service("api", mk_port(number)),
        ROUTES,
        mk_udp_route("u"),
        mk_target("t", ["web"], "api", rule),  # type: ignore[arg-type] # parametrised
    )

    assert reason in nearest(ask(mesh, to=f"shop/api:{number}"))


def test_a_problem_that_voids_a_traffic_target_is_the_reason() -> None:
    """With its code, by which its section in docs/problems.md is found."""
    missing = world(*BASE, mk_target("t", ["web"], "api", http("gone")))
    empty = world(*BASE, mk_target("t", ["web"], "api"))
    nobody = world(*BASE, mk_target("t", [], "api", http("api")))
    broken = mk_http_routes("bad", mk_match("m", "("))
    regex = world(*BASE, broken, mk_target("t", ["web"], "api", http("bad")))

    assert "[MissingRoute]" in nearest(ask(missing))[0]
    assert nearest(ask(empty)) == ("it has no rules",)
    assert "shop/web is not among its sources (none at all)" in nearest(ask(nobody))
    assert any("[InvalidRegex]" in reason for reason in nearest(ask(regex)))


def test_the_nearest_comes_first_and_few_are_told() -> None:
    """By how much is missing, then by name."""
    targets = [mk_target(f"t{i}", ["far"], "api", http("api", "read")) for i in range(4)]
    mesh = world(*BASE, *targets, mk_target("z", ["web"], "api", http("api", "read")))

    found = ask(mesh).branches[0].destinations[0].nearest

    assert [miss.target for miss in found] == ["shop/z", "shop/t0", "shop/t1"]
    assert (found[0].rule, found[0].match) == ("HTTPRouteGroup api", "read")


# ------------------------------------------------------------------ requests that no one may make


@pytest.mark.parametrize(
    "request_, why",
    [
        ({"method": "CONNECT"}, "A sidecar carries no CONNECT requests: it answers 404."),
        (
            {"path": "/a#b"},
            "The path cannot be requested: it has a fragment (#), which is never sent to a server; "
            "a sidecar answers 400.",
        ),
        (
            {"headers": "connection=keep-alive,upgrade upgrade=foo"},
            "A sidecar upgrades no connection to foo, but to websocket: it answers 403.",
        ),
    ],
)
def test_what_a_sidecar_refuses_is_denied(request_: dict[str, str], why: str) -> None:
    """Whatever the TrafficTargets say."""
    answer = ask(world(*BASE, mk_target("t", ["web"], "api", http("api"))), **request_)

    assert (answer.verdict, answer.why, answer.branches) == (Verdict.DENIED, why, ())


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c", ""])
def test_upgrades_that_a_sidecar_knows_are_judged_like_any_request(upgrade: str) -> None:
    """h2c is not done, and does no harm."""
    headers = f"connection=upgrade upgrade={upgrade}"

    assert ask(world(*ALLOWED), path="/items", headers=headers).verdict is Verdict.ALLOWED


def test_bytes_are_no_request() -> None:
    """A port that speaks HTTP takes requests alone."""
    answer = ask(world(*ALLOWED), kind="tcp")

    assert answer.verdict is Verdict.DENIED
    assert answer.why == "The port speaks http: a sidecar refuses bytes that are no request."


def test_what_a_sidecar_makes_of_a_request_is_told() -> None:
    """Redirects of escaped slashes, and methods that HTTP/1.1 does not know."""
    mesh = world(*ALLOWED)

    slashes = ask(mesh, path="/x%2f..%2fitems?q=%2f")
    method = ask(mesh, path="/x", method="PURGE", headers="x-role=admin")

    assert slashes.verdict is Verdict.ALLOWED
    assert slashes.request is not None
    assert slashes.request.redirect == "/items?q=%2f"
    assert slashes.notes == (
        "A sidecar answers 307 first, because of escaped slashes: to /items?q=%2f, which is what "
        "is judged here.",
    )
    assert method.notes == (
        "Over HTTP/1.1 a sidecar answers 400 to the method PURGE: it does not know it.",
    )


def test_the_destination_judges_what_the_callers_sidecar_left() -> None:
    """Each sidecar normalises: what the first unescapes may be a dot segment to the second."""
    mesh = world(*BASE, mk_target("t", ["web"], "api", http("api", "read")))

    answer = ask(mesh, path="/x/%2e%2e;/items")

    assert answer.request is not None
    assert answer.request.routed_path == "/x/..;/items"
    assert answer.request.judged_path == "/items"
    assert answer.verdict is Verdict.ALLOWED


# ------------------------------------------------------------------ modes, and who is outside


@pytest.mark.parametrize(
    "access, mtls, source, verdict, why",
    [
        ("strict", "strict", "outside", "denied", "It takes mTLS alone"),
        ("strict", "permissive", "outside", "denied", "A caller outside the mesh has no identity"),
        ("permissive", "strict", "outside", "denied", "It takes mTLS alone"),
        ("permissive", "permissive", "outside", "allowed", "Access is permissive"),
        ("permissive", "strict", "shop/web", "allowed", "Access is permissive"),
        ("shadow", "permissive", "outside", "allowed", "Access is in shadow mode"),
        ("shadow", "strict", "outside", "denied", "It takes mTLS alone"),
        ("shadow", "strict", "shop/web", "allowed", "Access is in shadow mode"),
    ],
)
def test_modes_decide_who_is_judged(
    access: str, mtls: str, source: str, verdict: str, why: str
) -> None:
    """Identities are asked for by mTLS, TrafficTargets by access."""
    settings = MeshSettings(access=AccessMode(access), mtls=Mode(mtls))

    answer = ask(world(*BASE, settings=settings), source)

    assert (answer.verdict, answer.why[: len(why)]) == (verdict, why)


def test_shadow_mode_says_what_strict_access_would_have_said() -> None:
    """With the reasons, for it is asked before access becomes strict."""
    mesh = world(*ALLOWED, settings=MeshSettings(access=AccessMode.SHADOW))

    (fine,) = ask(mesh, path="/items").branches[0].destinations
    (doomed,) = ask(mesh, path="/x").branches[0].destinations

    assert (fine.verdict, fine.shadow) == (Verdict.ALLOWED, "allowed")
    assert "strict access would allow it, too: TrafficTarget shop/t" in fine.why
    assert (doomed.verdict, doomed.shadow) == (Verdict.ALLOWED, "denied")
    assert "strict access would deny it: No TrafficTarget allows it." in doomed.why
    assert doomed.nearest[0].target == "shop/t"


def test_outside_the_mesh_nobody_judges() -> None:
    """An endpoint without a sidecar is called in plaintext, by anyone."""
    mesh = world(SIDECARS[0], mk_pod("api", "10.0.0.2", sidecar=""), mk_service("api"))

    answer = ask(mesh)

    assert answer.verdict is Verdict.ALLOWED
    (there,) = answer.branches[0].destinations
    assert (there.identity, there.access, there.ready) == ("", "", 1)
    assert answer.why.startswith("It has no sidecar")


def test_some_of_a_service_may_be_open_and_some_not() -> None:
    """Then it depends on where it is sent."""
    mesh = world(*BASE, mk_pod("open", "10.0.0.3", account="api", app="api", access="permissive"))

    answer = ask(mesh)

    assert answer.verdict is Verdict.PARTLY
    assert answer.why == "It depends on where it is sent: see each destination."
    assert [it.verdict for it in answer.branches[0].destinations] == ["allowed", "denied"]


def test_callers_outside_the_mesh_do_not_see_splits() -> None:
    """Nor does their path pass two sidecars."""
    mesh = world(*ALLOWED, mk_split("s", "api", {"web": 1}))

    answer = ask(mesh, "outside", path="/x/%2e%2e;/items")

    assert answer.split.name == ""
    assert answer.notes == (
        "A caller outside the mesh has no sidecar: TrafficSplits do not apply to it.",
    )
    assert answer.request is not None
    assert answer.request.judged_path == "/x/..;/items"


def test_an_identity_that_no_workload_has_is_noted() -> None:
    """It may be listed already, and be there later."""
    mesh = world(*BASE, mk_account("later"), mk_target("t", ["later"], "api", http("api")))

    answer = ask(mesh, "shop/later", path="/items")

    assert answer.verdict is Verdict.ALLOWED
    assert answer.notes[0].startswith("No workload in the mesh runs as shop/later.")


@pytest.mark.parametrize("path", ["/x", "/ns/shop/sa/web"])
def test_any_spiffe_id_may_be_asked_about(path: str) -> None:
    """Identities need not be service accounts, nor of this trust domain: an account of another one
    is told from the account of the same name that is listed.
    """
    foreign = SpiffeId.parse(f"spiffe://elsewhere{path}")
    question = Question(source=foreign, service=ServiceRef(NS, "api"), port=80)

    answer = explain(world(*ALLOWED), question)

    assert answer.source == f"spiffe://elsewhere{path}"
    assert f"spiffe://elsewhere{path} is not among its sources" in " ".join(nearest(answer))


# ------------------------------------------------------------------ IdentityBindings


def _binding(name: str, **schemes: object) -> IdentityBinding:
    return IdentityBinding(namespace=NS, name=name, **schemes)  # type: ignore[arg-type] # in few words


BOUND = Subject(kind="IdentityBinding", name="b")

# A sidecar that sees from where it is called.
SEEING = (SIDECARS[0], mk_pod("api", "10.0.0.2", sidecar="intercepted"), *BASE[2:])


@pytest.mark.parametrize(
    "schemes",
    [
        {"service_account": "web"},
        {"spiffe_identities": ("spiffe://cluster.local/ns/shop/sa/web",)},
        {"match_labels": (("app", "web"),)},
    ],
)
def test_callers_may_be_bound_by_any_scheme(schemes: dict[str, object]) -> None:
    """A source that is an IdentityBinding counts, and is not what is missing."""
    rules = mk_target("t", [BOUND], "api", http("api", "read"))
    mesh = world(*SEEING, rules, _binding("b", **schemes))

    assert ask(mesh, path="/items").verdict is Verdict.ALLOWED
    assert len(nearest(ask(mesh, path="/x"))) == 1


def test_pods_by_labels_may_call_from_their_addresses_alone() -> None:
    """The address decides where it is given; else every pod of the source has to be selected."""
    mesh = world(
        *SEEING,
        mk_pod("other", "10.0.0.9", account="web", app="other"),
        mk_target("t", [BOUND], "api", http("api", "read")),
        _binding("b", match_labels=(("app", "web"),)),
    )

    assert ask(mesh, path="/items", address="10.0.0.1").verdict is Verdict.ALLOWED
    elsewhere = ask(mesh, path="/items", address="10.0.0.9")
    assert elsewhere.verdict is Verdict.DENIED
    assert nearest(elsewhere) == ("shop/web is not among its sources (IdentityBinding shop/b)",)
    assert ask(mesh, path="/items").verdict is Verdict.DENIED


@pytest.mark.parametrize(
    "schemes",
    [
        {"service_account": "api"},
        {"match_labels": (("app", "api"),)},
    ],
)
def test_destinations_may_be_bound(schemes: dict[str, object]) -> None:
    """Their TrafficTargets allow, and come near."""
    mesh = world(
        *SEEING, mk_target("t", ["web"], BOUND, http("api", "read")), _binding("b", **schemes)
    )

    allowed = ask(mesh, path="/items")
    assert allowed.branches[0].destinations[0].allowed_by[0].target == "shop/t"
    assert ask(mesh, path="/x").branches[0].destinations[0].nearest[0].target == "shop/t"


def test_a_binding_that_is_not_there_binds_nobody() -> None:
    """As source and as destination."""
    mesh = world(
        *SEEING,
        mk_target("s", [BOUND], "api", http("api")),
        mk_target("d", ["web"], BOUND, http("api")),
    )

    found = ask(mesh, path="/items").branches[0].destinations[0].nearest

    assert [miss.target for miss in found] == ["shop/s"]


# ------------------------------------------------------------------ splits


SPLIT_WORLD = (
    *ALLOWED,
    mk_pod("v2", "10.0.0.3"),
    mk_service("v2"),
    mk_target("v2", ["web"], "v2", http("api")),
    mk_http_routes("beta", mk_match("ann", x_user="ann"), mk_match("bob", x_user="bob", x_b="1")),
)


def test_shares_are_told_in_percent() -> None:
    """For each backend its own verdict."""
    mesh = world(*SPLIT_WORLD, mk_split("s", "api", {"api": 2, "v2": 1}))

    answer = ask(mesh, path="/items")

    assert (answer.split.name, answer.split.match) == ("shop/s", "")
    assert [(it.service, it.weight, it.share) for it in answer.branches] == [
        ("shop/api", 2, 66.67),
        ("shop/v2", 1, 33.33),
    ]
    assert answer.verdict is Verdict.ALLOWED
    assert answer.why == "Every destination says so: allowed."


def test_the_match_by_which_a_split_decides_is_named() -> None:
    """With its group; and why another split does not."""
    mesh = world(
        *SPLIT_WORLD,
        mk_split("beta", "api", {"v2": 1}, matches=("beta",)),
        mk_split("rest", "api", {"api": 1}),
        mk_split("late", "api", {"v2": 1}),
    )

    beta = ask(mesh, headers="x-user=bob x-b=1", path="/items")
    rest = ask(mesh, headers="x-user=bob", path="/items")

    assert (beta.split.name, beta.split.group, beta.split.match) == ("shop/beta", "beta", "bob")
    assert [it.service for it in beta.branches] == ["shop/v2"]
    passed = {it.name: it.why for it in beta.passed_splits}
    assert passed["shop/late"] == "It comes after shop/beta, which takes the request first."
    assert "comes first, so this one has no effect." in passed["shop/rest"]
    assert rest.split.name == "shop/late"
    passed = {it.name: it.why for it in rest.passed_splits}
    assert passed["shop/beta"] == (
        "Match ann of HTTPRouteGroup beta does not hold: the header x-user is 'bob', which is no "
        "match of 'ann'."
    )


def test_a_split_with_matches_does_not_apply_to_tcp() -> None:
    """Its problem says so."""
    mesh = world(
        *SIDECARS,
        mk_service("api", mk_port(3306), mk_port(80)),
        mk_http_routes("beta", mk_match("all")),
        mk_split("s", "api", {"api": 1}, matches=("beta",)),
    )

    (passed,) = ask(mesh, to="shop/api:3306").passed_splits

    assert passed.name == "shop/s"
    assert "has no requests to match" in passed.why


def test_without_a_weight_there_is_nowhere_to_go() -> None:
    """503, which is neither allowed nor denied."""
    answer = ask(world(*ALLOWED, mk_split("s", "api", {"api": 0})))

    assert answer.verdict is Verdict.NOWHERE
    assert answer.why == "No backend of TrafficSplit shop/s has a weight: 503."
    assert [(it.share, it.verdict) for it in answer.branches] == [(0.0, "denied")]


def test_behind_a_service_there_may_be_nothing() -> None:
    """Or nothing that is ready, which a note tells."""
    nobody = ask(world(SIDECARS[0], mk_service("api")))
    unready = ask(
        world(
            SIDECARS[0],
            mk_pod("api", "10.0.0.2", ready=False),
            mk_service("api"),
            ROUTES,
            mk_target("t", ["web"], "api", http("api")),
        ),
        path="/items",
    )

    database = mk_service("db", mk_port(5432, "tcp"))
    of_tcp = ask(world(SIDECARS[0], database), to="shop/db:5432")
    assert (nobody.verdict, nobody.why) == (Verdict.NOWHERE, "Nothing is behind it: 503.")
    assert (of_tcp.verdict, of_tcp.why) == (Verdict.NOWHERE, "Nothing is behind it.")
    assert unready.verdict is Verdict.ALLOWED
    assert unready.notes == (
        "No endpoint of shop/api is ready, so what is sent there fails for now.",
    )


def test_a_grpc_client_routes_by_what_it_can_see() -> None:
    """A match on user-agent never holds for a process without a proxy."""
    mesh = world(
        *SPLIT_WORLD[1:],
        mk_pod("web", "10.0.0.1", sidecar="proxyless"),
        mk_http_routes("ua", mk_match("any", user_agent=".*")),
        mk_split("s", "api", {"v2": 1}, matches=("ua",)),
    )

    answer = ask(mesh, headers="user-agent=x", path="/items")

    assert answer.split.name == ""


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "source, to, message",
    [
        ("shop/web", "shop/apy:80", "there is no Service shop/apy; did you mean shop/api?"),
        ("shop/web", "far/api:80", "there is no Service far/api; did you mean shop/api?"),
        ("shop/web", "shop/xyz:80", "there is no Service shop/xyz; did you mean shop/api?"),
        ("shop/web", "far/away:80", "there is no Service far/away"),
        ("shop/web", "shop/api:81", "Service shop/api has no port 81; its ports: 80 (http)"),
        (
            "shop/wob",
            "shop/api:80",
            "there is no ServiceAccount shop/wob, and no pod runs as it; did you mean shop/web?",
        ),
        (
            "shop/web",
            "shop/api/api:80",
            "Service shop/api has no pod api that is called by name on port 80; those are none: "
            "it is not headless, or has no such port",
        ),
    ],
)
def test_who_is_not_there_is_named_with_who_is_near(source: str, to: str, message: str) -> None:
    """One line, for the operator who mistyped."""
    with pytest.raises(AskError) as error:
        ask(world(*ALLOWED), source, to)

    assert str(error.value) == message


def test_a_udp_port_is_asked_for_as_such() -> None:
    """Where only UDP has the number, it is meant; a wrong one is told."""
    mesh = world(*SIDECARS, mk_service("api", mk_port(53, transport=Transport.UDP), mk_port(80)))

    assert ask(mesh, to="shop/api:53").protocol == "udp"
    with pytest.raises(AskError, match=r"has no UDP port 80; its ports: 53 \(udp\), 80 \(http\)"):
        ask(mesh, to="shop/api:80", kind="udp")


def test_without_objects_there_are_no_names() -> None:
    """A mesh from elsewhere still has a verdict."""
    mesh = world(*ALLOWED, mk_split("s", "api", {"api": 1}))
    bare = replace(mesh, objects=None)

    allowed = ask(bare, path="/items")
    denied = ask(bare, path="/x")

    assert allowed.verdict is Verdict.ALLOWED
    assert allowed.why == "TrafficTarget shop/t allows it."
    assert allowed.split.name == "shop/s"
    assert denied.verdict is Verdict.DENIED
    with pytest.raises(AskError, match="there is no ServiceAccount shop/wob"):
        ask(bare, "shop/wob")


def test_an_explanation_is_complete_json() -> None:
    """Every field is there, whatever it says."""
    found = complete(ask(world(*ALLOWED), path="/items"))

    assert isinstance(found, dict)
    assert json.loads(json.dumps(found)) == found
    assert found["split"] == {"name": "", "group": "", "match": ""}
    assert found["passed_splits"] == []


def test_a_question_may_be_put_without_words() -> None:
    """By values, as the tests of policy do."""
    question = Question(
        source=ServiceAccountRef(NS, "web"),
        service=ServiceRef(NS, "api"),
        port=80,
        kind=Kind.HTTP,
        path="/items",
    )

    assert explain(world(*ALLOWED), question).verdict is Verdict.ALLOWED


# ------------------------------------------------------------------ ports of every kind


def test_one_pod_of_a_headless_service_may_be_meant() -> None:
    """By its own name: splits have no say there."""
    mesh = world(
        SIDECARS[0],
        replace(
            mk_pod("db-0", "10.0.0.2", account="db", app="db"), hostname="db-0", subdomain="db"
        ),
        replace(
            mk_pod("db-1", "10.0.0.3", account="db", app="db"), hostname="db-1", subdomain="db"
        ),
        replace(mk_service("db"), headless=True),
        ROUTES,
        mk_target("t", ["web"], "db", http("api")),
        mk_split("s", "db", {"db": 0}),
    )

    answer = ask(mesh, to="shop/db/db-1:80", path="/items")

    assert answer.verdict is Verdict.ALLOWED
    assert (answer.split.name, answer.passed_splits) == ("", ())
    (there,) = answer.branches[0].destinations
    assert there.ready == 1
    with pytest.raises(AskError, match="those are db-0, db-1"):
        ask(mesh, to="shop/db/db-9:80")


UDP_WORLD = (
    *SIDECARS,
    mk_service(
        "api",
        mk_port(52, "udp", transport=Transport.UDP),
        mk_port(53, "dns", transport=Transport.UDP),
    ),
)


def test_datagrams_are_judged_by_udp_routes() -> None:
    """The rule that lists the port is named."""
    mesh = world(*UDP_WORLD, mk_udp_route("dns", 53), mk_target("t", ["web"], "api", udp("dns")))

    answer = ask(mesh, to="shop/api:53", kind="udp")

    assert answer.verdict is Verdict.ALLOWED
    assert answer.why == "TrafficTarget shop/t allows it by UDPRoute dns."


def test_datagrams_need_a_udp_route_with_their_port() -> None:
    """What allows all of TCP allows none of them."""
    mesh = world(
        *UDP_WORLD,
        mk_tcp_route("all"),
        mk_udp_route("other", 54),
        mk_target("t", ["web"], "api", tcp("all")),
        mk_target("u", ["web"], "api", udp("other")),
        mk_target("nobody", ["web"], None, udp("other")),
    )

    answer = ask(mesh, to="shop/api:53")

    assert answer.verdict is Verdict.DENIED
    misses = {miss.target: miss.reasons for miss in answer.branches[0].destinations[0].nearest}
    assert misses["shop/t"] == ("it has no UDPRoute, and nothing else admits datagrams",)
    assert misses["shop/u"] == ("the target port 53 is not listed by UDPRoute other (54)",)


def test_services_that_disagree_about_a_port_are_judged_by_the_first() -> None:
    """Its sidecar takes requests there, whatever the other service says."""
    mesh = world(
        *SIDECARS,
        mk_service("api", mk_port(80, "http-a")),
        mk_service("tcp", mk_port(80, "tcp-a"), app="api"),
        mk_tcp_route("all"),
        mk_target("t", ["web"], "api", tcp("all")),
    )

    answer = ask(mesh, to="shop/tcp:80")

    assert answer.verdict is Verdict.DENIED
    assert answer.why == "The workload speaks http there: requests alone."


def test_who_may_call_nothing_is_not_told_whether_anybody_is_there() -> None:
    """Its own sidecar answers 403, where others get a 503."""
    mesh = world(
        *ALLOWED, mk_pod("thief", "10.0.0.9"), mk_service("gone"), mk_split("s", "api", {"gone": 1})
    )
    nowhere = replace(
        mesh,
        routes={ref: replace(routes, callers=()) for ref, routes in mesh.routes.items()},
    )

    assert ask(mesh, "shop/thief").verdict is Verdict.NOWHERE
    answer = ask(nowhere, "shop/thief")
    assert answer.verdict is Verdict.DENIED
    assert answer.why == "It may call nothing behind it, so its own sidecar answers 403."


def test_modes_may_differ_between_pods_of_one_account() -> None:
    """Each is judged by its own."""
    mesh = world(
        *BASE,
        mk_pod("api-2", "10.0.0.3", account="api", app="api", mtls="permissive"),
        mk_pod("api-3", "10.0.0.4", account="api", app="other"),
    )

    found = ask(mesh).branches[0].destinations

    assert [(it.mtls, it.workloads) for it in found] == [
        ("permissive", ("shop/api-2",)),
        ("strict", ("shop/api",)),
    ]


def test_a_port_that_no_workload_serves_leads_nowhere() -> None:
    """Its sidecar would have to listen there, and does not."""
    mesh = world(*ALLOWED)
    empty = replace(mesh, workloads={})

    answer = ask(empty)

    assert (answer.verdict, answer.why) == (
        Verdict.NOWHERE,
        "No workload serves port 80 there, which fails (503).",
    )


BARE = mk_pod("bare", "10.0.0.9", account="bare", app="api", sidecar="")


def test_datagrams_go_from_sidecar_to_sidecar() -> None:
    """Where some behind a service have one, those without get nothing; where none has, all do."""
    allowed = (mk_udp_route("dns"), mk_target("t", ["web"], "api", udp("dns")))
    mixed = ask(world(*UDP_WORLD, BARE, *allowed), to="shop/api:53")
    none = ask(world(SIDECARS[0], BARE, UDP_WORLD[-1]), to="shop/api:53")

    assert mixed.verdict is Verdict.PARTLY
    assert [it.verdict for it in mixed.branches[0].destinations] == ["nowhere", "allowed"]
    assert none.verdict is Verdict.ALLOWED


def test_datagrams_of_callers_outside_are_taken_by_no_sidecar() -> None:
    """Whatever the modes are: there is no tunnel without mTLS."""
    permissive = MeshSettings(access=AccessMode.PERMISSIVE, mtls=Mode.PERMISSIVE)

    answer = ask(world(*UDP_WORLD, settings=permissive), "outside", to="shop/api:53")

    assert answer.verdict is Verdict.DENIED
    assert answer.why == "Its sidecar takes datagrams from the sidecars of callers alone."


@pytest.mark.parametrize(
    "source, host, is_noted",
    [
        ("shop/web", "elsewhere.example", True),
        ("shop/web", "API.shop.svc:80", False),
        ("shop/seen", "elsewhere.example", False),
        ("outside", "elsewhere.example", False),
    ],
)
def test_a_bound_sidecar_finds_the_service_by_the_host(
    source: str, host: str, is_noted: bool
) -> None:
    """Interception goes by the address instead, and callers outside have no sidecar."""
    mesh = world(*ALLOWED, mk_pod("seen", "10.0.0.5", sidecar="intercepted"))

    notes = ask(mesh, source, path="/items", headers=f"host={host}").notes

    assert any("finds a service by the Host" in note for note in notes) == is_noted


def test_a_pod_of_a_headless_service_has_names_of_its_own() -> None:
    """`POD.SERVICE.NAMESPACE` is one."""
    mesh = world(
        SIDECARS[0],
        replace(
            mk_pod("db-0", "10.0.0.2", account="db", app="db"), hostname="db-0", subdomain="db"
        ),
        replace(mk_service("db"), headless=True),
    )

    answer = ask(mesh, to="shop/db/db-0:80")

    assert answer.request is not None
    assert (answer.request.host, answer.notes) == ("db-0.db.shop", ())
