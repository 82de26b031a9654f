"""What intercepted sidecars get: listeners and routes per service port."""

from dataclasses import replace

from smi_xds.mesh.model import Mesh
from smi_xds.objects.kube import Service
from smi_xds.objects.parse import MeshObject
from smi_xds.values import Secret
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, ResourceSet
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator
from tests.support.mesh import build_mesh
from tests.support.objects import (
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
OWN = {"outbound", "inbound"}
HTTP_AT, TCP_AT = "outbound|10.96.0.1:80", "outbound|10.96.0.1:5432"
WAYS_OUT = {"inbound|passthrough", "passthrough", "denied"}


def mk_at(name: str, number: int, *, app: str = "web") -> Service:
    service = mk_service(name, mk_port(80), mk_port(5432), app=app)
    return replace(service, cluster_ips=(f"10.96.0.{number}",))


WORLD: tuple[MeshObject, ...] = (
    mk_pod("web", "10.0.0.1", sidecar="intercepted"),
    mk_pod("client", "10.0.0.2", sidecar="intercepted"),
    mk_pod("client-2", "10.0.0.3", account="client", sidecar="intercepted"),
    mk_pod("other", "10.0.0.4", sidecar="intercepted"),
    mk_pod("thief", "10.0.0.5", sidecar="intercepted"),
    mk_at("web", 1),
    mk_tcp_route("all"),
    mk_target("t", ["client", "other"], "web", tcp("all")),
)


class Rounds:
    """A translator, round after round."""

    def __init__(self) -> None:
        self._translate = Translator()

    def __call__(self, *objects: MeshObject) -> dict[str, ResourceSet]:
        mesh: Mesh = build_mesh(*objects)
        leaves = {workload.identity: LEAF for workload in mesh.workloads.values()}
        credentials = Credentials(trust_bundle=b"roots", leaves=leaves)
        return dict(self._translate(mesh, credentials=credentials))


def test_a_caller_gets_a_listener_for_each_address() -> None:
    """With a route configuration for HTTP, and the cluster of what it may call."""
    found = Rounds()(*WORLD)["shop/client"]
    assert found.all(LISTENER).keys() == {*OWN, HTTP_AT, TCP_AT}
    assert found.all(ROUTES).keys() == {"outbound|shop/web:80"}
    assert found.all(CLUSTER).keys() == {"shop/web:80", "shop/web:5432", *WAYS_OUT}


def test_a_stranger_gets_the_same_listeners_and_nothing_behind_them() -> None:
    """No cluster, no endpoint: it would otherwise go past the sidecar, in plaintext."""
    found = Rounds()(*WORLD)["shop/thief"]
    assert found.all(LISTENER).keys() == {*OWN, HTTP_AT, TCP_AT}
    assert found.all(CLUSTER).keys() == WAYS_OUT
    assert found.all(ENDPOINTS) == {}
    (host,) = shown(found.all(ROUTES)["outbound|shop/web:80"])["virtual_hosts"]
    assert host["routes"][0]["direct_response"]["status"] == 403
    (chain,) = shown(found.all(LISTENER)[TCP_AT])["filter_chains"]
    assert chain["filters"][0]["typed_config"]["cluster"] == "denied"


def test_a_server_gets_its_own_ports() -> None:
    """In one listener, with a cluster each."""
    found = Rounds()(*WORLD)["shop/web"]
    assert {"inbound|80", "inbound|5432"} <= found.all(CLUSTER).keys()
    assert "inbound|80" in found.all(ROUTES)


def test_listeners_and_routes_are_shared() -> None:
    """By all pods of an identity, and by all identities that may call."""
    sets = Rounds()(*WORLD)
    client, again, other = (sets[f"shop/{name}"] for name in ("client", "client-2", "other"))
    for type_, name in ((LISTENER, HTTP_AT), (LISTENER, TCP_AT), (ROUTES, "outbound|shop/web:80")):
        assert client.get(type_, name) is again.get(type_, name)
        found, theirs = client.get(type_, name), other.get(type_, name)
        assert found is not None
        assert theirs is not None
        assert found.body == theirs.body


def test_one_service_more_changes_no_other_listener() -> None:
    """And one that goes takes its own along."""
    rounds = Rounds()
    before = rounds(*WORLD)["shop/client"].all(LISTENER)
    during = rounds(*WORLD, mk_at("more", 2))["shop/client"].all(LISTENER)
    assert during.keys() - before.keys() == {"outbound|10.96.0.2:80", "outbound|10.96.0.2:5432"}
    assert {name: during[name] for name in before} == before
    assert rounds(*WORLD)["shop/client"].all(LISTENER) == before


def test_an_address_that_moves_is_one_listener_still() -> None:
    """Two for one address would be refused, whichever came first."""
    rounds = Rounds()
    rounds(*WORLD)
    world = tuple(it for it in WORLD if not isinstance(it, Service))
    found = rounds(*world, mk_at("moved", 1))["shop/client"]
    assert found.all(LISTENER).keys() == {*OWN, HTTP_AT, TCP_AT}
    assert found.all(ROUTES).keys() == {"outbound|shop/moved:80"}


def test_a_new_weight_is_one_route_configuration() -> None:
    """About a kilobyte, however many services there are."""
    rounds = Rounds()
    services = (mk_at("v1", 2), mk_at("v2", 3))
    before, after = (
        rounds(*WORLD, *services, mk_split("s", "web", {"v1": weight, "v2": 1}))["shop/client"]
        for weight in (1, 2)
    )
    changed = [
        (type_, name)
        for type_ in (CLUSTER, LISTENER, ROUTES)
        for name, it in after.all(type_).items()
        if before.get(type_, name) != it
    ]
    assert changed == [(ROUTES, "outbound|shop/web:80")]
    body = after.all(ROUTES)["outbound|shop/web:80"].body
    assert len(body) < 1_000
