"""The builder: round after round, what no event touched is the very same object."""

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import MeshSettings, PortRef
from smi_xds.objects.store import Applied, Origin, Replaced, Store
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ProxyId, ServiceRef
from tests.support.objects import (
    NS,
    http,
    mk_http_routes,
    mk_match,
    mk_pod,
    mk_service,
    mk_split,
    mk_target,
    picture,
    spiffe,
    with_slices,
)

WORLD = with_slices(
    [
        mk_pod("web", "10.0.0.1"),
        mk_pod("client", "10.0.0.2"),
        mk_service("web"),
        mk_service("other"),
        mk_http_routes("r", mk_match("m", "/a")),
        mk_target("t", ["client"], "web", http("r")),
    ]
)
ORIGIN = Origin("test")


def test_a_change_leaves_everything_else_as_the_same_object() -> None:
    """A new weight makes new routes of one root, and nothing else."""
    store, build = Store(["test"]), MeshBuilder(MeshSettings())
    store.apply(ORIGIN, Replaced(WORLD))
    before = build(store.objects())
    store.apply(ORIGIN, Applied(mk_split("s", "web", {"other": 1})))
    after = build(store.objects())
    web, other = PortRef(ServiceRef(NS, "web"), 80), PortRef(ServiceRef(NS, "other"), 80)
    assert after.routes[web] != before.routes[web]
    assert after.routes[other] is before.routes[other]
    assert all(after.services[ref] is it for ref, it in before.services.items())
    assert all(after.workloads[proxy] is it for proxy, it in before.workloads.items())
    assert after.bound_ports is before.bound_ports


def test_a_changed_route_group_reaches_the_workloads_that_it_protects() -> None:
    """Policy follows a match that was edited, and only where it counts."""
    store, build = Store(["test"]), MeshBuilder(MeshSettings())
    store.apply(ORIGIN, Replaced(WORLD))
    before = build(store.objects())
    store.apply(ORIGIN, Applied(mk_http_routes("r", mk_match("m", "/b"))))
    after = build(store.objects())
    web, client = ProxyId(NS, "web"), ProxyId(NS, "client")
    assert after.workloads[web] != before.workloads[web]
    assert after.workloads[client] is before.workloads[client]


def test_the_problems_of_sources_are_those_of_the_mesh() -> None:
    """What could not be read stands beside what makes no sense, sorted."""
    unread = Problem(
        ref=ObjectRef("File", "", "x.yaml"),
        field="",
        code=ProblemCode.INVALID_YAML,
        message="m",
        cure="c",
    )
    store = Store(["test"])
    store.apply(ORIGIN, Replaced((mk_split("s", "gone", {}),), (unread,)))
    mesh = MeshBuilder(MeshSettings())(store.objects())
    assert [p.code for p in mesh.problems] == [
        ProblemCode.INVALID_YAML,
        ProblemCode.MISSING_SERVICE,
    ]


def test_identities_are_of_the_trust_domain() -> None:
    """The operator's trust domain stands in every identity."""
    mesh = MeshBuilder(MeshSettings(trust_domain="example.org"))(picture(*WORLD))
    assert mesh.trust_domain == "example.org"
    identities = {workload.identity for workload in mesh.workloads.values()} | mesh.reach.keys()
    assert {identity.trust_domain for identity in identities} == {"example.org"}
    assert spiffe("web") not in identities
