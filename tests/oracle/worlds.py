"""Random meshes and questions: documents as users write them, with the mistakes that they make.

The pods are a fixed cast, so that real Envoys can play it; everything else is drawn: labels,
services, versions, TrafficTargets that overlap, routes, splits, and what is wrong with them.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from hypothesis import strategies as st

from tests.oracle.smi.judging import Account, Request

Draw: TypeAlias = st.DrawFn
Document: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

SPACES = ("east", "west")
APPS = ("web", "api", "db")
TARGETS = (8080, 8081)
GREETING = 3306
"""A target port on which the server speaks first."""


@dataclass(frozen=True, slots=True)
class Member:
    """A pod of the cast; without a sidecar it stands outside the mesh."""

    namespace: str
    name: str
    account: str
    number: int
    meshed: bool = True

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


CAST = (
    Member("east", "ann-1", "ann", 11),
    Member("east", "bob-1", "bob", 12),
    Member("east", "bob-2", "bob", 13),
    Member("west", "ann-1", "ann", 14),
    Member("west", "cat-1", "cat", 15),
    Member("east", "out-1", "out", 16, meshed=False),
)
CALLERS = tuple(member for member in CAST if member.meshed)
ACCOUNTS = (("east", "ann"), ("east", "bob"), ("west", "ann"), ("west", "cat"))


@dataclass(frozen=True, slots=True)
class HttpQuestion:
    """A request by the sidecar of a caller; where nobody needs a Host, to a port of a service."""

    caller: Member
    request: Request
    service: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class TcpQuestion:
    """A connection by the sidecar of a caller to a TCP port of a service."""

    caller: Member
    service: str
    port: int


@dataclass(frozen=True, slots=True)
class PlainQuestion:
    """A request in plaintext to a pod's own port, past all sidecars of callers."""

    pod: Member
    port: int
    request: Request


Question: TypeAlias = HttpQuestion | TcpQuestion | PlainQuestion


@dataclass(frozen=True, slots=True)
class World:
    """The documents of one moment, and what is asked of it."""

    documents: tuple[Document, ...]
    questions: tuple[Question, ...]


# More than the longest document has choices; where they run out, the first choice is taken.
_BYTES = st.binary(min_size=48, max_size=48)

Versions: TypeAlias = Mapping[str, Sequence[str]]
"""The versions in which each kind may be written."""

ALL_VERSIONS: Versions = {
    "TrafficTarget": ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    "HTTPRouteGroup": ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    "TCPRoute": ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    "TrafficSplit": ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"),
    "UDPRoute": ("v1alpha4",),
    "IdentityBinding": ("v1alpha4",),
}

GROUPS = {
    "TrafficTarget": "access.smi-spec.io",
    "HTTPRouteGroup": "specs.smi-spec.io",
    "TCPRoute": "specs.smi-spec.io",
    "UDPRoute": "specs.smi-spec.io",
    "TrafficSplit": "split.smi-spec.io",
    "IdentityBinding": "access.smi-spec.io",
}


class _Author:
    """Writes documents. Names of SMI objects end in `tag`: no mesh inherits one from another.

    Each document is made of a few bytes, one a choice: drawn fast, and zeros are the simplest.
    """

    def __init__(self, draw: Draw, versions: Versions, block: str, tag: str) -> None:
        self._draw = draw
        self.versions = versions
        self.block = block
        self.tag = tag
        self.begin()

    def begin(self) -> None:
        """Begin something new: what follows depends on nothing before."""
        self._bytes = iter(self._draw(_BYTES))

    def any(self, choices: Collection[_T]) -> _T:
        listed = tuple(choices)
        return listed[next(self._bytes, 0) % len(listed)]

    def mostly(self, usual: _T, *rare: _T) -> _T:
        """The usual one, 30 times in 30 + the rare ones."""
        return self.any([*[usual] * 30, *rare])

    def some(self, choices: Sequence[_T], least: int, most: int) -> list[_T]:
        left = list(choices)
        return [left.pop(self.any(range(len(left)))) for _ in self.many(least, most)]

    def many(self, least: int, most: int) -> range:
        return range(self.any(range(least, most + 1)))

    def modes(self) -> dict[str, str]:
        odd = ("permissive", "permissive", "permissive", "shadow", "strict", "?")
        access = self.any((*[""] * 18, *odd))
        mtls = self.any((*[""] * 18, *odd))
        if access == "permissive":
            mtls = self.any(("permissive", "permissive", ""))
        found = {"smi-xds.io/access": access, "smi-xds.io/mtls": mtls}
        return {name: mode for name, mode in found.items() if mode}

    # -------------------------------------------------------- Kubernetes

    def namespace(self, name: str) -> Document:
        annotations = self.modes() if self.mostly(False, True) else {}
        meta = {"name": name, "annotations": annotations}
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}

    def pod(self, member: Member) -> Document:
        annotations = {
            "smi-xds.io/sidecar": "bound" if member.meshed else "none",
            "smi-xds.io/app-address": f"{self.block}.{100 + member.number}",
        }
        meta: Document = {
            "namespace": member.namespace,
            "name": member.name,
            "labels": {
                "app": self.any((*[APPS[member.number % 3]] * 6, *APPS)),
                "tier": self.any(("x", "y")),
            },
            "annotations": annotations | (self.modes() if member.meshed else {}),
        }
        if self.mostly(False, True):
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        port = {"name": "main", "containerPort": self.any(TARGETS)}
        container = {"name": "app", "ports": [port] if self.mostly(True, False) else []}
        ready = self.mostly("True", "False")
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {"serviceAccountName": member.account, "containers": [container]},
            "status": {
                "phase": "Running",
                "podIP": f"{self.block}.{member.number}",
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }

    def service(self, namespace: str, name: str) -> Document:
        selector = self.mostly({"app": name}, {"tier": "x"}, {"app": "nobody"}, {"app": "web"})
        ports = [self.service_port(number) for number in self.some((80, 8080, 3306), 1, 3)]
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "clusterIPs": [cluster_ip(namespace, name)],
                "selector": selector,
                "ports": ports,
            },
        }

    def service_port(self, number: int) -> Document:
        if number == GREETING:
            # Known by its number alone, by its name, or by what its owner says.
            names = ("x", "tcp-server-first-db", "tcp-db")
            port: Document
            port = {"port": GREETING, "name": self.any(names), "targetPort": GREETING}
            port |= {"appProtocol": "tcp"} if self.mostly(False, True) else {}
            return port
        target = self.mostly(self.any(TARGETS), number, "main", "main", 15001, 9)
        # One protocol for each target port, mostly: else two Services quarrel over it.
        http = self.mostly(number == 80, number != 80)
        name = self.any(("http", "http-x", "grpcish")) if http else "tcp-x"
        return {"port": number, "name": f"{name}-{number}", "targetPort": target}

    # -------------------------------------------------------- SMI

    def smi(
        self, kind: str, name: str, spec: Document, *, flat_until: int, version: str
    ) -> Document:
        meta: Document = {"namespace": self.mostly(SPACES[0], SPACES[1]), "name": name}
        body: Document = spec if int(version[-1]) <= flat_until else {"spec": spec}
        it: Document = {"apiVersion": f"{GROUPS[kind]}/{version}", "kind": kind, "metadata": meta}
        it |= body
        if self.any(range(40)) == 39:
            it["spec" if "spec" in it else "unknown"] = {**it.get("spec", {}), "misspelt": 1}
        return it

    def route_group(self, name: str) -> Document:
        version = self.any(self.versions["HTTPRouteGroup"])
        matches = [self.match(m, version) for m in ("m1", "m2", "m3")[: self.any((1, 1, 2, 3))]]
        spec = {"matches": matches}
        return self.smi("HTTPRouteGroup", name, spec, flat_until=2, version=version)

    def match(self, name: str, version: str) -> Document:
        it: Document = {"name": self.mostly(name, "m1")}
        paths = ("/", "/a", "/a/b$", "^/c", "/(a|b)/x", "/[a-c]+", ".*x", "/a|/b", "(?i)/A", "")
        bad = ("a)|(b", "(", r"\Qa", "(?!x)/a", "(?:.{1000}){9}", "\\")
        path = self.mostly(self.any((None, *paths)), *bad[: 2 + self.any((0, 4))])
        methods: tuple[list[str] | None, ...] = (None, [], ["*"], ["GET"], ["GET", "HEAD"])
        methods = (*methods, ["POST", "PUT"], ["GET", "*"])
        method = self.mostly(self.any(methods), ["CONNECT"], ["get"], ["FOO"])
        usual = self.any((None, {}, {"X-A": "1"}, {"x-a": "1|2"}, {"x-a": "1", "x-b": ".*"}))
        one = self.mostly(usual, {"host": "web.*"}, {":authority": "api.*"}, {"b d": "x"})
        if version == "v1alpha1":
            # All fields are required there, and there are no headers.
            return it | {"pathRegex": path or ".*", "methods": method or ["*"]}
        headers: object = one
        if one is not None and self.any((True, False)):
            headers = [{key: value} for key, value in one.items()]
        said = {"pathRegex": path, "methods": method, "headers": headers}
        return it | {key: value for key, value in said.items() if value is not None}

    def tcp_route(self, name: str) -> Document:
        # Ports are what is restricted: older versions have none.
        version = self.any((*self.versions["TCPRoute"], *["v1alpha4"] * 5))
        spec: Document = {}
        if version == "v1alpha4":
            ports = self.some((*TARGETS, GREETING, 80), 0, 2)
            matches = self.mostly({"ports": ports}, {}, {"name": "x", "ports": [0, 70000]})
            spec = self.mostly({"matches": matches}, {})
        return self.smi("TCPRoute", name, spec, flat_until=2, version=version)

    def udp_route(self, name: str) -> Document:
        spec = {"matches": {"ports": self.some(TARGETS, 0, 2)}}
        return self.smi("UDPRoute", name, spec, flat_until=0, version="v1alpha4")

    def binding(self, name: str) -> Document:
        """An IdentityBinding; its schemes are alternatives."""
        space, account = self.any(ACCOUNTS)
        labels = {"podLabelSelector": {"matchLabels": {"app": self.any(APPS)}}}
        domain = self.mostly("cluster.local", "elsewhere.org")
        spiffe = {"spiffeIdentities": [f"spiffe://{domain}/ns/{space}/sa/{account}"]}
        schemes: Document = {"serviceAccount": account}
        schemes = self.any((schemes, spiffe, labels, spiffe | labels, schemes | spiffe))
        schemes = self.mostly(schemes, labels | {"serviceAccount": account})
        spec = {"schemes": schemes}
        return self.smi("IdentityBinding", name, spec, flat_until=0, version="v1alpha4")

    def party(self, version: str, namespace: str | None = None) -> Document:
        """A subject of a TrafficTarget, in the newest version perhaps by an IdentityBinding."""
        if version != "v1alpha4" or self.any((True, False)):
            return self.subject(namespace)
        it = {"kind": "IdentityBinding", "name": self.any(("b1", "b2")) + self.tag}
        it |= self.any(({}, {"group": "access.smi-spec.io"}, {"namespace": "east"}))
        return it | ({"group": "example.org"} if self.mostly(False, True) else {})

    def subject(self, namespace: str | None = None) -> Document:
        accounts = [a for a in ACCOUNTS if namespace in (None, a[0])]
        space, name = self.any(accounts)
        it = {"kind": self.mostly("ServiceAccount", "Group"), "name": name, "namespace": space}
        if self.mostly(False, True, True, True):
            del it["namespace"]  # its own, or nobody
        return it

    def target(self, name: str) -> Document:
        version = self.any(self.versions["TrafficTarget"])
        destination = self.party(version, self.mostly("east", "west"))
        if (port := self.mostly(None, 8080, 80, "8081")) is not None:
            destination["port"] = port
        rules: list[Document] | None = [self.rule() for _ in self.many(1, 2)]
        sources: list[Document] | None = [self.party(version) for _ in self.many(1, 3)]
        spec: Document = {
            "destination": self.mostly(destination, None),
            "specs" if version == "v1alpha1" else "rules": self.mostly(rules, None, []),
            "sources": self.mostly(sources, None, []),
        }
        spec = {key: value for key, value in spec.items() if value is not None}
        return self.smi("TrafficTarget", name, spec, flat_until=1, version=version)

    def rule(self) -> Document:
        kind = self.mostly(self.any(("HTTPRouteGroup", "TCPRoute")), "UDPRoute", "Unknown")
        it: Document = {"kind": kind, "name": self.mostly(self.any(("r1", "r2")), "gone")}
        it["name"] += self.tag
        matches = self.any((None, [], ["m1"], ["m1", "m2"])) if kind == "HTTPRouteGroup" else None
        matches = self.mostly(matches, ["gone"], ["gone", "m1"])
        return it if matches is None else it | {"matches": matches}

    def split(self, name: str, services: Sequence[str]) -> Document:
        version = self.any(self.versions["TrafficSplit"])
        weights: list[object] = [0, 1, 50, 100, 0.5]
        odd: list[object] = [-1, 4_000_000_000]
        if version == "v1alpha1":
            weights = ["0", "1", "500m", "1k", 1, "0.5"]
            odd = [None, "1e3", "2Ki", "100n"]
        backends = []
        for _ in self.many(1, 3):
            weight = self.mostly(self.any(weights), *odd)
            backend = {"service": self.mostly(self.any(services), "gone"), "weight": weight}
            backends.append({key: value for key, value in backend.items() if value is not None})
        root = self.any(services)
        forms = (f"{root}.east", f"{root}.east.svc.cluster.local.", f"{root}.elsewhere")
        spec: Document = {
            "service": self.mostly(root, *forms),
            "backends": self.mostly(backends, []),
        }
        if version in ("v1alpha3", "v1alpha4") and self.any((True, False)):
            group = self.mostly(self.any(("r1", "r2")), "gone") + self.tag
            kind = self.mostly("HTTPRouteGroup", "TCPRoute")
            spec["matches"] = self.mostly([{"kind": kind, "name": group}], [])
        it = self.smi("TrafficSplit", name, spec, flat_until=0, version=version)
        if created := self.any(("", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")):
            it["metadata"]["creationTimestamp"] = created
        return it

    def documents(self) -> tuple[Document, ...]:
        services = [("east", name) for name in APPS[: self.any((2, 3))]]
        services += [("west", name) for name in self.some(APPS[:2], 0, 2)]
        targets, splits = self.many(2, 8), self.many(0, 4)
        names = [name for namespace, name in services if namespace == "east"]
        return tuple(
            itertools.chain(
                self.each(self.namespace, SPACES),
                self.each(self.pod, CAST),
                self.each(lambda key: self.service(*key), services),
                self.each(self.route_group, (f"r1{self.tag}", f"r2{self.tag}")),
                self.each(self.tcp_route, (f"r1{self.tag}", f"r2{self.tag}")),
                self.each(self.udp_route, (f"r1{self.tag}", f"r2{self.tag}")),
                self.each(self.binding, (f"b1{self.tag}", f"b2{self.tag}")),
                self.each(lambda n: self.target(f"t{n}{self.tag}"), targets),
                self.each(lambda n: self.split(f"s{n}{self.tag}", names), splits),
            )
        )

    def each(self, write: Callable[[_T], Document], names: Iterable[_T]) -> Iterator[Document]:
        for name in names:
            self.begin()
            yield write(name)

    # -------------------------------------------------------- questions

    def question(self, services: Sequence[Document]) -> Question:
        self.begin()
        kind = self.any((*["http"] * 11, *["tcp"] * 4, "plain"))
        caller = self.any(CALLERS)
        if kind == "plain":
            ports = (*TARGETS, *TARGETS, GREETING)
            return PlainQuestion(caller, self.any(ports), self.request("web.east", hostile=False))
        wanted = "tcp" if kind == "tcp" else "http"
        found = [
            (it["metadata"], port["port"])
            for it in services
            for port in it["spec"]["ports"]
            if (port["name"].startswith("tcp") or port["port"] == GREETING) == (wanted == "tcp")
        ]
        if not found:
            return HttpQuestion(caller, self.request("web.east:80"))
        meta, port = self.any(found)
        service = f"{meta['namespace']}/{meta['name']}"
        if kind == "tcp":
            return TcpQuestion(caller, service, port)
        request = self.request(self.host(meta, port, caller))
        return HttpQuestion(caller, request, service, port)

    def host(self, meta: Document, port: int, caller: Member) -> str:
        full = f"{meta['name']}.{meta['namespace']}"
        odd: tuple[str, ...] = (
            meta["name"],
            full,
            f"{full}.svc:{port}",
            f"{full}.svc.cluster.local:{port}",
            f"{full}.svc.cluster.local.:{port}",
            f"{full}.:{port}".upper(),
            f"{full}:9999",
            f"x@{full}:{port}",
            "nobody.east:80",
            "127.0.0.1",
        )
        return self.any((*[f"{full}:{port}"] * 20, *odd))

    def request(self, host: str, *, hostile: bool = True) -> Request:
        plain = ("/", "/a", "/a/b", "/a/b/", "/ab", "/a/x", "/b/x", "/c", "/A", "/d", "/bx?q=/a")
        odd = (
            "/c/..//a",
            "/a/../d",
            "/a/./b",
            "/a/%2e%2e/d",
            "/a/%2E./d",
            "//a",
            "/a//b",
            "/a%2fb",
            "/d%2F..%2fa",
            "/%61",
            "/d\\..\\a",
            "/a/..",
            "/../../a",
            "/a/..;/d",
            "/a%00",
            "/d#/a",
            "/a%252fb",
            "/a/%252e%252e/d",
            "/a%20b",
            "/d;/a",
            "/d/.%2e/a?/../d",
            "a",
            "http://web.east:80/a",
        )
        methods = ("GET", "GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")
        headers = (
            (),
            (("x-a", "1"),),
            (("X-A", "2"), ("x-b", "y")),
            (("x-a", "1"),) * 2,
            (("x-a", "12"), ("x-b", "")),
        )
        if not hostile:
            return Request(host=host, path=self.any(plain), method=self.any(methods))
        method = self.mostly(self.any(methods), "CONNECT", "TRACE", "get", "FOO")
        path = self.any(plain) if self.any((True, True, True, False)) else self.any(odd)
        return Request(
            host=host,
            path=path,
            method=method,
            headers=self.any((*[self.any(headers)] * 15, *HOSTILE_HEADERS)),
        )


HOSTILE_HEADERS: tuple[tuple[tuple[str, str], ...], ...] = (
    # An upgrade to HTTP/2 that, once granted, would carry requests that nobody judges.
    (("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")),
    # Somebody else's certificate, and other words that only proxies may speak.
    (("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/east/sa/bob"),),
    (("x-envoy-original-path", "/a"), ("x-original-url", "/a"), ("x-rewrite-url", "/a")),
    (("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "9"), ("x-forwarded-host", "api.east")),
    (("x-http-method-override", "GET"), ("x-a", "1")),
)


@st.composite
def worlds(
    draw: Draw,
    *,
    questions: int,
    versions: Versions = ALL_VERSIONS,
    block: str = "127.1.0",
    tag: str = "",
) -> World:
    """A mesh and what is asked of it."""
    author = _Author(draw, versions, block, tag)
    documents = author.documents()
    services = [it for it in documents if it["kind"] == "Service"]
    asked = tuple(author.question(services) for _ in range(questions))
    return World(documents, asked)


def account_of(member: Member) -> Account:
    """Who a member of the cast is."""
    return Account(member.namespace, member.account, member.key)


def cluster_ip(namespace: str, name: str) -> str:
    """Where a service is called by those who know its address."""
    return f"10.96.{SPACES.index(namespace)}.{APPS.index(name) + 1}"
