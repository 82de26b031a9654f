"""The grouped views, kept up with every change of one object.

Mappings are copied when first written after they were handed out, so a picture costs one copy of
what changed; groups that no change touched stay the very same objects (see `objects.views`).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from operator import is_
from typing import Generic, Protocol, TypeVar, assert_never

from smi_xds.objects.kube import EndpointSlice, Namespace, Pod, Service, ServiceAccount
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import (
    HTTPRouteGroup,
    IdentityBinding,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi_xds.objects.snapshot import Snapshot
from smi_xds.objects.views import Objects, PodGroup, ServiceGroup
from smi_xds.problems import Problem
from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef, ServiceRef

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Table(Generic[_Key, _Value]):
    """A mapping that is copied on the first write after it was handed out."""

    def __init__(self) -> None:
        self._items: Snapshot[_Key, _Value] = Snapshot()
        self._handed_out = False

    def get(self, key: _Key) -> _Value | None:
        return self._items.get(key)

    def set(self, key: _Key, value: _Value | None) -> None:
        """Keep a value, or forget it where it is None."""
        if self._items.get(key) is value:
            return
        if self._handed_out:
            self._items = Snapshot(self._items)
            self._handed_out = False
        self._items.write(key, value)

    def hand_out(self) -> Mapping[_Key, _Value]:
        self._handed_out = True
        return self._items


class _Named(Protocol):
    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...


_Member = TypeVar("_Member", bound=_Named)


class Families(Generic[_Key, _Member]):
    """Objects under a key that several share, each family sorted by name."""

    def __init__(self, key_of: Callable[[_Member], _Key]) -> None:
        self._key_of = key_of
        # Two lists in one order: a family of thousands takes a change without being sorted anew.
        self._families: dict[_Key, tuple[list[tuple[str, str]], list[_Member]]] = {}
        self._tuples: Table[_Key, tuple[_Member, ...]] = Table()
        self._stale: set[_Key] = set()

    def replace(self, old: _Member | None, new: _Member | None) -> None:
        """Take one object's new state in place of its old one."""
        if old is not None and (new is None or self._key_of(old) != self._key_of(new)):
            self._remove(old)
        if new is not None:
            self._put(new)

    def _put(self, it: _Member) -> None:
        key, name = self._key_of(it), (it.name, it.namespace)
        names, members = self._families.setdefault(key, ([], []))
        index = bisect_left(names, name)
        if index < len(names) and names[index] == name:
            members[index] = it
        else:
            names.insert(index, name)
            members.insert(index, it)
        self._stale.add(key)

    def _remove(self, it: _Member) -> None:
        key = self._key_of(it)
        names, members = self._families[key]
        index = bisect_left(names, (it.name, it.namespace))
        del names[index], members[index]
        self._stale.add(key)

    def get(self, key: _Key) -> tuple[_Member, ...]:
        if key in self._stale:
            self._refresh(key)
        return self._tuples.get(key) or ()

    def hand_out(self) -> Mapping[_Key, tuple[_Member, ...]]:
        for key in tuple(self._stale):
            self._refresh(key)
        return self._tuples.hand_out()

    def _refresh(self, key: _Key) -> None:
        self._stale.remove(key)
        _, members = self._families[key]
        if not members:
            del self._families[key]
        self._tuples.set(key, tuple(members) or None)


class Groups:
    """All effective objects, grouped; `Objects` is its picture."""

    def __init__(self) -> None:
        self._namespaces: Table[str, Namespace] = Table()
        self._accounts: Table[ServiceAccountRef, ServiceAccount] = Table()
        self._identity_bindings: Table[ObjectRef, IdentityBinding] = Table()
        self._http_routes: Table[ObjectRef, HTTPRouteGroup] = Table()
        self._tcp_routes: Table[ObjectRef, TCPRoute] = Table()
        self._udp_routes: Table[ObjectRef, UDPRoute] = Table()
        self._targets: Families[ServiceAccountRef, TrafficTarget] = Families(_destination)
        self._bound_targets: Families[str, TrafficTarget] = Families(lambda it: it.namespace)
        self._splits: Families[ServiceRef, TrafficSplit] = Families(_root)
        self._pods_of: Families[ServiceAccountRef, Pod] = Families(lambda pod: pod.account)
        self._backing = Backing()

    def replace(self, old: MeshObject | None, new: MeshObject | None) -> None:
        """Take one object's new state in place of its old one; None stands for absence."""
        present = new or old
        assert present is not None, "what was absent and stays so is no change"
        match present:
            case Namespace() as it:
                self._namespaces.set(it.name, _as(Namespace, new))
            case ServiceAccount() as it:
                self._accounts.set(it.account, _as(ServiceAccount, new))
            case IdentityBinding() as it:
                self._identity_bindings.set(it.ref, _as(IdentityBinding, new))
            case HTTPRouteGroup() as it:
                self._http_routes.set(it.ref, _as(HTTPRouteGroup, new))
            case TCPRoute() as it:
                self._tcp_routes.set(it.ref, _as(TCPRoute, new))
            case UDPRoute() as it:
                self._udp_routes.set(it.ref, _as(UDPRoute, new))
            case TrafficTarget():
                self._targets.replace(_target(old), _target(new))
                self._bound_targets.replace(_bound_target(old), _bound_target(new))
            case TrafficSplit():
                self._splits.replace(_as(TrafficSplit, old), _as(TrafficSplit, new))
            case Service() as it:
                self._backing.set_service(it.service, _as(Service, new))
            case EndpointSlice():
                self._backing.replace_slice(_as(EndpointSlice, old), _as(EndpointSlice, new))
            case Pod() as it:
                self._pods_of.replace(_as(Pod, old), _as(Pod, new))
                self._backing.set_pod(it.proxy, _as(Pod, new))
            case never:
                assert_never(never)

    def picture(self, problems: tuple[Problem, ...]) -> Objects:
        """All objects as they are now."""
        self._backing.refresh()
        return Objects(
            namespaces=self._namespaces.hand_out(),
            accounts=self._accounts.hand_out(),
            services=self._backing.services.hand_out(),
            pods=self._backing.pods.hand_out(),
            pods_of=self._pods_of.hand_out(),
            targets=self._targets.hand_out(),
            bound_targets=self._bound_targets.hand_out(),
            identity_bindings=self._identity_bindings.hand_out(),
            http_routes=self._http_routes.hand_out(),
            tcp_routes=self._tcp_routes.hand_out(),
            udp_routes=self._udp_routes.hand_out(),
            splits=self._splits.hand_out(),
            problems=problems,
        )


class Backing:
    """Which pods stand behind which services: what EndpointSlices tell of both."""

    def __init__(self) -> None:
        self.services: Table[ServiceRef, ServiceGroup] = Table()
        self.pods: Table[ProxyId, PodGroup] = Table()
        self._service: dict[ServiceRef, Service] = {}
        self._pod: dict[str, dict[str, Pod]] = {}
        self._slices: Families[ServiceRef, EndpointSlice] = Families(lambda it: it.owner)
        # Of each service, the pods that its slices name, and by how many slices (IPv4 and IPv6).
        self._behind: dict[ServiceRef, dict[str, int]] = {}
        self._order: dict[ServiceRef, tuple[str, ...]] = {}
        self._of: dict[ProxyId, set[ServiceRef]] = {}
        self._stale_services: set[ServiceRef] = set()
        self._stale_pods: set[ProxyId] = set()

    def set_service(self, ref: ServiceRef, service: Service | None) -> None:
        known = ref in self._service
        _set(self._service, ref, service)
        self._stale_services.add(ref)
        if known != (service is not None):
            self._stale_pods.update(ProxyId(ref.namespace, n) for n in self._behind.get(ref, ()))

    def set_pod(self, proxy: ProxyId, pod: Pod | None) -> None:
        _set(self._pod.setdefault(proxy.namespace, {}), proxy.name, pod)
        self._stale_pods.add(proxy)
        self._stale_services.update(self._of.get(proxy, ()))

    def replace_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        self._slices.replace(old, new)
        before = {(old.owner, name) for name in _pods_in(old)} if old else set()
        after = {(new.owner, name) for name in _pods_in(new)} if new else set()
        for owner, name in after - before:
            self._count(owner, name, step=1)
        for owner, name in before - after:
            self._count(owner, name, step=-1)
        self._stale_services.update(it.owner for it in (old, new) if it)

    def _count(self, owner: ServiceRef, name: str, *, step: int) -> None:
        counts = self._behind.setdefault(owner, {})
        was = counts.get(name, 0)
        _set(counts, name, was + step or None)
        if was and was + step:
            return
        self._order.pop(owner, None)
        if not counts:
            del self._behind[owner]
        proxy = ProxyId(owner.namespace, name)
        services = self._of.setdefault(proxy, set())
        if step > 0:
            services.add(owner)
        else:
            services.discard(owner)
        if not services:
            del self._of[proxy]
        self._stale_pods.add(proxy)

    def refresh(self) -> None:
        """Group anew what changed since the last time."""
        for ref in self._stale_services:
            service = self._service.get(ref)
            self.services.set(ref, self._service_group(ref, service))
        for proxy in self._stale_pods:
            pod = self._pod.get(proxy.namespace, {}).get(proxy.name)
            self.pods.set(proxy, self._pod_group(proxy, pod))
        self._stale_services.clear()
        self._stale_pods.clear()

    def _pod_group(self, proxy: ProxyId, pod: Pod | None) -> PodGroup | None:
        if pod is None:
            return None
        services = tuple(sorted(s for s in self._of.get(proxy, ()) if s in self._service))
        old = self.pods.get(proxy)
        if old and old.pod is pod and old.services == services:
            return old
        return PodGroup(pod=pod, services=services)

    def _service_group(self, ref: ServiceRef, service: Service | None) -> ServiceGroup | None:
        if service is None:
            self._order.pop(ref, None)
            return None
        if ref not in self._order:
            self._order[ref] = tuple(sorted(self._behind.get(ref, ())))
        known, slices = self._pod.get(ref.namespace, {}), self._slices.get(ref)
        pods = tuple(known[name] for name in self._order[ref] if name in known)
        old = self.services.get(ref)
        if old and old.service is service and old.slices is slices and _same(old.pods, pods):
            return old
        return ServiceGroup(service=service, slices=slices, pods=pods)


def _pods_in(slice_: EndpointSlice) -> Iterator[str]:
    return (endpoint.pod for endpoint in slice_.endpoints if endpoint.pod)


def _same(a: tuple[object, ...], b: tuple[object, ...]) -> bool:
    """Whether they hold the very same objects; == would look into those that differ."""
    return len(a) == len(b) and all(map(is_, a, b))


def _target(it: MeshObject | None) -> TrafficTarget | None:
    """One whose destination is anything but an IdentityBinding."""
    return None if _bound_target(it) else _as(TrafficTarget, it)


def _bound_target(it: MeshObject | None) -> TrafficTarget | None:
    destination = it.destination if isinstance(it, TrafficTarget) else None
    bound = destination is not None and destination.kind == "IdentityBinding"
    return _as(TrafficTarget, it) if bound else None


def _destination(target: TrafficTarget) -> ServiceAccountRef:
    destination = target.destination
    if destination is None or destination.kind != "ServiceAccount":
        return ServiceAccountRef(target.namespace, "")
    return ServiceAccountRef(destination.namespace or target.namespace, destination.name)


def _root(split: TrafficSplit) -> ServiceRef:
    return ServiceRef(split.namespace, split.service.partition(".")[0])


def _set(items: dict[_Key, _Value], key: _Key, value: _Value | None) -> None:
    if value is None:
        items.pop(key, None)
    else:
        items[key] = value


def _as(kind: type[_Value], it: MeshObject | None) -> _Value | None:
    assert it is None or isinstance(it, kind), "an object never changes its kind"
    return it
