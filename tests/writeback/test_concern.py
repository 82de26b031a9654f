"""Which proxies an object concerns."""

from dataclasses import replace

import pytest

from smi_xds.mesh.model import MeshSettings
from smi_xds.objects.kube import Transport
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import IdentityBinding, SmiObject, Subject
from smi_xds.values import AccessMode, ProxyId
from smi_xds.writeback.concern import EVERYONE, NOBODY, Concern, Concerns, smi_objects
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

PODS = (
    mk_pod("web", "10.0.0.1"),
    mk_pod("api", "10.0.0.2"),
    mk_pod("api-v2", "10.0.0.3"),
    mk_pod("other", "10.0.0.4"),
)
SERVICES = (mk_service("api"), mk_service("api-v2"))
ROUTES = mk_http_routes("routes", mk_match("all"))
TARGET = mk_target("api", ["web"], "api", http("routes"))
SPLIT = mk_split("api", "api", {"api": 1, "api-v2": 1}, matches=("routes",))


def concern(it: SmiObject, *objects: MeshObject, settings: MeshSettings | None = None) -> Concern:
    """Of an object in the mesh of these, and the pods and services above."""
    mesh = build_mesh(*PODS, *SERVICES, *objects, it, settings=settings or MeshSettings())
    return Concerns(mesh).of(it)


def of(*accounts: str) -> Concern:
    return Concern(frozenset(map(spiffe, accounts)))


def mk_binding(name: str, **schemes: object) -> IdentityBinding:
    return replace(IdentityBinding(namespace=NS, name=name), **schemes)  # type: ignore[arg-type]  # as written


def bound(name: str, namespace: str | None = None) -> Subject:
    return Subject(kind="IdentityBinding", name=name, namespace=namespace)


def test_a_traffic_target_concerns_its_destination_and_its_sources() -> None:
    """By their identities, whether or not they have proxies; callers of other namespaces, too."""
    target = mk_target("api", ["web", "elsewhere/web"], "api", http("routes"))
    found = concern(target, ROUTES)

    assert found == Concern(of("web", "api").identities | {spiffe("web", "elsewhere")})
    # Nobody is named.
    assert concern(mk_target("x", [], None)) == NOBODY


def test_routes_concern_whom_their_users_do() -> None:
    """A TrafficTarget, a TrafficSplit, both, or nobody."""
    assert concern(ROUTES, TARGET) == of("web", "api")
    assert concern(ROUTES) == NOBODY
    assert concern(ROUTES, TARGET, SPLIT) == of("web", "api")
    assert concern(mk_tcp_route("tcp"), mk_target("x", ["other"], "api", tcp("tcp"))) == of(
        "other", "api"
    )
    assert concern(mk_udp_route("udp"), mk_target("x", ["other"], "api", udp("udp"))) == of(
        "other", "api"
    )


def test_a_split_concerns_who_may_call_its_root() -> None:
    """Everyone where anyone may; nobody where it does not count."""
    permissive = MeshSettings(access=AccessMode.PERMISSIVE)
    older = mk_split("a", "api", {"api": 1})
    shadowed = mk_split("b", "api", {"api-v2": 1})

    assert concern(SPLIT, TARGET, ROUTES) == of("web")
    assert concern(SPLIT, TARGET, ROUTES, settings=permissive) == EVERYONE
    assert concern(shadowed, older, TARGET, ROUTES) == NOBODY
    assert concern(mk_split("x", "nothing", {"api": 1}), TARGET, ROUTES) == NOBODY
    assert concern(ROUTES, SPLIT, settings=permissive) == EVERYONE


def test_a_split_of_udp_concerns_who_is_called_as_well() -> None:
    """Callers ask for the root, which the workloads behind it have to know."""
    ports = mk_port(53, transport=Transport.UDP)
    dns, dns_v2 = mk_service("dns", ports, app="api"), mk_service("dns-v2", ports, app="api-v2")
    target = mk_target("dns", ["web"], "api", udp("udp"))
    split = mk_split("dns", "dns", {"dns": 1, "dns-v2": 1, "api": 0})

    assert concern(split, dns, dns_v2, target, mk_udp_route("udp", 53)) == of(
        "web", "api", "api-v2"
    )


@pytest.mark.parametrize(
    "schemes, expected",
    [
        ({"service_account": "web"}, of("web", "api")),
        ({"spiffe_identities": (str(spiffe("web")),)}, of("web", "api")),
        # Those of other namespaces are not meant.
        ({"spiffe_identities": (str(spiffe("web", "elsewhere")),)}, of("api")),
        (
            {"match_labels": (("app", "web"),)},
            Concern(of("api").identities, frozenset({ProxyId(NS, "web")})),
        ),
        ({"match_labels": (("app", "nobody"),)}, of("api")),
    ],
)
def test_an_identity_binding_stands_for_whom_it_means(
    schemes: dict[str, object], expected: Concern
) -> None:
    """Accounts, or single pods; it concerns whom the TrafficTargets do that name it."""
    binding = mk_binding("callers", **schemes)
    target = mk_target("api", [bound("callers")], "api", http("routes"))

    assert concern(target, binding, ROUTES) == expected
    assert concern(binding, target, ROUTES) == expected


def test_an_identity_binding_as_a_destination() -> None:
    """And one that nobody names, or that does not exist."""
    binding = mk_binding("servers", match_labels=(("app", "api"),))
    target = mk_target("api", ["web"], bound("servers"), http("routes"))
    dangling = mk_target("x", [bound("nothing")], "api", http("routes"))
    expected = Concern(of("web").identities, frozenset({ProxyId(NS, "api")}))

    assert concern(target, binding, ROUTES) == expected
    assert concern(binding) == NOBODY
    assert concern(dangling, ROUTES) == of("api")


def test_several_bindings_select_pods() -> None:
    """Each its own."""
    one = mk_binding("one", match_labels=(("app", "web"),))
    two = mk_binding("two", match_labels=(("app", "other"),))
    target = mk_target("api", [bound("one"), bound("two")], "api", http("routes"))

    selected = frozenset({ProxyId(NS, "web"), ProxyId(NS, "other")})
    assert concern(target, one, two, ROUTES) == Concern(of("api").identities, selected)


def test_pods_are_those_of_the_namespace_of_the_binding() -> None:
    """Where there are none, nobody is selected."""
    away = replace(mk_binding("callers", match_labels=(("app", "web"),)), namespace="empty")
    target = mk_target("api", [bound("callers", "empty")], "api", http("routes"))

    assert concern(target, away, ROUTES) == of("api")


def test_answers_are_remembered() -> None:
    """For as long as the mesh is the same."""
    concerns = Concerns(build_mesh(*PODS, *SERVICES, ROUTES, TARGET))

    assert concerns.of(TARGET) is concerns.of(TARGET)


def test_every_object_of_smi() -> None:
    """Of each kind, and nothing else."""
    more = (mk_binding("b", service_account="web"), mk_tcp_route("t"), mk_udp_route("u"))
    to_bound = mk_target("bound", ["web"], bound("b"), http("routes"))
    given = (ROUTES, TARGET, to_bound, SPLIT, *more)
    objects = build_mesh(*PODS, *SERVICES, *given).objects
    assert objects is not None

    assert sorted(it.ref for it in smi_objects(objects)) == sorted(it.ref for it in given)
