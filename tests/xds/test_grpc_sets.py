"""What gRPC clients get, and what they share."""

from smi_xds.objects.parse import MeshObject
from smi_xds.values import Secret
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, ResourceSet
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator
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
)
from tests.support.shown import shown

LEAF = leaf_secret(b"chain", Secret(b"key"))
WORLD = (
    mk_pod("web", "10.0.0.1"),
    mk_pod("db", "10.0.0.2"),
    mk_pod("client", "10.0.0.3"),
    mk_pod("job", "", account="client", sidecar="proxyless"),
    mk_pod("job-2", "", account="client", sidecar="proxyless"),
    mk_pod("thief", "", sidecar="proxyless"),
    mk_service("web"),
    mk_service("db", mk_port(5432)),
    mk_http_routes("all", mk_match("all")),
    mk_target("t", ["client"], "web", http("all")),
)
JOB, THIEF, CLIENT = "shop/job", "shop/thief", "shop/client"
NAMES = {"web.shop:80", "web.shop.svc:80", "web.shop.svc.cluster.local:80"}


def sets_of(*objects: MeshObject, translator: Translator | None = None) -> dict[str, ResourceSet]:
    mesh = build_mesh(*objects)
    leaves = {workload.identity: LEAF for workload in mesh.workloads.values()}
    translate = translator or Translator()
    return dict(translate(mesh, credentials=Credentials(trust_bundle=b"roots", leaves=leaves)))


def test_a_client_gets_listeners_for_every_http_service() -> None:
    """Also for those that it must not call, to be told so; no secrets, and nothing of TCP."""
    sets = sets_of(*WORLD)
    for node in (JOB, THIEF):
        assert sets[node].all(LISTENER).keys() == NAMES
        assert sets[node].all(ROUTES).keys() == {"outbound|shop/web:80"}
        assert sets[node].all(SECRET) == {}
    assert sets[JOB].all(CLUSTER).keys() == {"denied", "shop/web:80"}
    assert sets[JOB].all(ENDPOINTS).keys() == {"denied", "shop/web:80"}
    assert sets[THIEF].all(CLUSTER).keys() == sets[THIEF].all(ENDPOINTS).keys() == {"denied"}


def test_clients_of_one_identity_get_the_very_same_set() -> None:
    """And all clients share the listeners."""
    sets = sets_of(*WORLD)
    assert sets[JOB] is sets["shop/job-2"]
    assert sets[JOB].layers[LISTENER][0] is sets[THIEF].layers[LISTENER][0]


def test_endpoints_and_plain_routes_are_those_of_sidecars() -> None:
    """The very same load assignment, and the bytes of the virtual host."""
    sets = sets_of(*WORLD)
    name = "shop/web:80"
    assert sets[JOB].get(ENDPOINTS, name) is sets[CLIENT].get(ENDPOINTS, name)
    routes = sets[JOB].get(ROUTES, "outbound|shop/web:80")
    assert routes is not None
    (host,) = shown(routes)["virtual_hosts"]
    table = sets[CLIENT].get(ROUTES, "outbound")
    assert table is not None
    theirs = shown(table)["virtual_hosts"][0]
    assert host["routes"] == theirs["routes"]


def test_routes_that_are_judged_otherwise_are_their_own() -> None:
    """What no gRPC call can match is left out for clients, and stays for sidecars."""
    sets = sets_of(
        *WORLD,
        mk_http_routes("get", mk_match("get", methods=("GET",))),
        mk_split("s", "web", {"web": 1}, matches=("get",)),
    )
    routes, table = (
        sets[JOB].get(ROUTES, "outbound|shop/web:80"),
        sets[CLIENT].get(ROUTES, "outbound"),
    )
    assert routes is not None
    assert table is not None
    assert [route["name"] for route in shown(routes)["virtual_hosts"][0]["routes"]] == ["service"]
    theirs = shown(table)["virtual_hosts"][0]["routes"]
    assert [route["name"] for route in theirs] == ["shop/s", "service"]


def test_a_round_without_a_change_gives_the_very_same_sets() -> None:
    """A client whose parts did not change is not even woken."""
    translator = Translator()
    before = sets_of(*WORLD, translator=translator)
    after = sets_of(*WORLD, translator=translator)
    assert all(after[node] is before[node] for node in (JOB, THIEF))


def test_a_weight_changes_the_routes_alone() -> None:
    """Listeners, clusters and endpoints stay the very same layers."""
    split = mk_split("s", "web", {"web": 1})
    translator = Translator()
    before = sets_of(*WORLD, split, translator=translator)[JOB]
    changed = mk_split("s", "web", {"web": 0})
    after = sets_of(*WORLD, changed, translator=translator)[JOB]
    assert after.layers[ROUTES][0] is not before.layers[ROUTES][0]
    for type_ in (LISTENER, CLUSTER, ENDPOINTS):
        assert after.layers[type_][0] is before.layers[type_][0]
