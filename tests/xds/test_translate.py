"""The translation: what each proxy gets, and what is shared."""

from decimal import Decimal

import pytest

from smi_xds.mesh.model import Mesh, PortRef
from smi_xds.values import Secret
from smi_xds.xds import translate
from smi_xds.xds.bound_sets import Hosts
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    Resource,
    ResourceSet,
)
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator, warm_up
from tests.support.mesh import build_mesh
from tests.support.objects import (
    http,
    mk_http_routes,
    mk_match,
    mk_pod,
    mk_port,
    mk_service,
    mk_split,
    mk_target,
    mk_tcp_route,
    tcp,
)
from tests.support.shown import shown

LEAF = leaf_secret(b"chain", Secret(b"key"))
WORLD = (
    mk_pod("web", "10.0.0.1"),
    mk_pod("client", "10.0.0.2"),
    mk_pod("client-2", "10.0.0.3", account="client"),
    mk_pod("thief", "10.0.0.4"),
    mk_service("web", mk_port(80), mk_port(5432)),
    mk_http_routes("all", mk_match("all")),
    mk_tcp_route("all"),
    mk_target("t", ["client"], "web", tcp("all")),
)


def credentials(mesh: Mesh, *, bundle: bytes = b"roots") -> Credentials:
    leaves = {workload.identity: LEAF for workload in mesh.workloads.values()}
    return Credentials(trust_bundle=bundle, leaves=leaves)


def sets_of(mesh: Mesh) -> dict[str, ResourceSet]:
    return dict(Translator()(mesh, credentials=credentials(mesh)))


def test_a_caller_gets_what_it_may_call() -> None:
    """Clusters, endpoints, expected identities, and a local port for TCP."""
    found = sets_of(build_mesh(*WORLD))["shop/client"]
    services = {"shop/web:80", "shop/web:5432"}
    assert found.all(CLUSTER).keys() == found.all(ENDPOINTS).keys() == services
    assert found.all(SECRET).keys() == {"identity", "trust", *(f"peers|{s}" for s in services)}
    assert found.all(LISTENER).keys() == {"outbound", "outbound|shop/web:5432"}
    assert found.all(ROUTES).keys() == {"outbound"}


def test_a_stranger_gets_no_cluster_and_403() -> None:
    """Not even the addresses of what it may not call."""
    found = sets_of(build_mesh(*WORLD))["shop/thief"]
    assert found.all(CLUSTER) == found.all(ENDPOINTS) == {}
    assert found.all(LISTENER).keys() == {"outbound"}
    (host, _) = shown(found.all(ROUTES)["outbound"])["virtual_hosts"]
    assert host["routes"][0]["direct_response"]["status"] == 403


def test_a_server_gets_its_own_ports() -> None:
    """A listener and a cluster each, and rules for those that speak HTTP."""
    found = sets_of(build_mesh(*WORLD))["shop/web"]
    assert found.all(LISTENER).keys() == {"outbound", "inbound|80", "inbound|5432"}
    assert found.all(CLUSTER).keys() == {"inbound|80", "inbound|5432"}
    assert found.all(ROUTES).keys() == {"outbound", "inbound|80"}


def test_what_is_shared_is_the_same_object() -> None:
    """Pods of one identity share their routes, all callers share a service's cluster."""
    sets = sets_of(build_mesh(*WORLD, mk_target("u", ["thief"], "web", http("all"))))
    one, two, other = (sets[f"shop/{name}"] for name in ("client", "client-2", "thief"))
    assert one.get(ROUTES, "outbound") is two.get(ROUTES, "outbound")
    assert one.get(CLUSTER, "shop/web:80") is other.get(CLUSTER, "shop/web:80")


def test_the_table_of_an_identity_is_made_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads every service of the mesh: not once for each of a thousand pods."""
    made = []
    table = Hosts.table

    def counting(self: Hosts, reach: frozenset[PortRef], namespace: str) -> Resource:
        made.append(namespace)
        return table(self, reach, namespace)

    monkeypatch.setattr(Hosts, "table", counting)
    sets_of(build_mesh(*WORLD))
    assert len(made) == 3


def test_a_proxy_without_a_leaf_gets_the_rest() -> None:
    """An identity that cannot be signed does not hold up the round."""
    mesh = build_mesh(*WORLD)
    nobody = Credentials(trust_bundle=b"roots", leaves={})
    found = Translator()(mesh, credentials=nobody)["shop/client"]
    assert found.get(SECRET, "identity") is None
    assert found.get(SECRET, "trust") is not None


def test_a_new_leaf_or_root_changes_nothing_else() -> None:
    """Rotation sends secrets alone."""
    mesh, translator = build_mesh(*WORLD), Translator()
    before = translator(mesh, credentials=credentials(mesh))["shop/client"]
    after = translator(mesh, credentials=credentials(mesh, bundle=b"new"))["shop/client"]
    assert after is not before
    assert after.get(SECRET, "trust") != before.get(SECRET, "trust")
    for type_ in (CLUSTER, ENDPOINTS, LISTENER, ROUTES):
        assert after.all(type_) == before.all(type_)


def split_world(**weights: Decimal | int | str | None) -> Mesh:
    return build_mesh(
        mk_pod("client", "10.0.0.2"),
        *(mk_pod(name, f"10.0.1.{name[1]}", app=name) for name in ("v1", "v2")),
        *(mk_service(name, mk_port(5432)) for name in ("db", "v1", "v2")),
        mk_tcp_route("all"),
        *(mk_target(name, ["client"], name, tcp("all")) for name in ("v1", "v2")),
        mk_split("s", "db", weights),
    )


def test_a_new_weight_of_a_tcp_split_is_endpoints_alone() -> None:
    """No listener and no cluster changes, so that no connection drains."""
    before, after = (
        sets_of(split_world(v1=a, v2=b))["shop/client"] for a, b in ((90, 10), (50, 50))
    )
    assert after.get(ENDPOINTS, "shop/db:5432") != before.get(ENDPOINTS, "shop/db:5432")
    for type_ in (CLUSTER, LISTENER, ROUTES, SECRET):
        assert after.all(type_) == before.all(type_)


def test_a_tcp_backend_without_a_weight_is_expected_but_not_called() -> None:
    """tcp_proxy has no weight of 0; the identities are known before the weight comes."""
    found = sets_of(split_world(v1=1, v2=0))["shop/client"]
    assignment, peers = (
        found.get(ENDPOINTS, "shop/db:5432"),
        found.get(SECRET, "peers|shop/db:5432"),
    )
    assert assignment is not None
    assert peers is not None
    assert [it["locality"]["sub_zone"] for it in shown(assignment)["endpoints"]] == ["shop/v1"]
    assert len(shown(peers)["validation_context"]["match_typed_subject_alt_names"]) == 2


def test_warming_up_compiles_what_a_first_push_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second at the start, so that the first sidecar does not wait for it."""
    warmed: list[type] = []
    monkeypatch.setattr(translate, "warm", lambda *classes: warmed.extend(classes))
    warm_up()
    assert {"Cluster", "Listener", "RouteConfiguration", "ClusterLoadAssignment", "Secret"} <= {
        cls.__name__ for cls in warmed
    }
