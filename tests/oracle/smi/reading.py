"""What a user wrote, as plain records: every published version of every kind of SMI.

Written from the texts and our rulings alone. It knows nothing of the program that it judges; an
object that cannot be read is not there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

Document: TypeAlias = Mapping[str, Any]


class UnreadableError(Exception):
    """The object says something that its version does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One match of an HTTPRouteGroup, as written."""

    name: str
    path: str | None
    methods: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A source or destination; the namespace is the object's own where none is written."""

    kind: str
    name: str
    namespace: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of a TrafficTarget."""

    kind: str
    name: str
    matches: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A TrafficTarget."""

    namespace: str
    name: str
    destination: Party | None
    port: int | None
    rules: tuple[Rule, ...]
    sources: tuple[Party, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """An IdentityBinding: its schemes, each of which names somebody."""

    namespace: str
    account: str | None
    spiffe: tuple[str, ...]
    labels: Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A TrafficSplit; `matches` None where it has none."""

    namespace: str
    name: str
    created: str
    root: str
    backends: tuple[tuple[str, Fraction], ...]
    matches: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a Service; `protocol` is http, tcp or udp."""

    number: int
    protocol: str
    target: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service."""

    namespace: str
    name: str
    selector: Mapping[str, str]
    ports: tuple[Port, ...]

    def port(self, number: int) -> Port | None:
        """Its port of that number that is not UDP."""
        return next((p for p in self.ports if p.number == number and p.protocol != "udp"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A Pod."""

    namespace: str
    name: str
    account: str
    address: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]
    annotations: Mapping[str, str]
    ready: bool
    terminating: bool

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(slots=True)
class Objects:
    """All that could be read, by what others call it."""

    namespaces: dict[str, Mapping[str, str]]
    pods: list[Pod]
    services: dict[tuple[str, str], Service]
    groups: dict[tuple[str, str], tuple[Match, ...]]
    tcp: dict[tuple[str, str], tuple[int, ...]]
    udp: dict[tuple[str, str], tuple[int, ...]]
    targets: list[Target]
    splits: list[Split]
    bindings: dict[tuple[str, str], Binding]


def read(documents: Iterable[Document]) -> Objects:
    """Read documents; those that cannot be read are left out."""
    found = Objects({}, [], {}, {}, {}, {}, [], [], {})
    for document in documents:
        try:
            _take(found, document)
        except UnreadableError:
            continue
    return found


def _take(found: Objects, it: Document) -> None:
    group, _, version = str(it["apiVersion"]).rpartition("/")
    meta = it["metadata"]
    key = (str(meta.get("namespace") or "default"), str(meta["name"]))
    match it["kind"]:
        case "Namespace":
            found.namespaces[key[1]] = dict(meta.get("annotations") or {})
        case "Service":
            found.services[key] = _service(it, key)
        case "Pod":
            found.pods.append(_pod(it, key))
        case "TrafficTarget":
            found.targets.append(_target(_root(it, version, until=1), version, key))
        case "IdentityBinding":
            found.bindings[key] = _binding(_body(it), key)
        case "HTTPRouteGroup":
            found.groups[key] = _matches(_root(it, version, until=2))
        case "TCPRoute":
            found.tcp[key] = _ports(_root(it, version, until=2), version)
        case "UDPRoute":
            found.udp[key] = _ports(_body(it), version)
        case "TrafficSplit":
            found.splits.append(_split(_body(it), version, meta, key))
        case _:
            assert group not in ("access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io")


_ENVELOPE = ("apiVersion", "kind", "metadata", "status")


def _root(it: Document, version: str, *, until: int) -> Document:
    """The fields of an object whose versions up to that one have them beside `metadata`."""
    if int(version.removeprefix("v1alpha")) > until:
        return _body(it)
    return {name: value for name, value in it.items() if name not in _ENVELOPE}


def _body(it: Document) -> Document:
    _only(it, *_ENVELOPE, "spec")
    return it.get("spec") or {}


def _only(it: Document, *known: str) -> None:
    if unknown := set(it) - set(known):
        raise UnreadableError(unknown)


def _target(spec: Document, version: str, key: tuple[str, str]) -> Target:
    rules = "specs" if version == "v1alpha1" else "rules"
    _only(spec, "destination", rules, "sources")
    destination, port = spec.get("destination"), None
    if destination is not None:
        port = destination.get("port")
        destination = _party({k: v for k, v in destination.items() if k != "port"}, version, key)
    for rule in spec.get(rules) or ():
        _only(rule, "kind", "name", "matches")
    return Target(
        namespace=key[0],
        name=key[1],
        destination=destination,
        port=None if port is None else int(port),
        rules=tuple(
            Rule(kind=r["kind"], name=r["name"], matches=tuple(r.get("matches") or ()))
            for r in spec.get(rules) or ()
        ),
        sources=tuple(_party(source, version, key) for source in spec.get("sources") or ()),
    )


def _party(it: Document, version: str, key: tuple[str, str]) -> Party:
    _only(it, "kind", "name", "namespace", *(["group"] if version == "v1alpha4" else []))
    return Party(
        kind=it["kind"],
        name=it["name"],
        namespace=it.get("namespace") or key[0],
        group=it.get("group") or "",
    )


def _binding(spec: Document, key: tuple[str, str]) -> Binding:
    _only(spec, "schemes")
    schemes = spec["schemes"]
    _only(schemes, "podLabelSelector", "spiffeIdentities", "serviceAccount")
    selector = schemes.get("podLabelSelector")
    return Binding(
        namespace=key[0],
        account=schemes.get("serviceAccount"),
        spiffe=tuple(schemes.get("spiffeIdentities") or ()),
        labels=None if selector is None else selector["matchLabels"],
    )


def _matches(spec: Document) -> tuple[Match, ...]:
    _only(spec, "matches")
    found = []
    for it in spec.get("matches") or ():
        _only(it, "name", "pathRegex", "methods", "headers")
        headers = it.get("headers") or ()
        maps = [headers] if isinstance(headers, Mapping) else headers
        found.append(
            Match(
                name=it["name"],
                path=it.get("pathRegex") or None,
                methods=tuple(it.get("methods") or ()),
                headers=tuple(item for one in maps for item in one.items()),
            )
        )
    return tuple(found)


def _ports(spec: Document, version: str) -> tuple[int, ...]:
    _only(spec, *(["matches"] if version == "v1alpha4" else []))
    matches = spec.get("matches") or {}
    _only(matches, "name", "ports")
    return tuple(matches.get("ports") or ())


def _split(spec: Document, version: str, meta: Document, key: tuple[str, str]) -> Split:
    with_matches = version in ("v1alpha3", "v1alpha4")
    _only(spec, "service", "backends", *(["matches"] if with_matches else []))
    matches = spec.get("matches")
    for backend in spec.get("backends") or ():
        _only(backend, "service", "weight")
    return Split(
        namespace=key[0],
        name=key[1],
        created=meta.get("creationTimestamp") or "",
        root=spec["service"],
        backends=tuple(
            (backend["service"], max(Fraction(0), _weight(backend.get("weight"))))
            for backend in spec.get("backends") or ()
        ),
        matches=tuple((m["kind"], m["name"]) for m in matches) if matches else None,
    )


_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([KMGTPE]i)|([numkMGTPE]))?")
_UNITS = {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def _weight(text: object) -> Fraction:
    """A weight: a number, or in v1alpha1 a quantity; none is nothing."""
    if text is None:
        return Fraction(0)
    parts = _QUANTITY.fullmatch(str(text))
    if parts is None:
        raise UnreadableError(text)
    number, exponent, binary, decimal = parts.groups()
    if exponent:
        return Fraction(f"{number}{exponent}")
    if binary:
        return Fraction(number) * (1 << (10 * ("KMGTPE".index(binary[0]) + 1)))
    places = _UNITS.get(decimal or "", 0)
    unit = Fraction(10 ** (3 * places)) if places >= 0 else Fraction(1, 10 ** (-3 * places))
    return Fraction(number) * unit


# Kubernetes: an unnamed or other protocol is HTTP, unless the number is known for something else.
_NOT_HTTP = (25, 587, 3306, 4444, 5432, 6379, 9300, 11211)


def _protocol(port: Document) -> str:
    if port.get("protocol") == "UDP":
        return "udp"
    said = str(port.get("appProtocol") or "").removeprefix("kubernetes.io/")
    for word in (said, str(port.get("name") or "")):
        if word.split("-")[0] in ("http", "http2", "grpc", "h2c", "ws"):
            return "http"
        if word.split("-")[0] in ("tcp",):
            return "tcp"
    return "tcp" if port["port"] in _NOT_HTTP else "http"


def _service(it: Document, key: tuple[str, str]) -> Service:
    spec = it["spec"]
    return Service(
        namespace=key[0],
        name=key[1],
        selector=spec.get("selector") or {},
        ports=tuple(
            Port(
                number=port["port"],
                protocol=_protocol(port),
                target=port.get("targetPort") or port["port"],
            )
            for port in spec["ports"]
        ),
    )


def _pod(it: Document, key: tuple[str, str]) -> Pod:
    meta, spec, status = it["metadata"], it["spec"], it.get("status") or {}
    annotations = meta.get("annotations") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return Pod(
        namespace=key[0],
        name=key[1],
        account=spec.get("serviceAccountName") or "default",
        address=status.get("podIP") or annotations.get("smi-xds.io/address", ""),
        labels=meta.get("labels") or {},
        ports={
            port["name"]: port["containerPort"]
            for container in spec.get("containers") or ()
            for port in container.get("ports") or ()
        },
        annotations=annotations,
        # A pod that says nothing of its state was written by hand, and is ready.
        ready=not status or conditions.get("Ready") == "True",
        terminating="deletionTimestamp" in meta,
    )
