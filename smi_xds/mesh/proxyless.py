"""gRPC processes without a proxy: what their clients can judge, and what they cannot.

They route by themselves, before a request has all of its headers. Every request is a POST, so a
condition on methods is decided here; a condition on what they cannot see never holds for them,
which is a problem.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from smi_xds.mesh.model import HttpMatch, PortRef, PortRoutes, Service, Workload
from smi_xds.mesh.reach import Reach
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ServiceRef

# gRPC over HTTP/2, "Requests": the only method there is.
_METHOD = "POST"

# gRFC A28, "Header matching": what is added after routing, or encoded, cannot be matched.
_ADDED_LATER = frozenset({"host", "te", "user-agent"})
_HIDDEN_PREFIXES = (":", "grpc-")
_HIDDEN_SUFFIX = "-bin"


def as_judged(routes: PortRoutes) -> PortRoutes:
    """The routes as a gRPC client judges them; the very same where that makes no difference."""
    entries = []
    for entry in routes.entries:
        matches = tuple(judged for match in entry.matches for judged in _judged(match))
        if matches == entry.matches:
            entries.append(entry)
        elif matches:
            entries.append(replace(entry, matches=matches))
    if tuple(entries) == routes.entries:
        return routes
    return replace(routes, entries=tuple(entries))


def is_called_by_mtls(service: Service, number: int) -> bool:
    """Whether gRPC clients call it by mTLS: all but ports where every endpoint takes anyone.

    Without endpoints as well: the first one must not be called in plaintext by mistake.
    """
    port = service.port(number)
    return port is None or not port.targets or not all(target.is_open for target in port.targets)


def proxyless_problems(
    clients: tuple[Workload, ...],
    services: Mapping[ServiceRef, Service],
    routes: Mapping[PortRef, PortRoutes],
    reach: Reach,
) -> tuple[Problem, ...]:
    """What these clients may call and cannot, or not as it was meant."""
    problems: list[Problem] = []
    called: set[PortRef] = set()
    for client in clients:
        listed = reach.by_identity.get(client.identity, frozenset())
        called |= listed | reach.open
        problems += _tcp(client, listed, routes)
    for ref in called:
        if routes[ref].protocol.is_http:
            problems += _unseen(routes[ref])
            problems += _mixed(routes[ref], services)
    return tuple(sorted(set(problems)))


def _judged(match: HttpMatch) -> Iterator[HttpMatch]:
    if match.methods and _METHOD not in match.methods:
        return
    if _hidden_part(match) is None:
        yield replace(match, methods=()) if match.methods else match


def _hidden_part(match: HttpMatch) -> str | None:
    """What keeps a gRPC client from judging it, in words."""
    for name, _ in match.headers:
        if (
            name in _ADDED_LATER
            or name.startswith(_HIDDEN_PREFIXES)
            or name.endswith(_HIDDEN_SUFFIX)
        ):
            return f"see the header {name!r} when it routes"
    for regex in (match.path or "", *(regex for _, regex in match.headers)):
        # RE2 knows it (one byte); the expressions of Go do not, and its clients refuse all routes.
        if "C" in (regex[at + 1 : at + 2] for at in _escapes(regex)):
            return rf"read \C in the expression {regex!r}"
    return None


def _escapes(regex: str) -> Iterator[int]:
    """Where escapes begin; the backslash that another one escapes is none."""
    at = regex.find("\\")
    while at >= 0:
        yield at
        at = regex.find("\\", at + 2)


def _unseen(routes: PortRoutes) -> Iterator[Problem]:
    for entry in routes.entries:
        namespace, _, name = entry.split.partition("/")
        for match in entry.matches:
            if (hidden := _hidden_part(match)) is not None:
                yield Problem(
                    ref=ObjectRef("TrafficSplit", namespace, name),
                    field="spec.matches",
                    code=ProblemCode.PROXYLESS_MATCH,
                    message=f"gRPC without a proxy cannot {hidden}, so the match never holds for "
                    "its calls.",
                    cure="Match by another header or by the path, or give the callers a sidecar.",
                )


def _mixed(routes: PortRoutes, services: Mapping[ServiceRef, Service]) -> Iterator[Problem]:
    for ref in {backend.service for entry in routes.entries for backend in entry.backends}:
        port = services[ref].port(routes.port)
        if port is not None and len({target.is_open for target in port.targets}) > 1:
            yield Problem(
                ref=ObjectRef("Service", ref.namespace, ref.name),
                field=f"port {port.number}",
                code=ProblemCode.PROXYLESS_MIXED,
                message="Some of its pods ask for an identity and others take anyone; gRPC "
                "without a proxy has one way to call them all, and reaches only the former.",
                cure="Give all of its pods a sidecar, and the same access and mTLS modes.",
            )


def _tcp(
    client: Workload, listed: frozenset[PortRef], routes: Mapping[PortRef, PortRoutes]
) -> Iterator[Problem]:
    for ref in sorted(listed):
        if not routes[ref].protocol.is_http:
            yield Problem(
                ref=ObjectRef("Pod", client.proxy.namespace, client.proxy.name),
                field="metadata.annotations[smi-xds.io/sidecar]",
                code=ProblemCode.PROXYLESS_TCP,
                message=f"It may call {ref}, which speaks {routes[ref].protocol}; gRPC without a "
                "proxy calls HTTP services alone.",
                cure="Give it a sidecar, or name the Service's port grpc-… if it speaks gRPC.",
            )
