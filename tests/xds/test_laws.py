"""Laws of the translation, on random worlds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.objects.kube import EndpointSlice
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.store import Applied, Deleted, Event, Origin, Replaced, Store
from smi_xds.objects.views import Objects
from smi_xds.values import ObjectRef, ProxyId, Secret
from smi_xds.xds import names
from smi_xds.xds.dump import resource_json
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    TYPES,
    Need,
    Resource,
    ResourceSet,
)
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator
from tests.support.meshes import (
    World,
    changes,
    everywhere_strict,
    happenings,
    without_targets,
    worlds,
)
from tests.support.objects import with_slices

ORIGIN = Origin("test")
LEAF = leaf_secret(b"certificate", Secret(b"key"))

Sets = Mapping[str, ResourceSet]


def credentials(mesh: Mesh) -> Credentials:
    leaves = {workload.identity: LEAF for workload in mesh.workloads.values()}
    return Credentials(trust_bundle=b"roots", leaves=leaves)


def picture(objects: Iterable[MeshObject]) -> Objects:
    store = Store(["test"])
    store.apply(ORIGIN, Replaced(tuple(objects)))
    return store.objects()


def from_scratch(objects: Iterable[MeshObject]) -> tuple[Mesh, Sets]:
    mesh = MeshBuilder(MeshSettings())(picture(objects))
    return mesh, Translator()(mesh, credentials=credentials(mesh))


def said(sets: Sets) -> dict[tuple[str, str, str], bytes]:
    """Every byte that every proxy gets."""
    return {
        (node, type_, name): resource.body
        for node, resources in sets.items()
        for type_ in TYPES
        for name, resource in resources.all(type_).items()
    }


@settings(max_examples=50)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_objects_changes_no_byte(world: World, random: Random) -> None:
    """Replicas hear of objects in different orders, and serve the same bytes."""
    objects = list(with_slices(world))
    mesh, sets = from_scratch(objects)
    random.shuffle(objects)
    other_mesh, other_sets = from_scratch(objects)
    assert other_mesh == mesh
    assert said(other_sets) == said(sets)


@settings(max_examples=50)
@given(worlds())
def test_every_name_that_a_resource_needs_is_there(world: World) -> None:
    """A proxy is never sent to wait for a resource that it does not get."""
    _, sets = from_scratch(with_slices(world))
    for node, resources in sets.items():
        needed: set[Need] = set()
        for type_ in TYPES:
            needed.update(*(r.needs for r in resources.all(type_).values()))
        missing = [need for need in needed if resources.get(need.type, need.name) is None]
        assert missing == [], node


@settings(max_examples=50)
@given(worlds())
def test_nothing_is_claimed_twice(world: World) -> None:
    """Envoy refuses a table with one host twice, and a second listener on one address."""
    _, sets = from_scratch(with_slices(world))
    for resources in sets.values():
        for routes in resources.all(ROUTES).values():
            hosts: Counter[str] = Counter()
            for host in _json(routes)["virtual_hosts"]:
                hosts.update(host["domains"])
            assert hosts.most_common(1)[0][1] == 1
        listeners = [_json(listener) for listener in resources.all(LISTENER).values()]
        # Those of gRPC clients have none.
        addresses = Counter(str(one["address"]) for one in listeners if "address" in one)
        assert max(addresses.values(), default=1) == 1


@settings(max_examples=50)
@given(worlds())
def test_requests_have_somewhere_to_go_or_are_answered(world: World) -> None:
    """A route has one cluster, or weights that add up to more than 0, or an answer of its own."""
    _, sets = from_scratch(with_slices(world))
    for resources in sets.values():
        for routes in resources.all(ROUTES).values():
            for host in _json(routes)["virtual_hosts"]:
                for route in host["routes"]:
                    weights = route.get("route", {}).get("weighted_clusters", {}).get("clusters")
                    assert (
                        "direct_response" in route
                        or "cluster" in route["route"]
                        or sum(cluster.get("weight", 0) for cluster in weights) > 0
                    )


@settings(max_examples=50)
@given(worlds())
def test_without_traffic_targets_every_door_is_closed(world: World) -> None:
    """In strict mode inbound rules have no policy, and TCP ports have no listener."""
    mesh, sets = from_scratch(with_slices(everywhere_strict(without_targets(world))))
    for workload in mesh.workloads.values():
        resources = sets[str(workload.proxy)]
        for port in workload.ports:
            name = names.inbound(port.number)
            if not port.protocol.is_http:
                assert resources.get(LISTENER, name) is None
                continue
            routes = resources.get(ROUTES, name)
            assert routes is not None
            filters = _json(routes)["typed_per_filter_config"]
            assert filters["envoy.filters.http.rbac"]["rbac"] == {"rules": {}}


@settings(max_examples=50)
@given(worlds())
def test_identities_are_always_asked_for(world: World) -> None:
    """No list of names that a peer must have is empty: Envoy would accept any certificate."""
    _, sets = from_scratch(with_slices(world))
    for resources in sets.values():
        for secret in resources.all(SECRET).values():
            if secret.name.startswith("peers|"):
                context = _json(secret)["validation_context"]
                assert context["match_typed_subject_alt_names"]
        for listener in resources.all(LISTENER).values():
            _check_tcp(_json(listener))
        for cluster in resources.all(CLUSTER).values():
            _check_grpc(_json(cluster))


def _check_grpc(cluster: dict[str, Any]) -> None:
    if (tls := cluster.get("transport_socket")) is not None:
        common = tls["typed_config"]["common_tls_context"]
        # Tunnels of sidecars name a secret, which was looked at above.
        if (secret := common.get("validation_context_sds_secret_config")) is not None:
            assert secret["name"].startswith("peers|")
        else:
            assert common["validation_context"]["match_subject_alt_names"]


def _check_tcp(listener: dict[str, Any]) -> None:
    for chain in listener.get("filter_chains", ()):
        tls = chain.get("transport_socket", {}).get("typed_config", {})
        combined = tls.get("common_tls_context", {}).get("combined_validation_context")
        if combined is not None:
            assert combined["default_validation_context"]["match_typed_subject_alt_names"]


@settings(max_examples=50)
@given(worlds(), changes(), st.lists(st.booleans(), min_size=6, max_size=6))
def test_round_after_round_is_the_same_as_from_scratch(
    world: World, events: list[Event], follows: list[bool]
) -> None:
    """What is kept between rounds changes no byte, also while slices lag behind pods."""
    store, build, translate = Store(["test"]), MeshBuilder(MeshSettings()), Translator()
    now = {it.ref: it for it in world}
    slices = _slices(now)
    for event, follow in zip([None, *events], [True, *follows], strict=False):
        _take(now, event)
        slices = _slices(now) if follow else slices
        objects = (*now.values(), *slices)
        store.apply(ORIGIN, Replaced(objects))
        mesh = build(store.objects())
        sets = translate(mesh, credentials=credentials(mesh))
        fresh_mesh, fresh_sets = from_scratch(objects)
        assert mesh == fresh_mesh
        assert said(sets) == said(fresh_sets)


def test_after_a_thousand_events_it_is_the_same_as_from_scratch() -> None:
    """A long life leaves no trace: what came and went does not show in any byte."""
    store, build, translate = Store(["test"]), MeshBuilder(MeshSettings()), Translator()
    now: dict[ObjectRef, MeshObject] = {}
    for number, event in enumerate(islice(happenings(Random(7)), 1000), start=1):
        _take(now, event)
        objects = (*now.values(), *_slices(now))
        store.apply(ORIGIN, Replaced(objects))
        mesh = build(store.objects())
        sets = translate(mesh, credentials=credentials(mesh))
        if number % 50 == 0:
            fresh_mesh, fresh_sets = from_scratch(objects)
            assert mesh == fresh_mesh
            assert said(sets) == said(fresh_sets)


def _take(now: dict[ObjectRef, MeshObject], event: Event | None) -> None:
    match event:
        case Applied(it):
            now[it.ref] = it
        case Deleted(ref):
            now.pop(ref, None)
        case _:
            pass


def _slices(now: Mapping[ObjectRef, MeshObject]) -> tuple[MeshObject, ...]:
    return tuple(it for it in with_slices(now.values()) if isinstance(it, EndpointSlice))


@settings(max_examples=50)
@given(worlds())
def test_unchanged_inputs_give_the_very_same_sets(world: World) -> None:
    """A round in which nothing happened sends nothing: the sets are the same objects."""
    build, translate = MeshBuilder(MeshSettings()), Translator()
    objects = with_slices(world)
    first = build(picture(objects))
    before = translate(first, credentials=credentials(first))
    second = build(picture(objects))  # equal groups, though other objects
    after = translate(second, credentials=credentials(second))
    assert before.keys() == after.keys()
    assert all(after[node] is before[node] for node in before)


@settings(max_examples=50)
@given(worlds())
def test_clusters_are_the_same_bytes_for_every_caller(world: World) -> None:
    """A service is encoded once for the whole mesh, and once more for gRPC clients.

    Its endpoints are the same for all of them.
    """
    mesh, sets = from_scratch(with_slices(world))
    seen: dict[tuple[str, str, bool], object] = {}
    for node, resources in sets.items():
        dialect = mesh.workloads[ProxyId.parse(node)].sidecar.listens
        for ref in mesh.routes:
            name = names.outbound_cluster(ref)
            for type_, which in ((CLUSTER, dialect), (ENDPOINTS, True)):
                resource = resources.get(type_, name)
                if resource is not None:
                    assert seen.setdefault((type_, name, which), resource) is resource


def _json(resource: Resource) -> dict[str, Any]:
    # JSON of many shapes: what is not as expected fails the test by itself.
    return resource_json(resource)
