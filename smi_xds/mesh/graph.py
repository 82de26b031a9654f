"""Who may talk to whom: identities, the service ports that they may call, and how these split.

A pure function of the mesh, from the same grants and routes that sidecars are told. What shares
would have been denied in shadow mode is not here: `explain` says it for one call.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from smi_xds.mesh.explain_find import behind
from smi_xds.mesh.model import (
    Grant,
    HttpMatch,
    Mesh,
    PortRoutes,
    Protocol,
    ServicePort,
    Target,
    Workload,
)
from smi_xds.values import AccessMode, Mode, ServiceRef, SpiffeId

ANYONE = "anyone"
ANY_IDENTITY = "any identity"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Allow:
    """`source` may call a port of `service`.

    `target` is the TrafficTarget that says so, empty where nobody asks for one: outside the mesh
    (`anyone`), or where access is permissive or in the shadow (`anyone`, or `any identity` where
    mTLS is strict). `requests` are its matches in words, empty for everything.
    """

    source: str
    service: str
    port: int
    protocol: str
    target: str = ""
    requests: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Share:
    """A backend's share of the traffic in percent."""

    service: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Splitting:
    """A TrafficSplit at work on a port of its root; `requests` empty means always."""

    split: str
    service: str
    port: int
    requests: tuple[str, ...]
    backends: tuple[Share, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of a service, and the identities of who answers there (empty outside the mesh)."""

    number: int
    protocol: str
    identities: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A service."""

    service: str
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Everything, sorted; the same mesh gives the same graph."""

    services: tuple[Node, ...]
    allows: tuple[Allow, ...]
    splits: tuple[Splitting, ...]


def graph(mesh: Mesh, *, namespace: str = "") -> Graph:
    """The graph of a mesh, or what concerns one namespace of it: as a caller or as a service."""
    workloads = _by_identity(mesh)
    services = sorted(mesh.services.items())
    allows = {
        allow
        for ref, service in services
        for port in service.ports
        for allow in _allows(ref, port, workloads)
        if _concerns(namespace, allow.source, allow.service)
    }
    named = {allow.service for allow in allows}
    return Graph(
        services=tuple(
            _node(ref, service.ports)
            for ref, service in services
            if str(ref) in named or _concerns(namespace, str(ref))
        ),
        allows=tuple(sorted(allows)),
        splits=tuple(
            splitting
            for _, routes in sorted(mesh.routes.items())
            for splitting in _splits(routes)
            if str(routes.service) in named or _concerns(namespace, str(routes.service))
        ),
    )


def in_words(match: HttpMatch) -> str:
    """`GET|HEAD /items x-user: alice`."""
    headers = [f"{name}: {regex}" for name, regex in match.headers]
    parts = ["|".join(match.methods), match.path or "", *headers]
    return " ".join(part for part in parts if part) or "every request"


def _concerns(namespace: str, *names: str) -> bool:
    return not namespace or any(name.startswith(f"{namespace}/") for name in names)


def _by_identity(mesh: Mesh) -> Mapping[SpiffeId, list[Workload]]:
    found: dict[SpiffeId, list[Workload]] = {}
    for workload in mesh.workloads.values():
        found.setdefault(workload.identity, []).append(workload)
    return found


def _node(ref: ServiceRef, ports: tuple[ServicePort, ...]) -> Node:
    return Node(
        service=str(ref),
        ports=tuple(
            Port(
                number=port.number,
                protocol=port.protocol,
                identities=tuple(sorted({_who(it) for it in port.identities})),
            )
            for port in ports
        ),
    )


def _allows(
    ref: ServiceRef, port: ServicePort, workloads: Mapping[SpiffeId, list[Workload]]
) -> Iterator[Allow]:
    for target in port.targets:
        if (open_to := _open_to(target)) is not None:
            source, why = open_to
            yield Allow(
                source=source,
                service=str(ref),
                port=port.number,
                protocol=port.protocol,
                why=why,
            )
        if target.identity is None or target.access is AccessMode.PERMISSIVE:
            continue
        for _, protocol, grants in behind(workloads.get(target.identity, ()), ref, port, target):
            for grant in grants:
                yield from _granted(ref, port, protocol, grant)


def _open_to(target: Target) -> tuple[str, str] | None:
    """Who is let in without being asked for, and why."""
    if target.identity is None:
        return ANYONE, "it has no sidecar"
    if target.access is AccessMode.STRICT:
        return None
    source = ANYONE if target.mtls is Mode.PERMISSIVE else ANY_IDENTITY
    mode = "in shadow mode" if target.access is AccessMode.SHADOW else "permissive"
    return source, f"access is {mode}"


def _granted(
    ref: ServiceRef, port: ServicePort, protocol: Protocol, grant: Grant
) -> Iterator[Allow]:
    requests: tuple[str, ...] = ()
    if protocol.is_http and grant.http is not None:
        requests = tuple(in_words(match) for match in grant.http)
    for source in grant.sources:
        where = f"from {', '.join(source.addresses)} alone" if source.addresses else ""
        yield Allow(
            source=_who(source.identity),
            service=str(ref),
            port=port.number,
            protocol=port.protocol,
            target=grant.target,
            requests=requests,
            why=where,
        )


def _who(identity: SpiffeId) -> str:
    return str(identity.service_account or identity)


def _splits(routes: PortRoutes) -> Iterator[Splitting]:
    for entry in routes.entries:
        if entry.split:
            total = sum(backend.weight for backend in entry.backends) or 1
            yield Splitting(
                split=entry.split,
                service=str(routes.service),
                port=routes.port,
                requests=tuple(in_words(match) for match in entry.matches),
                backends=tuple(
                    Share(service=str(it.service), share=round(100 * it.weight / total, 2))
                    for it in entry.backends
                ),
            )
