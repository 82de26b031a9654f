"""Random meshes for laws: small worlds in which names often meet, and sometimes miss.

`worlds()` draws the objects of one moment, `changes()` what happens to them afterwards. Objects
come from pools that are the same at every run, from sound ones to ones full of faults: a world is
drawn in a few choices, and shrinks to few and sound objects.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import TypeAlias, TypeVar

from hypothesis import strategies as st

from smi_xds.objects.kube import Annotations, Namespace, Pod, Service, ServicePort, Transport
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import (
    Backend,
    HTTPMatch,
    HTTPRouteGroup,
    IdentityBinding,
    Rule,
    SplitMatch,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi_xds.objects.store import Applied, Deleted, Event

World: TypeAlias = tuple[MeshObject, ...]

_M = TypeVar("_M", bound=MeshObject)
_T = TypeVar("_T")

_SPACES = ("east", "west")
_ACCOUNTS = ("ann", "bob", "cat")
_SERVICES = ("api", "db", "web")
_BINDINGS = ("b1", "b2")
_NUMBERS = (80, 3306, 8080)
_POOL = 60


class _Dice:
    """Makes one object of a pool; those further back have more faults."""

    def __init__(self, kind: str, index: int) -> None:
        self._random = Random(f"{kind} {index}")
        self._faults = index / _POOL / 5

    def any(self, choices: Sequence[_T]) -> _T:
        return self._random.choice(choices)

    def mostly(self, usual: _T, *rare: _T) -> _T:
        return self.any(rare) if self._random.random() < self._faults else usual

    def some(self, choices: Sequence[_T], least: int, most: int) -> tuple[_T, ...]:
        return tuple(self._random.sample(choices, self._random.randint(least, most)))

    def sidecar(self) -> str:
        return self.mostly(self.any(("bound", "intercepted")), "proxyless", "none")

    def modes(self) -> dict[str, str]:
        modes = ("strict", "permissive", "unreadable")
        found = {
            "access": self.mostly("", *modes, "shadow"),
            "mtls": self.mostly("", *modes),
        }
        return {f"smi-xds.io/{name}": mode for name, mode in found.items() if mode}


def _namespace(dice: _Dice) -> Namespace:
    return Namespace(name=dice.any(_SPACES), annotations=tuple(sorted(dice.modes().items())))


def _pod(dice: _Dice) -> Pod:
    number, space = dice.any(range(1, 7)), dice.mostly("east", "west")
    annotations = dice.modes() | {"smi-xds.io/sidecar": dice.sidecar()}
    index = _SPACES.index(space)
    pod = Pod(
        namespace=space,
        name=f"pod-{number}",
        service_account=dice.any(_ACCOUNTS),
        ips=(f"10.{index}.0.{number}",),
        labels=frozenset({("app", dice.any(_SERVICES))}),
        annotations=tuple(sorted(annotations.items())),
        ready=dice.mostly(True, False),
        terminating=dice.mostly(False, True),
        done=dice.mostly(False, True),
    )
    both = (*pod.ips, f"fd00:{index}::{number}")
    subdomain = dice.any(("", "", *_SERVICES))
    hostname = pod.name if subdomain else ""
    return replace(pod, ips=dice.any((pod.ips, both)), hostname=hostname, subdomain=subdomain)


def _service(dice: _Dice) -> Service:
    name = dice.any(_SERVICES)
    protocols = ("http", "http", "http", "grpc", "x", "tcp", "tcp-server-first")
    ports = [
        ServicePort(
            port=number,
            name=f"{dice.any(protocols)}-{number}",
            # Ports that sidecars use, and one in the range of local ports for TCP services.
            target_port=dice.mostly(number, 8080, 15001, 20000),
            transport=dice.any((Transport.TCP, Transport.TCP, Transport.TCP, Transport.UDP)),
        )
        for number in dice.some(_NUMBERS, 1, 3)
    ]
    service = Service(
        namespace=dice.mostly("east", "west"),
        name=name,
        selector=frozenset({("app", dice.mostly(name, "db", "none"))}),
        ports=tuple(ports),
    )
    number = 1 + dice.mostly(_SERVICES.index(name), 0)
    addresses = (f"10.96.0.{number}", f"fd00:96::{number}")
    headless = dice.any((False, False, False, True))
    ips = dice.any(((), addresses[:1], addresses, addresses[1:]))
    return replace(
        service,
        cluster_ips=() if headless else ips,
        headless=headless,
        type=dice.mostly("ClusterIP", "ExternalName"),
    )


def _match(dice: _Dice, name: str) -> HTTPMatch:
    path = dice.any((None, "", "/a", "/b.*", "^/c$"))
    methods = dice.any((None, (), ("GET",), ("*",), ("PUT", "GET")))
    headers = dice.any((None, (("X-A", "1"),), (("Host", "web"),)))
    return HTTPMatch(
        name=dice.mostly(name, "m1"),
        path_regex=dice.mostly(path, "(", r"\Qx"),
        methods=dice.mostly(methods, ("get",)),
        headers=dice.mostly(headers, (("bad name", "x"),)),
    )


def _http_routes(dice: _Dice) -> HTTPRouteGroup:
    return HTTPRouteGroup(
        namespace=dice.mostly("east", "west"),
        name=dice.any(("r1", "r2")),
        matches=tuple(_match(dice, name) for name in ("m1", "m2", "m3")[: dice.any((1, 2, 3))]),
    )


def _tcp_route(dice: _Dice) -> TCPRoute:
    ports = dice.any((None, dice.some(_NUMBERS, 0, 2)))
    return TCPRoute(
        namespace=dice.mostly("east", "west"),
        name=dice.any(("r1", "r2")),
        ports=dice.mostly(ports, (0,), (9,)),
    )


def _udp_route(dice: _Dice) -> UDPRoute:
    route = _tcp_route(dice)
    return UDPRoute(namespace=route.namespace, name=route.name, ports=route.ports)


def _subject(dice: _Dice) -> Subject:
    kind = dice.mostly(dice.any(("ServiceAccount", "ServiceAccount", "IdentityBinding")), "Group")
    names = _BINDINGS if kind == "IdentityBinding" else _ACCOUNTS
    return Subject(
        kind=kind,
        name=dice.mostly(dice.any(names), "gone"),
        namespace=dice.mostly(None, *_SPACES),
        group=dice.mostly(None, "access.smi-spec.io", "other.org"),
    )


def _binding(dice: _Dice) -> IdentityBinding:
    space = dice.mostly("east", "west")
    labels = dice.any((None, None, (("app", dice.any(_SERVICES)),)))
    ids = dice.any((None, None, (f"spiffe://cluster.local/ns/{space}/sa/{dice.any(_ACCOUNTS)}",)))
    odd = ((), ("cluster.local/ns/east/sa/ann",), ("spiffe://other.org/ns/east/sa/ann",))
    return IdentityBinding(
        namespace=space,
        name=dice.any(_BINDINGS),
        match_labels=dice.mostly(labels, (), (("app", "none"),)),
        spiffe_identities=dice.mostly(ids, *odd),
        service_account=dice.mostly(None if labels else dice.any((None, *_ACCOUNTS)), "gone"),
    )


def _rule(dice: _Dice) -> Rule:
    return Rule(
        kind=dice.mostly(dice.any(("HTTPRouteGroup", "TCPRoute", "UDPRoute")), "Unknown"),
        name=dice.mostly(dice.any(("r1", "r2")), "gone"),
        matches=dice.mostly(dice.any((None, ("m1",), ("m1", "m2"))), ("gone",)),
    )


def _target(dice: _Dice) -> TrafficTarget:
    sources = tuple(_subject(dice) for _ in range(dice.any((1, 2))))
    rules = tuple(_rule(dice) for _ in range(dice.any((1, 1, 2))))
    return TrafficTarget(
        namespace=dice.mostly("east", "west"),
        name=dice.any(("t1", "t2", "t3", "t4")),
        destination=dice.mostly(_subject(dice), None),
        destination_port=dice.mostly(None, 80),
        sources=dice.mostly(sources, None, ()),
        rules=dice.mostly(rules, None, ()),
    )


def _split(dice: _Dice) -> TrafficSplit:
    weights = (*map(Decimal, (0, 1, 50, 100)), Decimal("0.5"))
    odd = (None, Decimal(-1), Decimal("1e-9"), Decimal(2**63))
    backends = (
        Backend(service=dice.mostly(dice.any(_SERVICES), "gone"), weight=weight)
        for weight in [dice.mostly(dice.any(weights), *odd) for _ in range(dice.any((1, 2, 3)))]
    )
    match = SplitMatch(kind="HTTPRouteGroup", name=dice.mostly(dice.any(("r1", "r2")), "gone"))
    return TrafficSplit(
        namespace=dice.mostly("east", "west"),
        name=dice.any(("s1", "s2", "s3")),
        service=dice.mostly(dice.any(_SERVICES), "web.east", "web.elsewhere"),
        created=dice.any(("", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")),
        backends=dice.mostly(tuple(backends), ()),
        matches=dice.any((None, (), (match,))),
    )


def _pool(make: Callable[[_Dice], _M]) -> tuple[_M, ...]:
    return tuple(make(_Dice(make.__name__, index)) for index in range(_POOL))


_NAMESPACES, _PODS, _SERVICE_OBJECTS = _pool(_namespace), _pool(_pod), _pool(_service)
_HTTP_ROUTES, _TCP_ROUTES = _pool(_http_routes), _pool(_tcp_route)
_UDP_ROUTES = _pool(_udp_route)
_TARGETS, _SPLITS, _BINDING_OBJECTS = _pool(_target), _pool(_split), _pool(_binding)
_ALL: tuple[MeshObject, ...] = (
    *_PODS,
    *_SERVICE_OBJECTS,
    *_TARGETS,
    *_SPLITS,
    *_HTTP_ROUTES,
    *_TCP_ROUTES,
    *_UDP_ROUTES,
    *_NAMESPACES,
    *_BINDING_OBJECTS,
)


def targets(*, name: str) -> st.SearchStrategy[TrafficTarget]:
    """A TrafficTarget of this name."""
    return st.sampled_from(_TARGETS).map(lambda target: replace(target, name=name))


def _some(pool: Sequence[_M], least: int, most: int) -> st.SearchStrategy[list[_M]]:
    return st.lists(st.sampled_from(pool), min_size=least, max_size=most)


def _one_of_each(pool: Sequence[_M], key: Callable[[_M], str]) -> st.SearchStrategy[list[_M]]:
    """Names meet often if each of them is there."""
    groups = {key(it): [other for other in pool if key(other) == key(it)] for it in pool}
    return st.tuples(*(st.sampled_from(groups[name]) for name in sorted(groups))).map(list)


def _name(it: MeshObject) -> str:
    return it.ref.name


_WORLDS = st.tuples(
    _one_of_each(_PODS, lambda pod: pod.service_account),
    _one_of_each(_SERVICE_OBJECTS, _name),
    _one_of_each(_HTTP_ROUTES, _name),
    _one_of_each(_TCP_ROUTES, _name),
    _one_of_each(_UDP_ROUTES, _name),
    _one_of_each(_BINDING_OBJECTS, _name),
    _some(_TARGETS, 2, 5),
    _some(_SPLITS, 0, 3),
    _some(_ALL, 0, 6),
)


def worlds() -> st.SearchStrategy[World]:
    """The objects of one moment, each reference once: of those with one name the first counts."""
    return _WORLDS.map(lambda parts: [it for part in parts for it in part]).map(
        lambda found: tuple({it.ref: it for it in reversed(found)}.values())
    )


def changes(*, max_size: int = 6) -> st.SearchStrategy[Sequence[Event]]:
    """What happens next: objects applied anew or changed, and objects deleted."""
    applied = st.sampled_from(_ALL).map(Applied)
    deleted = st.sampled_from(_ALL).map(lambda it: Deleted(it.ref))
    return st.lists(st.one_of(applied, applied, deleted), max_size=max_size)


def happenings(random: Random) -> Iterator[Event]:
    """Endless changes, two of three that apply something, the same for the same seed."""
    while True:
        it = random.choice(_ALL)
        yield Deleted(it.ref) if random.random() < 1 / 3 else Applied(it)


def without_targets(world: World) -> World:
    """The same world, in which nothing is granted."""
    return tuple(it for it in world if not isinstance(it, TrafficTarget))


def everywhere_strict(world: World) -> World:
    """The same world, in which nobody asks for a permissive mode and all pods have a sidecar."""
    return tuple(
        replace(it, annotations=_with_sidecar(it) if isinstance(it, Pod) else ())
        if isinstance(it, Pod | Namespace)
        else it
        for it in world
    )


def _with_sidecar(pod: Pod) -> Annotations:
    is_intercepted = ("smi-xds.io/sidecar", "intercepted") in pod.annotations
    return (("smi-xds.io/sidecar", "intercepted" if is_intercepted else "bound"),)
