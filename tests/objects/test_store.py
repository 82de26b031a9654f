"""The store: what sources say becomes one picture, and only what changed is made anew."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smi_xds.objects.kube import (
    EndpointSlice,
    Namespace,
    Pod,
    Service,
    ServiceAccount,
    SliceEndpoint,
)
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import (
    HTTPRouteGroup,
    IdentityBinding,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi_xds.objects.store import (
    Applied,
    Deleted,
    Event,
    Failed,
    Origin,
    Replaced,
    Reported,
    Store,
    Synced,
)
from smi_xds.objects.views import Objects, PodGroup, ServiceGroup
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef, ServiceRef

FILES = Origin("files")
PODS = Origin("kubernetes", "Pod")
OTHERS = Origin("kubernetes", "Service")
ACCOUNT = ServiceAccount(namespace="shop", name="web")


def mk_store(*objects: MeshObject) -> Store:
    store = Store(["files", "kubernetes"])
    for it in objects:
        store.apply(FILES, Applied(it))
    return store


def mk_pod(name: str, *, account: str = "web", node: str = "") -> Pod:
    return Pod(namespace="shop", name=name, service_account=account, node=node)


def mk_slice(name: str, *pods: str, service: str = "web") -> EndpointSlice:
    endpoints = tuple(SliceEndpoint(addresses=("10.0.0.1",), pod=pod) for pod in pods)
    return EndpointSlice(namespace="shop", name=name, service=service, endpoints=endpoints)


def mk_problem(ref: ObjectRef, message: str = "bad") -> Problem:
    return Problem(ref, "spec", ProblemCode.INVALID_OBJECT, message, "mend it")


def test_synced_when_all_sources_are() -> None:
    """Nothing is complete before every source has said all that it has."""
    store = mk_store()
    seen = [store.synced]
    for origin in (PODS, FILES):
        store.apply(origin, Synced())
        seen.append(store.synced)

    assert seen == [False, False, True]


def test_a_source_that_is_not_in_the_list() -> None:
    """An event of a source that the store was not told of is a mistake of ours."""
    with pytest.raises(ValueError, match="elsewhere"):
        mk_store().apply(Origin("elsewhere"), Synced())


def test_equal_objects_are_no_change() -> None:
    """An equal object changes nothing: the picture stays the very same object."""
    store = mk_store(ACCOUNT)
    before = store.objects()

    assert not store.apply(FILES, Applied(replace(ACCOUNT)))
    assert not store.apply(FILES, Deleted(ObjectRef("Pod", "shop", "none")))
    assert not store.apply(FILES, Reported())
    assert not store.apply(FILES, Replaced((replace(ACCOUNT),)))
    assert store.objects() is before


def test_one_object_is_found_as_it_is_at_the_moment() -> None:
    """Without a picture of all: the one that counts, or none."""
    store = mk_store(mk_pod("a"))
    ref = ObjectRef("Pod", "shop", "a")
    store.apply(PODS, Applied(mk_pod("a", node="other")))

    assert store.find(ref) == mk_pod("a")
    store.apply(FILES, Deleted(ref))
    assert store.find(ref) == mk_pod("a", node="other")
    assert store.find(ObjectRef("Pod", "shop", "b")) is None


def test_the_first_source_counts() -> None:
    """Of an object that two sources give, the one of the first source counts, whoever was first."""
    mine, theirs = mk_pod("web-1", node="a"), mk_pod("web-1", node="b")
    orders = [[(FILES, mine), (PODS, theirs)], [(PODS, theirs), (FILES, mine)]]
    for order in orders:
        store = mk_store()
        for origin, pod in order:
            store.apply(origin, Applied(pod))

        assert store.objects().pods[mine.proxy].pod is mine
        assert store.objects().problems == (
            Problem(
                mine.ref,
                "",
                ProblemCode.DUPLICATE_OBJECT,
                "kubernetes gives it too; the one of files counts",
                "Remove one of them.",
            ),
        )


def test_the_other_source_counts_after_the_first() -> None:
    """When the first source drops it, the other's object counts and the problem is gone."""
    mine, theirs = mk_pod("web-1", node="a"), mk_pod("web-1", node="b")
    store = mk_store(mine)
    store.apply(PODS, Applied(theirs))

    assert store.apply(FILES, Deleted(mine.ref))
    assert store.objects().pods[mine.proxy].pod is theirs
    assert store.objects().problems == ()


def test_equal_objects_of_two_sources() -> None:
    """Two sources that say the same are still a problem, though nothing else changes."""
    store = mk_store(ACCOUNT)
    before = store.objects()

    assert store.apply(PODS, Applied(replace(ACCOUNT)))
    assert store.objects().accounts is before.accounts
    assert [problem.code for problem in store.objects().problems] == [ProblemCode.DUPLICATE_OBJECT]


def test_a_failed_object_keeps_its_last_good_version() -> None:
    """An object that cannot be read stays as it was, with a problem, until it can or is gone."""
    store, problem = mk_store(ACCOUNT), mk_problem(ACCOUNT.ref)

    assert store.apply(FILES, Failed(problem))
    assert not store.apply(FILES, Failed(problem))
    assert store.objects().accounts == {ACCOUNT.account: ACCOUNT}
    assert store.objects().problems == (problem,)

    assert store.apply(FILES, Applied(ACCOUNT))
    assert store.objects().problems == ()

    store.apply(FILES, Failed(problem))
    assert store.apply(FILES, Deleted(ACCOUNT.ref))
    assert (store.objects().accounts, store.objects().problems) == ({}, ())


def test_replacing_all() -> None:
    """A complete set takes the place of all that its origin said, and of nothing else."""
    theirs = mk_pod("theirs")
    store = mk_store(ACCOUNT, mk_pod("old"))
    store.apply(PODS, Applied(theirs))

    assert store.apply(FILES, Replaced((mk_pod("new"),)))
    assert sorted(store.objects().pods) == [ProxyId("shop", "new"), ProxyId("shop", "theirs")]
    assert store.objects().accounts == {}


def test_replacing_all_with_problems() -> None:
    """Objects that a problem of the set names stay; the problems are those of the set alone."""
    first = (mk_problem(ACCOUNT.ref), mk_problem(ACCOUNT.ref, "worse"))
    store = mk_store(ACCOUNT)

    assert store.apply(FILES, Replaced((), first))
    assert store.objects().accounts == {ACCOUNT.account: ACCOUNT}
    assert store.objects().problems == first

    assert store.apply(FILES, Replaced((ACCOUNT,)))
    assert store.objects().problems == ()


def test_reports_of_an_origin() -> None:
    """How an origin fares stands beside what it said, and each report replaces the last."""
    away = Problem(ObjectRef("Source", "", "x"), "", ProblemCode.SOURCE_UNAVAILABLE, "m", "c")
    store = mk_store(ACCOUNT)

    assert store.apply(OTHERS, Reported((away,)))
    assert store.apply(PODS, Reported((away,)))
    assert store.objects().problems == (away,)
    assert store.objects().accounts == {ACCOUNT.account: ACCOUNT}

    store.apply(OTHERS, Reported())
    store.apply(PODS, Reported())
    assert store.objects().problems == ()


@pytest.mark.parametrize(
    "it, view",
    [
        (Namespace(name="shop"), "namespaces"),
        (ACCOUNT, "accounts"),
        (Service(namespace="shop", name="web"), "services"),
        (Pod(namespace="shop", name="web-1"), "pods"),
        (TrafficTarget(namespace="shop", name="it"), "targets"),
        (IdentityBinding(namespace="shop", name="it"), "identity_bindings"),
        (HTTPRouteGroup(namespace="shop", name="it"), "http_routes"),
        (TCPRoute(namespace="shop", name="it"), "tcp_routes"),
        (UDPRoute(namespace="shop", name="it"), "udp_routes"),
        (TrafficSplit(namespace="shop", name="it", service="web"), "splits"),
    ],
)
def test_every_kind_comes_and_goes(it: MeshObject, view: str) -> None:
    """An object of any kind is in its view while it is there, and in no other."""
    store = mk_store(it)
    seen = [name for name, found in views(store.objects()) if found]
    store.apply(FILES, Deleted(it.ref))

    assert seen == ([view, "pods_of"] if view == "pods" else [view])
    assert [name for name, found in views(store.objects()) if found] == []


def test_a_service_and_its_slice_that_go() -> None:
    """Pods stay when their service, or its slice, goes; they are no longer behind it."""
    service, slice_ = Service(namespace="shop", name="web"), mk_slice("a", "web-1")
    gone: list[MeshObject] = [service, slice_]
    for it in gone:
        store = mk_store(service, mk_pod("web-1"), slice_)
        store.objects()
        store.apply(FILES, Deleted(it.ref))

        assert store.objects().pods == {ProxyId("shop", "web-1"): PodGroup(pod=mk_pod("web-1"))}
        assert [group.pods for group in store.objects().services.values()] == (
            [()] if it is slice_ else []
        )


def test_services_with_their_slices_and_pods() -> None:
    """A service's group has its slices and the pods that these name, by name."""
    service = Service(namespace="shop", name="web")
    late, early = mk_slice("b", "web-2", "gone"), mk_slice("a", "web-1")
    pods = [mk_pod("web-2"), mk_pod("web-1"), mk_pod("other")]

    objects = mk_store(late, *pods, early, service).objects()

    assert objects.services == {
        ServiceRef("shop", "web"): ServiceGroup(
            service=service, slices=(early, late), pods=(pods[1], pods[0])
        )
    }
    assert objects.pods == {
        ProxyId("shop", "web-1"): PodGroup(pod=pods[1], services=(service.service,)),
        ProxyId("shop", "web-2"): PodGroup(pod=pods[0], services=(service.service,)),
        ProxyId("shop", "other"): PodGroup(pod=pods[2]),
    }


def test_a_pod_in_two_slices_of_a_service() -> None:
    """A pod that leaves one of two slices (IPv4 and IPv6) is still behind the service."""
    service = Service(namespace="shop", name="web")
    store = mk_store(service, mk_pod("web-1"), mk_slice("a", "web-1"), mk_slice("b", "web-1"))
    before = store.objects()

    store.apply(FILES, Applied(mk_slice("a")))

    proxy = ProxyId("shop", "web-1")
    assert store.objects().pods[proxy] is before.pods[proxy]
    assert store.objects().pods[proxy].services == (service.service,)


def test_what_comes_and_goes_between_two_pictures() -> None:
    """A pod that was there only between two pictures leaves its service's group as it was."""
    service = Service(namespace="shop", name="web")
    store = mk_store(service, mk_slice("a", "web-1"))
    before = store.objects()

    store.apply(FILES, Applied(mk_pod("web-1")))
    store.apply(FILES, Deleted(mk_pod("web-1").ref))

    assert store.objects() is not before
    assert store.objects().services[service.service] is before.services[service.service]


def test_a_pod_that_leaves_and_returns_between_two_pictures() -> None:
    """A pod that is behind the same services as before keeps its group."""
    pod = mk_pod("web-1")
    store = mk_store(Service(namespace="shop", name="web"), pod, mk_slice("a", "web-1"))
    before = store.objects()

    store.apply(FILES, Applied(mk_slice("a")))
    store.apply(FILES, Applied(mk_slice("a", "web-1")))

    assert store.objects().pods[pod.proxy] is before.pods[pod.proxy]


def test_a_service_that_changes() -> None:
    """A change of the service itself leaves the groups of its pods alone."""
    service = Service(namespace="shop", name="web")
    store = mk_store(service, mk_pod("web-1"), mk_slice("a", "web-1"))
    before = store.objects()

    store.apply(FILES, Applied(replace(service, headless=True)))

    assert store.objects().pods is before.pods
    assert store.objects().services[service.service].service.headless


def test_a_slice_that_changes_its_service() -> None:
    """A slice moves with its label, and its pods with it."""
    web, db = (Service(namespace="shop", name=name) for name in ("web", "db"))
    store = mk_store(web, db, mk_pod("web-1"), mk_slice("a", "web-1"))

    store.apply(FILES, Applied(mk_slice("a", "web-1", service="db")))

    objects = store.objects()
    assert objects.services[web.service] == ServiceGroup(service=web)
    assert [it.name for it in objects.services[db.service].pods] == ["web-1"]
    assert objects.pods[ProxyId("shop", "web-1")].services == (db.service,)


def mk_target(name: str, destination: Subject | None, *, namespace: str = "shop") -> TrafficTarget:
    return TrafficTarget(namespace=namespace, name=name, destination=destination)


def test_targets_by_destination() -> None:
    """TrafficTargets stand under the account they name, those that name none under no name."""
    web = Subject(kind="ServiceAccount", name="web")
    far = Subject(kind="ServiceAccount", name="web", namespace="shop")
    other = Subject(kind="Group", name="web")
    targets = {
        ServiceAccountRef("shop", "web"): (
            mk_target("a", web),
            mk_target("b", far, namespace="away"),
            mk_target("b", web),
        ),
        ServiceAccountRef("shop", ""): (mk_target("c", other), mk_target("d", None)),
    }

    assert mk_store(*(it for family in targets.values() for it in family)).objects().targets == (
        targets
    )


def test_targets_of_identity_bindings() -> None:
    """A TrafficTarget stands by its own namespace while its destination is an IdentityBinding."""
    account, binding = (
        Subject(kind=kind, name="web") for kind in ("ServiceAccount", "IdentityBinding")
    )
    far = mk_target("b", replace(binding, namespace="away"))
    by_account, bound = mk_target("a", account), mk_target("a", binding)
    store = mk_store(by_account, far)
    seen = []
    for it in (bound, replace(bound, created="later"), by_account):
        store.apply(FILES, Applied(it))
        seen.append((store.objects().bound_targets, store.objects().targets))

    assert seen == [
        ({"shop": (bound, far)}, {}),
        ({"shop": (replace(bound, created="later"), far)}, {}),
        ({"shop": (far,)}, {ServiceAccountRef("shop", "web"): (by_account,)}),
    ]


def test_splits_by_root() -> None:
    """TrafficSplits stand under their root service, however much of its name they write."""
    short = TrafficSplit(namespace="shop", name="b", service="web")
    full = TrafficSplit(namespace="shop", name="a", service="web.shop.svc.cluster.local.")

    assert mk_store(short, full).objects().splits == {ServiceRef("shop", "web"): (full, short)}


def test_a_member_that_moves_to_another_family() -> None:
    """A pod with another account leaves the family of its old one, which is gone when empty."""
    store = mk_store(mk_pod("web-1", account="a"))

    store.apply(FILES, Applied(mk_pod("web-1", account="b")))

    assert list(store.objects().pods_of) == [ServiceAccountRef("shop", "b")]


# What follows plays random events and compares with a picture that is made from scratch.

NAMES = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.none() | st.builds(
    Subject,
    kind=st.sampled_from(["ServiceAccount", "IdentityBinding", "Group"]),
    name=NAMES,
    namespace=st.none() | st.just("shop"),
)
FLAGS = st.booleans()
SHOP = st.just("shop")
OBJECTS: st.SearchStrategy[MeshObject] = st.one_of(
    st.builds(
        Pod, namespace=SHOP, name=NAMES, service_account=NAMES, ready=FLAGS, hostname=st.just("")
    ),
    st.builds(
        EndpointSlice,
        namespace=SHOP,
        name=NAMES,
        service=NAMES,
        endpoints=st.lists(
            st.builds(SliceEndpoint, addresses=st.just(("10.0.0.1",)), pod=NAMES | st.just("")),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(Service, namespace=SHOP, name=NAMES, headless=FLAGS),
    st.builds(ServiceAccount, namespace=SHOP, name=NAMES),
    st.builds(Namespace, name=NAMES),
    st.builds(TrafficTarget, namespace=SHOP, name=NAMES, destination=SUBJECTS),
    st.builds(TrafficSplit, namespace=SHOP, name=NAMES, service=NAMES),
    st.builds(HTTPRouteGroup, namespace=SHOP, name=NAMES, headers_as_map=FLAGS),
    st.builds(TCPRoute, namespace=SHOP, name=NAMES, match_name=NAMES),
    st.builds(UDPRoute, namespace=SHOP, name=NAMES, match_name=NAMES),
    st.builds(IdentityBinding, namespace=SHOP, name=NAMES, service_account=NAMES),
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    OBJECTS.map(Applied),
    OBJECTS.map(Applied),
    OBJECTS.map(lambda it: Deleted(it.ref)),
    OBJECTS.map(lambda it: Failed(mk_problem(it.ref))),
    st.builds(
        Replaced,
        st.lists(OBJECTS, max_size=8, unique_by=lambda it: it.ref).map(tuple),
        st.lists(OBJECTS.map(lambda it: mk_problem(it.ref)), max_size=2).map(tuple),
    ),
)
HISTORIES = st.lists(
    st.tuples(st.sampled_from([FILES, PODS, OTHERS]), st.lists(EVENTS, min_size=1, max_size=3)),
    max_size=25,
)


class Model:
    """What a store should hold, kept in the plainest way."""

    def __init__(self) -> None:
        self.said: dict[Origin, dict[ObjectRef, MeshObject]] = {FILES: {}, PODS: {}, OTHERS: {}}

    def apply(self, origin: Origin, event: Event) -> None:
        said = self.said[origin]
        match event:
            case Applied(it):
                said[it.ref] = it
            case Deleted(ref):
                said.pop(ref, None)
            case Replaced(objects, problems):
                kept = {problem.ref for problem in problems}
                left = {ref: it for ref, it in said.items() if ref in kept}
                self.said[origin] = left | {it.ref: it for it in objects}
            case _:
                pass

    def objects(self) -> list[MeshObject]:
        """First the files, then parts of the other source in the order of their names."""
        merged: dict[ObjectRef, MeshObject] = {}
        for origin in (OTHERS, PODS, FILES):
            merged |= self.said[origin]
        return list(merged.values())


def pick(objects: Iterable[MeshObject], kind: type[MeshObject]) -> list[MeshObject]:
    return sorted((it for it in objects if isinstance(it, kind)), key=lambda it: it.name)


def from_scratch(objects: list[MeshObject], problems: tuple[Problem, ...]) -> Objects:
    store = Store(["files"])
    store.apply(FILES, Replaced(tuple(objects)))
    return replace(store.objects(), problems=problems)


def views(objects: Objects) -> list[tuple[str, Mapping[object, object]]]:
    return [(f.name, getattr(objects, f.name)) for f in fields(objects) if f.name != "problems"]


@settings(max_examples=300, deadline=None)
@given(HISTORIES)
def test_incremental_is_from_scratch(history: list[tuple[Origin, list[Event]]]) -> None:
    """After any events the picture is the one that the same objects give at once."""
    store, model = Store(["files", "kubernetes"]), Model()
    for origin, events in history:
        for event in events:
            store.apply(origin, event)
            model.apply(origin, event)
        objects = store.objects()

        assert objects == from_scratch(model.objects(), objects.problems)
        assert_grouped_plainly(objects, model.objects())


def assert_grouped_plainly(objects: Objects, all_: list[MeshObject]) -> None:
    """Compare with the definition of the views, not with another store."""
    pods, slices = pick(all_, Pod), pick(all_, EndpointSlice)
    assert [group.pod for _, group in sorted(objects.pods.items())] == pods
    assert {it for family in objects.pods_of.values() for it in family} == set(pods)
    families = (*objects.targets.values(), *objects.bound_targets.values())
    assert {it for family in families for it in family} == set(pick(all_, TrafficTarget))
    assert set(objects.accounts.values()) == set(pick(all_, ServiceAccount))
    for ref, group in objects.services.items():
        mine = [it for it in slices if isinstance(it, EndpointSlice) and it.owner == ref]
        named = {endpoint.pod for it in mine for endpoint in it.endpoints}
        assert group.slices == tuple(mine)
        assert group.pods == tuple(pod for pod in pods if pod.name in named)
        for pod in group.pods:
            assert ref in objects.pods[pod.proxy].services
    assert [group.service for _, group in sorted(objects.services.items())] == pick(all_, Service)


@settings(max_examples=200, deadline=None)
@given(HISTORIES)
def test_what_did_not_change_stays_the_same_object(
    history: list[tuple[Origin, list[Event]]],
) -> None:
    """Groups that are equal after an event are identical, and pictures never change."""
    store = Store(["files", "kubernetes"])
    before = store.objects()
    for origin, events in history:
        for event in events:
            copies = {name: dict(view) for name, view in views(before)}
            store.apply(origin, event)
            after = store.objects()

            for (name, old), (_, new) in zip(views(before), views(after), strict=True):
                assert old == copies[name]
                assert all(new[key] is it for key, it in old.items() if new.get(key) == it)
            before = after


@given(HISTORIES)
def test_apply_says_whether_the_picture_changed(
    history: list[tuple[Origin, list[Event]]],
) -> None:
    """An event that reports no change leaves an equal picture."""
    store = Store(["files", "kubernetes"])
    for origin, events in history:
        for event in events:
            before = store.objects()
            if not store.apply(origin, event):
                assert store.objects() is before
