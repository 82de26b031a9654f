"""Who is asked about: the service port and the caller, or names that come near."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from smi_xds.mesh.explain_values import Kind, Question
from smi_xds.mesh.model import (
    Grant,
    Mesh,
    PortRef,
    Protocol,
    Service,
    ServicePort,
    Target,
    Workload,
)
from smi_xds.problems import AskError
from smi_xds.values import ServiceAccountRef, ServiceRef, SpiffeId

# More would be no line that anybody reads.
_NAMED = 5


def find_port(mesh: Mesh, question: Question) -> ServicePort:
    """The port that is called: TCP's where a number is both, unless UDP is asked for."""
    service = mesh.services.get(question.service)
    if service is None:
        near = _near(str(question.service), map(str, mesh.services))
        raise AskError(f"there is no Service {question.service}{near}")
    if question.pod:
        return _pod_port(service, question)
    udp = question.kind is Kind.UDP
    port = service.port(question.port, udp=udp)
    if port is None and question.kind is Kind.AUTO:
        port = service.port(question.port, udp=True)
    if port is None:
        known = ", ".join(_port_names(service.ports)) or "none"
        what = "UDP port" if udp else "port"
        raise AskError(
            f"Service {question.service} has no {what} {question.port}; its ports: {known}"
        )
    return port


def _pod_port(service: Service, question: Question) -> ServicePort:
    port = service.port(question.port)
    pods = dict(port.pods) if port is not None else {}
    if question.pod not in pods:
        known = ", ".join(sorted(pods)) or "none: it is not headless, or has no such port"
        raise AskError(
            f"Service {question.service} has no pod {question.pod} that is called by name on port "
            f"{question.port}; those are {known}"
        )
    return pods[question.pod]


def caller(mesh: Mesh, question: Question) -> SpiffeId | None:
    """The identity that calls, None for one outside the mesh."""
    source = question.source
    if not isinstance(source, ServiceAccountRef):
        return source
    identity = SpiffeId.of(mesh.trust_domain, source)
    if workloads_of(mesh, identity):
        return identity
    known = _accounts(mesh)
    if source in known or identity in mesh.reach:
        return identity
    near = _near(str(source), map(str, known))
    raise AskError(f"there is no ServiceAccount {source}, and no pod runs as it{near}")


def workloads_of(mesh: Mesh, identity: SpiffeId) -> tuple[Workload, ...]:
    """The workloads that prove this identity."""
    return tuple(it for it in mesh.workloads.values() if it.identity == identity)


def behind(
    workloads: Iterable[Workload], service: ServiceRef, port: ServicePort, target: Target
) -> Iterator[tuple[Workload, Protocol, tuple[Grant, ...]]]:
    """Those of these workloads that are this target of a service port, with what holds there."""
    ref = PortRef(service, port.number, udp=True)
    for workload in workloads:
        if (workload.access, workload.mtls) != (target.access, target.mtls):
            continue
        if port.protocol is Protocol.UDP:
            for udp in workload.udp_ports:
                if udp.number == target.port and ref in udp.services:
                    yield workload, Protocol.UDP, udp.grants
            continue
        for own in workload.ports:
            if own.number == target.port and service in own.services:
                # Of two services that disagree about a port the first counts: its word, not ours.
                yield workload, own.protocol, own.grants


def _accounts(mesh: Mesh) -> set[ServiceAccountRef]:
    named = {workload.identity.service_account for workload in mesh.workloads.values()}
    found = {account for account in named if account is not None}
    if mesh.objects is not None:
        found |= {*mesh.objects.accounts, *mesh.objects.pods_of}
    return found


def _near(name: str, known: Iterable[str]) -> str:
    """Those that come near; where none does, those of the namespace."""
    names = sorted(known)
    near = get_close_matches(name, names, n=_NAMED, cutoff=0.7)
    if not near:
        # A right name in a wrong namespace is as common as a wrong name.
        namespace, _, base = name.partition("/")
        near = [it for it in names if it.endswith(f"/{base}")][:_NAMED]
        near = near or [it for it in names if it.startswith(f"{namespace}/")][:_NAMED]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _port_names(ports: Iterable[ServicePort]) -> Iterator[str]:
    for port in ports:
        yield f"{port.number} ({'udp' if port.protocol is Protocol.UDP else port.protocol})"
