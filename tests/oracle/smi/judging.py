"""Who may call whom, and where it goes: SMI as its texts and our rulings have it.

It takes the documents that a user would apply, and a question; it answers with exact shares. It
is slow, has no memory and shares no line with what it judges.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import re2

from tests.oracle.smi.paths import normalise, split_host
from tests.oracle.smi.reading import (
    Binding,
    Document,
    Match,
    Party,
    Pod,
    Port,
    Rule,
    Service,
    Split,
    Target,
)
from tests.oracle.smi.reading import read as read_documents

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")

# Ports that a sidecar needs for itself: nobody is served there.
_RESERVED = (15000, 15001, 15006, 15008, 15021, 15090)

# An expression that compiles to more than this is refused, whoever wrote it.
_COSTLY = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request, as its sender writes it."""

    host: str
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """A service account, and the pod that calls where that is known."""

    namespace: str
    name: str
    pod: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a request or a connection, in shares that add up to 1.

    `answers` has the pods that answer; `denied` meets a policy (403), `unavailable` finds nobody
    (503). Where `refusal` says why it is judged by nobody (`host`, `malformed`, `redirect`,
    `method`), nothing else is given. `rightless`: the caller may call nothing behind the service.
    `blurred`: somebody behind it speaks another protocol or does not serve, so that a caller that
    tries again moves shares.
    """

    answers: Mapping[str, Fraction] = field(default_factory=dict)
    denied: Fraction = Fraction(0)
    unavailable: Fraction = Fraction(0)
    refusal: str = ""
    rightless: bool = False
    blurred: bool = False

    @property
    def is_allowed(self) -> bool:
        """Whether anybody would ever answer."""
        return bool(self.answers)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    pod: Pod
    port: int


class Oracle:
    """Judges over one set of documents.

    Where traffic is `intercepted` a service is called by its address, callers are seen at theirs,
    and ports that no Service names are somebody's, too.
    """

    def __init__(self, documents: Iterable[Document], *, intercepted: bool = False) -> None:
        self._objects = read_documents(documents)
        self._modes = {"access": "strict", "mtls": "strict"}
        self._intercepted = intercepted

    # ------------------------------------------------------------ questions

    def http(self, source: Account, request: Request, *, service: str, number: int) -> Verdict:
        """A request that an application of this account sends: by Host, or to an address."""
        request = _with_host(request)
        path = normalise(request.path)
        if request.method not in METHODS:
            return Verdict(refusal="malformed")
        if request.method == "CONNECT":
            return Verdict(refusal="method")
        if path.refusal:
            return Verdict(refusal=path.refusal)
        if self._intercepted:
            return self._judge(source, *self._at(service, number), request)
        found = self.find(source, request.host)
        if found is None:
            return Verdict(refusal="host")
        return self._judge(source, *found, request)

    def tcp(self, source: Account, service: str, number: int) -> Verdict:
        """A connection that an application of this account opens to a TCP port."""
        return self._judge(source, *self._at(service, number), None)

    def _at(self, service: str, number: int) -> tuple[Service, Port]:
        namespace, _, name = service.partition("/")
        root = self._objects.services[namespace, name]
        port = root.port(number)
        assert port is not None
        return root, port

    def plaintext(self, pod: str, number: int, request: Request | None) -> Verdict:
        """A request (or a connection) in plaintext, from outside, to a pod's own port."""
        [it] = [it for it in self._objects.pods if it.key == pod]
        is_served = number in self._served(it) or self._intercepted
        if self._mode(it, "mtls") != "permissive" or not is_served:
            return Verdict(denied=Fraction(1))
        if self._mode(it, "access") == "permissive":
            return Verdict(answers={pod: Fraction(1)})
        return Verdict(denied=Fraction(1))

    def find(self, source: Account, host: str) -> tuple[Service, Port] | None:
        """The service port that a Host means to a caller; short names are its namespace's."""
        name, number = split_host(host.lower())
        labels = name.split(".")
        namespace = labels[1] if len(labels) > 1 else source.namespace
        if labels[2:] not in ([], ["svc"], ["svc", "cluster", "local"]):
            return None
        service = self._objects.services.get((namespace, labels[0]))
        if service is None:
            return None
        numbers = [port.number for port in service.ports if port.protocol == "http"]
        if number is None and numbers:
            number = 80 if 80 in numbers else min(numbers)
        port = service.port(number or 0)
        return (service, port) if port is not None and port.protocol == "http" else None

    def shares(
        self, service: Service, port: Port, request: Request | None
    ) -> Mapping[tuple[str, str], Fraction]:
        """How traffic is spread over backend services; empty where it has nowhere to go."""
        for split in self._splits(service, port):
            if split.matches is None or any(
                request is not None and _holds(match, request) for match in self._conditions(split)
            ):
                return self._weigh(split, port)
        return {(service.namespace, service.name): Fraction(1)}

    # ------------------------------------------------------------ traffic

    def _splits(self, service: Service, port: Port) -> list[Split]:
        """Those that apply to a port of a root: with matches first, the oldest first, by name."""
        found = [
            split
            for split in self._objects.splits
            if _is_root(split, service)
            and (split.matches is None or (port.protocol == "http" and self._conditions(split)))
        ]
        found.sort(key=lambda it: (it.matches is None, it.created, it.name))
        kept: list[Split] = []
        taken: set[object] = set()
        for split in found:
            claims = {_claim(match) for match in self._conditions(split)} or {_EVERYTHING}
            # What others took first is nothing that it could still get.
            if not claims <= taken and _EVERYTHING not in taken:
                kept.append(split)
            taken |= claims
        return kept

    def _conditions(self, split: Split) -> list[Match]:
        return [
            match
            for kind, name in split.matches or ()
            if kind == "HTTPRouteGroup"
            for match in self._objects.groups.get((split.namespace, name), ())
            if _is_usable(match)
        ]

    def _weigh(self, split: Split, port: Port) -> Mapping[tuple[str, str], Fraction]:
        weights: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
        for name, weight in split.backends:
            backend = self._objects.services.get((split.namespace, name))
            other = backend.port(port.number) if backend is not None else None
            if other is not None and other.protocol == port.protocol:
                weights[split.namespace, name] += weight
        total = sum(weights.values(), Fraction(0))
        return {key: weight / total for key, weight in weights.items() if weight}

    def _endpoints(self, service: Service, port: Port) -> list[_Endpoint]:
        """All pods behind a port of a service, ready or not."""
        found = []
        for pod in self._objects.pods:
            number = pod.ports.get(port.target) if isinstance(port.target, str) else port.target
            chosen = service.selector.items() <= pod.labels.items() and bool(service.selector)
            if chosen and pod.namespace == service.namespace and pod.address and number:
                found.append(_Endpoint(pod, number))
        return found

    def _usable(self, service: Service, port: Port) -> list[_Endpoint]:
        """Those that get new traffic: ready ones; while there is none, those that terminate."""
        known = self._endpoints(service, port)
        ready = [it for it in known if it.pod.ready and not it.pod.terminating]
        return ready or [it for it in known if it.pod.ready and it.pod.terminating]

    def _judge(
        self, source: Account, service: Service, port: Port, request: Request | None
    ) -> Verdict:
        answers: dict[str, Fraction] = defaultdict(Fraction)
        denied = unavailable = Fraction(0)
        blurred = False
        shares = self.shares(service, port, request)
        if not shares:
            unavailable = Fraction(1)
        for key, share in shares.items():
            backend = self._objects.services[key]
            other = backend.port(port.number)
            assert other is not None
            endpoints = self._usable(backend, other)
            if not endpoints:
                unavailable += share
            for endpoint in endpoints:
                part = share / len(endpoints)
                protocol = self._protocol_at(endpoint)
                blurred |= protocol not in ("any", port.protocol)
                if not protocol:
                    unavailable += part
                elif self._admits(source, endpoint, port.protocol, request):
                    answers[endpoint.pod.key] += part
                else:
                    denied += part
        return Verdict(
            answers=dict(answers),
            denied=denied,
            unavailable=unavailable,
            rightless=not self._has_right(source, service, port),
            blurred=blurred,
        )

    def _protocol_at(self, endpoint: _Endpoint) -> str:
        """What is spoken there; empty where nothing is served, `any` outside the mesh."""
        if not _is_meshed(endpoint.pod):
            return "any"
        return self._served(endpoint.pod).get(endpoint.port, "")

    def _has_right(self, source: Account, service: Service, port: Port) -> bool:
        """Whether something behind the service admits this caller, for some request."""
        splits = self._splits(service, port)
        backends = {(split.namespace, name) for split in splits for name, _ in split.backends}
        if all(split.matches for split in splits):
            backends.add((service.namespace, service.name))
        return any(
            self._admits_something(source, endpoint)
            for key in backends
            if (backend := self._objects.services.get(key)) is not None
            if (other := backend.port(port.number)) is not None and other.protocol == port.protocol
            for endpoint in self._endpoints(backend, other)
        )

    # ------------------------------------------------------------ access

    def _admits(
        self, source: Account, endpoint: _Endpoint, spoken: str, request: Request | None
    ) -> bool:
        """Whether the destination lets it in; what has no sidecar lets everyone in."""
        pod, port = endpoint.pod, endpoint.port
        if not _is_meshed(pod):
            return True
        protocol = self._protocol_at(endpoint)
        if protocol == "http" and spoken != "http":
            return False  # no request ever comes of it
        if self._mode(pod, "access") == "permissive":
            return True
        judged = request if protocol == "http" else None
        return any(self._grants(t, source, pod, port, judged) for t in self._objects.targets)

    def _admits_something(self, source: Account, endpoint: _Endpoint) -> bool:
        pod, port, protocol = endpoint.pod, endpoint.port, self._protocol_at(endpoint)
        if not _is_meshed(pod) or self._mode(pod, "access") == "permissive":
            return True
        return any(
            self._covers(target, source, pod, port)
            and (
                (protocol == "http" and any(self._matches(target, rules)))
                if (rules := _of_kind(target, "HTTPRouteGroup"))
                else (protocol and _of_kind(target, "TCPRoute"))
            )
            for target in self._objects.targets
        )

    def _grants(
        self, target: Target, source: Account, pod: Pod, port: int, request: Request | None
    ) -> bool:
        """One TrafficTarget by itself: source AND port AND match."""
        if not self._covers(target, source, pod, port):
            return False
        if rules := _of_kind(target, "HTTPRouteGroup"):
            return request is not None and any(
                _holds(match, request) for match in self._matches(target, rules)
            )
        # With UDPRoutes alone it speaks neither of requests nor of connections.
        return bool(_of_kind(target, "TCPRoute"))

    def _covers(self, target: Target, source: Account, pod: Pod, port: int) -> bool:
        known = ("HTTPRouteGroup", "TCPRoute", "UDPRoute")
        return (
            bool(target.rules)
            and all(rule.kind in known for rule in target.rules)
            and self._is_destination(target, pod)
            and any(self._is_source(party, source) for party in target.sources)
            and target.port in (None, port)
            and self._lists(target, port)
        )

    def _is_destination(self, target: Target, pod: Pod) -> bool:
        party = target.destination
        if party is None or {party.namespace, pod.namespace} != {target.namespace}:
            return False
        binding = self._binding(party)
        if binding is not None and binding.labels is not None:
            labels = binding.labels.items()
            if labels and labels <= pod.labels.items():
                return True
        return self._is_source(party, Account(pod.namespace, pod.account))

    def _is_source(self, party: Party, account: Account) -> bool:
        """Whether a party means all pods of an account."""
        if party.kind == "ServiceAccount":
            return (party.namespace, party.name) == (account.namespace, account.name)
        binding = self._binding(party)
        if binding is None or binding.namespace != account.namespace:
            return False  # no scheme reaches beyond its own namespace
        uri = f"spiffe://cluster.local/ns/{account.namespace}/sa/{account.name}"
        if binding.account == account.name or uri in binding.spiffe:
            return True
        # Pods that are known by their labels call from addresses that bound sidecars do not see.
        pods = [it for it in self._objects.pods if it.key == account.pod and self._intercepted]
        labels = (binding.labels or {}).items()
        return bool(labels) and any(labels <= pod.labels.items() for pod in pods)

    def _binding(self, party: Party) -> Binding | None:
        """The IdentityBinding that is meant; one that excludes itself means nobody."""
        if party.kind != "IdentityBinding" or party.group not in ("", "access.smi-spec.io"):
            return None
        found = self._objects.bindings.get((party.namespace, party.name))
        if found is not None and found.account is not None and found.labels is not None:
            return None
        return found

    def _lists(self, target: Target, port: int) -> bool:
        """Whether its TCPRoutes, if any, list the port; one that is not there lists none."""
        rules = _of_kind(target, "TCPRoute")
        routes = [self._objects.tcp.get((target.namespace, rule.name)) for rule in rules]
        if any(route is None for route in routes):
            return False
        return not routes or any(not route or port in route for route in routes)

    def _matches(self, target: Target, rules: list[Rule]) -> list[Match]:
        """What its HTTPRouteGroups let through; a missing one takes the others along."""
        groups = [self._objects.groups.get((target.namespace, rule.name)) for rule in rules]
        if any(group is None for group in groups):
            return []
        return [
            match
            for rule, group in zip(rules, groups, strict=True)
            for match in group or ()
            if (not rule.matches or match.name in rule.matches) and _is_usable(match)
        ]

    # ------------------------------------------------------------ pods

    def _served(self, pod: Pod) -> Mapping[int, str]:
        """The ports of a pod that Services name; of two protocols the first Service's counts."""
        found: dict[int, str] = {}
        for _, service in sorted(self._objects.services.items()):
            for port in service.ports:
                for endpoint in self._endpoints(service, port):
                    if endpoint.pod is pod and port.protocol != "udp":
                        found.setdefault(endpoint.port, port.protocol)
        return {number: it for number, it in found.items() if number not in _RESERVED}

    def _mode(self, pod: Pod, what: str) -> str:
        name = f"smi-xds.io/{what}"
        said = {**self._objects.namespaces.get(pod.namespace, {}), **pod.annotations}
        mode = said.get(name, self._modes[what])
        if mode == "shadow" and what == "access":
            return "permissive"  # it counts what would be denied, and denies nothing
        return mode if mode == "permissive" else "strict"


def _with_host(request: Request) -> Request:
    """A target in absolute form says the host, whatever the header says (RFC 9112, 3.2.2)."""
    if not request.path.startswith("http://"):
        return request
    host, slash, path = request.path.removeprefix("http://").partition("/")
    return replace(request, host=host, path=slash + path)


def _is_meshed(pod: Pod) -> bool:
    return pod.annotations.get("smi-xds.io/sidecar", "none") != "none"


def _is_root(split: Split, service: Service) -> bool:
    name, *rest = split.root.rstrip(".").split(".")
    if (split.namespace, name) != (service.namespace, service.name):
        return False
    return not rest or (rest[0] == split.namespace and rest[1:2] in ([], ["svc"]))


def _of_kind(target: Target, kind: str) -> list[Rule]:
    return [rule for rule in target.rules if rule.kind == kind]


def _is_usable(match: Match) -> bool:
    """A match with something wrong in it drops out."""
    expressions = [match.path or "", *(regex for _, regex in match.headers)]
    return (
        all(method in (*METHODS, "*") for method in match.methods)
        and all(map(_is_header, (name for name, _ in match.headers)))
        and all(map(_compiles, expressions))
    )


def _claim(match: Match) -> object:
    """What a match asks for: two that ask for the same are one to those who come later."""
    methods = frozenset() if "*" in match.methods else frozenset(match.methods)
    headers = frozenset((name.lower(), regex) for name, regex in match.headers)
    return match.path, methods, headers


_EVERYTHING: object = (None, frozenset(), frozenset())


def _is_header(name: str) -> bool:
    """RFC 9110, section 5.6.2; of pseudo headers only the one that is Host by another name."""
    token = re2.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name)
    return token is not None or name.lower() == ":authority"


def _compiles(expression: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(expression, options)
        return bool(re2.compile(f"(?:{expression})", options).programsize <= _COSTLY)
    except re2.error:
        return False


def _holds(match: Match, request: Request) -> bool:
    path = normalise(request.path).text
    # Anchored at the start alone; `match` of RE2 is just that.
    if match.path is not None and not re2.match(match.path, path):
        return False
    if match.methods and "*" not in match.methods and request.method not in match.methods:
        return False
    return all(any(_values(name, regex, request)) for name, regex in match.headers)


def _values(name: str, regex: str, request: Request) -> Iterator[bool]:
    """Whether a header of this name matches in full; several of one name are one (RFC 9110)."""
    if name.lower() in ("host", ":authority"):
        yield re2.fullmatch(regex, split_host(request.host)[0]) is not None
        return
    values = [value for n, value in request.headers if n.lower() == name.lower()]
    if values:
        yield re2.fullmatch(regex, ",".join(values)) is not None
