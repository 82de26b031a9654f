"""What the workloads behind a service port say to a caller: the rules that their sidecars have."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from smi_xds.mesh.explain_find import behind, workloads_of
from smi_xds.mesh.explain_request import fails
from smi_xds.mesh.explain_values import Admission, Destination, Miss, Question, Request, Verdict
from smi_xds.mesh.explain_why import Seen, admission, nearest
from smi_xds.mesh.model import (
    EndpointState,
    Grant,
    Mesh,
    Protocol,
    ServicePort,
    Target,
    Workload,
)
from smi_xds.values import AccessMode, Mode, ServiceRef, SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question with what it was understood as: `request` is None for connections.

    `by_tunnel`: datagrams go from sidecar to sidecar, and reach nobody else.
    """

    question: Question
    identity: SpiffeId | None
    request: Request | None
    by_tunnel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Workloads that are judged alike: the same target, protocol and grants."""

    target: Target
    protocol: Protocol
    grants: tuple[Grant, ...]


def judge(
    mesh: Mesh, asked: Asked, service: ServiceRef, port: ServicePort
) -> tuple[Destination, ...]:
    """Everything behind a service port, judged."""
    found: list[Destination] = []
    for target in port.targets:
        if target.identity is None:
            found.append(_unreached(port, target) if asked.by_tunnel else _outside(port, target))
            continue
        groups: dict[_Group, list[Workload]] = {}
        workloads = workloads_of(mesh, target.identity)
        for workload, protocol, grants in behind(workloads, service, port, target):
            group = _Group(target=target, protocol=protocol, grants=grants)
            groups.setdefault(group, []).append(workload)
        if not groups:
            found.append(_closed(port, target))
        found += [_judged(mesh, asked, group, members, port) for group, members in groups.items()]
    return tuple(found)


def _outside(port: ServicePort, target: Target) -> Destination:
    return Destination(
        identity="",
        port=target.port,
        protocol=port.protocol,
        access="",
        mtls="",
        workloads=(),
        ready=_ready(port, target),
        share=0.0,
        verdict=Verdict.ALLOWED,
        why="It has no sidecar: it is called in plaintext, and nobody judges who calls.",
    )


def _unreached(port: ServicePort, target: Target) -> Destination:
    return replace(
        _outside(port, target),
        verdict=Verdict.NOWHERE,
        why="It has no sidecar, where the tunnel of datagrams would end: they do not reach it.",
    )


def _closed(port: ServicePort, target: Target) -> Destination:
    """Pods that are there for their service, and not (or no longer) for the mesh."""
    return Destination(
        identity=str(target.identity),
        port=target.port,
        protocol=port.protocol,
        access=str(target.access),
        mtls=str(target.mtls),
        workloads=(),
        ready=_ready(port, target),
        share=0.0,
        verdict=Verdict.NOWHERE,
        why=f"No workload serves port {target.port} there, which fails (503).",
    )


def _ready(port: ServicePort, target: Target) -> int:
    wanted = (target.identity, target.port, EndpointState.READY)
    return sum((it.identity, it.port, it.state) == wanted for it in port.endpoints)


def _judged(
    mesh: Mesh, asked: Asked, group: _Group, workloads: list[Workload], port: ServicePort
) -> Destination:
    target = group.target
    seen = Seen(
        destination=workloads[0],
        port=target.port,
        protocol=group.protocol,
        identity=asked.identity,
        address=asked.question.address,
        request=asked.request,
    )
    access, mtls = workloads[0].access, workloads[0].mtls
    admissions = tuple(_admissions(mesh, group, seen))
    misses: tuple[Miss, ...] = ()
    if not admissions and asked.identity is not None and access is not AccessMode.PERMISSIVE:
        misses = nearest(mesh, seen)
    by_policy = _policy_says(seen, admissions, misses)
    verdict, why = _verdict(seen, access, mtls, by_policy)
    addresses = {workload.address for workload in workloads}
    return Destination(
        identity=str(target.identity),
        port=target.port,
        protocol=group.protocol,
        access=access,
        mtls=mtls,
        workloads=tuple(str(workload.proxy) for workload in workloads),
        ready=sum(
            (it.port, it.state) == (target.port, EndpointState.READY) and it.address in addresses
            for it in port.endpoints
        ),
        share=0.0,
        verdict=verdict,
        why=why,
        shadow=by_policy[0] if access is AccessMode.SHADOW else "",
        allowed_by=admissions,
        nearest=misses,
    )


def _verdict(
    seen: Seen, access: AccessMode, mtls: Mode, by_policy: tuple[Verdict, str]
) -> tuple[Verdict, str]:
    if seen.protocol.is_http and seen.request is None:
        return Verdict.DENIED, f"The workload speaks {seen.protocol} there: requests alone."
    if seen.identity is None and seen.protocol is Protocol.UDP:
        return Verdict.DENIED, "Its sidecar takes datagrams from the sidecars of callers alone."
    if seen.identity is None and mtls is Mode.STRICT:
        return Verdict.DENIED, "It takes mTLS alone, and a caller outside the mesh has none."
    if access is AccessMode.STRICT:
        return by_policy
    if access is AccessMode.SHADOW:
        verdict, why = by_policy
        would = "would allow it, too" if verdict is Verdict.ALLOWED else "would deny it"
        return (
            Verdict.ALLOWED,
            f"Access is in shadow mode, so it is let in; strict access {would}: {why}",
        )
    return Verdict.ALLOWED, "Access is permissive: everyone is let in, and no TrafficTarget asked."


def _policy_says(
    seen: Seen, admissions: tuple[Admission, ...], misses: tuple[Miss, ...]
) -> tuple[Verdict, str]:
    """What strict access says."""
    if admissions:
        return (
            Verdict.ALLOWED,
            f"TrafficTarget {admissions[0].target} allows it{_by(admissions[0])}.",
        )
    if seen.identity is None:
        return Verdict.DENIED, "A caller outside the mesh has no identity that could be allowed."
    if misses:
        reasons = "; ".join(misses[0].reasons)
        return (
            Verdict.DENIED,
            f"No TrafficTarget allows it. The nearest is {misses[0].target}: {reasons}.",
        )
    account = seen.destination.identity.service_account or seen.destination.identity
    return Verdict.DENIED, f"No TrafficTarget has {account} as its destination, so nobody may call."


def _by(admission: Admission) -> str:
    if not admission.rule:
        return ""
    return f" by {admission.rule}" + (f", match {admission.match}" if admission.match else "")


def _admissions(mesh: Mesh, group: _Group, seen: Seen) -> Iterator[Admission]:
    """Each grant that admits it, by the very values that its sidecar is told."""
    for grant in group.grants:
        if not any(seen.admits(source, mesh) for source in grant.sources):
            continue
        if not group.protocol.is_http or _is_listed(grant, seen.request):
            yield admission(mesh, grant.target, seen)


def _is_listed(grant: Grant, request: Request | None) -> bool:
    if grant.http is None or request is None:
        return True
    return not all(fails(match, request, request.judged_path) for match in grant.http)
