"""May it call that, and why? A pure function of the mesh, which decides by what Envoy is told.

The verdict comes from the mesh's grants and routes alone; names, and what came near where nothing
allows it, are looked up in the objects afterwards (`explain_why`).
"""

from collections.abc import Iterable
from dataclasses import replace

from smi_xds.mesh.explain_find import caller, find_port, workloads_of
from smi_xds.mesh.explain_judge import Asked, judge
from smi_xds.mesh.explain_request import fails, judged, method_note, refusal
from smi_xds.mesh.explain_split import passed_splits, split_named
from smi_xds.mesh.explain_values import (
    Admission,
    Branch,
    Destination,
    Explanation,
    Kind,
    Miss,
    PassedSplit,
    Question,
    Request,
    Split,
    Verdict,
)
from smi_xds.mesh.model import (
    HttpMatch,
    Mesh,
    PortRef,
    PortRoutes,
    Protocol,
    RouteEntry,
    Service,
    ServicePort,
    Sidecar,
    WeightedBackend,
)
from smi_xds.mesh.proxyless import as_judged

__all__ = [
    "Admission",
    "Branch",
    "Destination",
    "Explanation",
    "Kind",
    "Miss",
    "PassedSplit",
    "Question",
    "Request",
    "Split",
    "Verdict",
    "explain",
]


def explain(mesh: Mesh, question: Question) -> Explanation:
    """Whether and why; AskError names what is near where source or destination do not exist."""
    port = find_port(mesh, question)
    identity = caller(mesh, question)
    request = None
    if port.protocol.is_http:
        request = judged(question, in_mesh=identity is not None)
    asked = Asked(question=question, identity=identity, request=request)
    answer = Explanation(
        verdict=Verdict.DENIED,
        why=_refused(asked, port),
        source=str(identity or ""),
        service=str(question.service),
        port=port.number,
        protocol=port.protocol,
        request=request,
        notes=tuple(_notes(mesh, asked, port)),
    )
    return answer if answer.why else _routed(mesh, asked, port, answer)


def _refused(asked: Asked, port: ServicePort) -> str:
    """Why it fails whatever the policy is; empty where it does not."""
    if port.protocol.is_http and asked.question.kind is Kind.TCP:
        return f"The port speaks {port.protocol}: a sidecar refuses bytes that are no request."
    in_mesh = asked.identity is not None or any(target.identity for target in port.targets)
    return refusal(asked.question) if asked.request is not None and in_mesh else ""


def _routed(mesh: Mesh, asked: Asked, port: ServicePort, answer: Explanation) -> Explanation:
    service = asked.question.service
    routes = _routes(mesh, asked, port)
    is_udp = port.protocol is Protocol.UDP and asked.identity is not None
    asked = replace(asked, by_tunnel=is_udp and not routes.outside)
    entry, match = _entry(routes, asked)
    branches = _branches(mesh, asked, port, entry)
    verdict = _together(branch.verdict for branch in branches if branch.weight)
    why = (
        _nowhere(asked, entry, branches) if verdict is Verdict.NOWHERE else _why(verdict, branches)
    )
    if verdict is not Verdict.DENIED and not _has_right(routes, asked):
        # It is not told whether anybody is there.
        verdict = Verdict.DENIED
        why = "It may call nothing behind it, so its own sidecar answers 403."
    return replace(
        answer,
        verdict=verdict,
        why=why,
        split=split_named(mesh, service, entry.split, match),
        branches=branches,
        passed_splits=() if _is_plain(asked) else passed_splits(mesh, routes, entry, asked.request),
        notes=(*answer.notes, *_empty(branches)),
    )


def _routes(mesh: Mesh, asked: Asked, port: ServicePort) -> PortRoutes:
    """The routes as this caller has them."""
    service = asked.question.service
    ref = PortRef(service, port.number, udp=port.protocol is Protocol.UDP)
    own = RouteEntry(backends=(WeightedBackend(service=service, weight=1),))
    plain = PortRoutes(service=service, port=ref.port, protocol=port.protocol, entries=(own,))
    if asked.identity is None or _is_plain(asked):
        return plain
    routes = mesh.routes.get(ref, plain)
    kinds = {workload.sidecar for workload in workloads_of(mesh, asked.identity)}
    return as_judged(routes) if kinds == {Sidecar.PROXYLESS} else routes


def _is_plain(asked: Asked) -> bool:
    """Splits are the client side's, and have no say: nobody has a sidecar, or names a pod."""
    return asked.identity is None or bool(asked.question.pod)


def _has_right(routes: PortRoutes, asked: Asked) -> bool:
    """Whether its sidecar has the way at all: who may call nothing behind it gets a 403 there."""
    return _is_plain(asked) or routes.callers is None or asked.identity in routes.callers


def _entry(routes: PortRoutes, asked: Asked) -> tuple[RouteEntry, HttpMatch | None]:
    """The first that takes it, and the match by which it does."""
    for entry in routes.entries:
        if not entry.matches:
            return entry, None
        for match in entry.matches:
            request = asked.request
            if request is not None and not fails(match, request, request.routed_path):
                return entry, match
    raise AssertionError(f"the last entry of {routes.ref} takes everything")


def _branches(mesh: Mesh, asked: Asked, port: ServicePort, entry: RouteEntry) -> tuple[Branch, ...]:
    total = sum(backend.weight for backend in entry.backends) or 1
    branches = []
    for backend in entry.backends:
        target = port if asked.question.pod else _port_of(mesh.services.get(backend.service), port)
        found = () if target is None else judge(mesh, asked, backend.service, target)
        share = 100 * backend.weight / total
        ready = sum(destination.ready for destination in found)
        branch = Branch(
            service=str(backend.service),
            weight=backend.weight,
            share=round(share, 2),
            verdict=_together(it.verdict for it in found if it.ready or not ready),
            destinations=tuple(
                replace(it, share=round(share * it.ready / (ready or 1), 2)) for it in found
            ),
        )
        branches.append(branch)
    return tuple(branches)


def _port_of(service: Service | None, port: ServicePort) -> ServicePort | None:
    udp = port.protocol is Protocol.UDP
    return None if service is None else service.port(port.number, udp=udp)


def _together(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    if not found:
        return Verdict.NOWHERE
    return found.pop() if len(found) == 1 else Verdict.PARTLY


def _nowhere(asked: Asked, entry: RouteEntry, branches: tuple[Branch, ...]) -> str:
    # Of TCP and UDP nobody gets an answer.
    end = "." if asked.request is None else ": 503."
    if entry.split and not any(branch.weight for branch in branches):
        return f"No backend of TrafficSplit {entry.split} has a weight{end}"
    return " ".join(_whys(branches)) or f"Nothing is behind it{end}"


def _why(verdict: Verdict, branches: tuple[Branch, ...]) -> str:
    whys = _whys(branches)
    if len(whys) == 1:
        return whys.pop()
    if verdict is Verdict.PARTLY:
        return "It depends on where it is sent: see each destination."
    return f"Every destination says so: {verdict}."


def _whys(branches: tuple[Branch, ...]) -> list[str]:
    return sorted({it.why for branch in branches if branch.weight for it in branch.destinations})


def _is_lost(mesh: Mesh, asked: Asked, host: str) -> bool:
    """Whether a caller's sidecar would look for another service under this host."""
    if asked.identity is None:
        return False
    service, short = asked.question.service, host.partition(":")[0].lower()
    full = f"{service.name}.{service.namespace}"
    known = {service.name, full, f"{full}.svc", f"{full}.svc.cluster.local"}
    if asked.question.pod:
        known |= {f"{asked.question.pod}.{name}" for name in known}
    bound = (it.sidecar is Sidecar.BOUND for it in workloads_of(mesh, asked.identity))
    return short not in known and any(bound)


def _empty(branches: tuple[Branch, ...]) -> Iterable[str]:
    for branch in branches:
        if branch.weight and branch.destinations and not any(d.ready for d in branch.destinations):
            yield f"No endpoint of {branch.service} is ready, so what is sent there fails for now."


def _notes(mesh: Mesh, asked: Asked, port: ServicePort) -> Iterable[str]:
    question, request = asked.question, asked.request
    if asked.identity is None:
        yield "A caller outside the mesh has no sidecar: TrafficSplits do not apply to it."
    elif not workloads_of(mesh, asked.identity):
        yield (
            f"No workload in the mesh runs as {question.source}. Until one does, nobody has this "
            "identity."
        )
    if request is not None and _is_lost(mesh, asked, request.host):
        yield (
            f"A bound sidecar finds a service by the Host, and {request.host} is no name of "
            f"{question.service}: the request goes elsewhere, or gets 404."
        )
    if request is None and question.kind is Kind.HTTP:
        yield f"The port speaks {port.protocol}: connections are judged, and no requests."
    if request is not None and request.redirect:
        yield (
            f"A sidecar answers 307 first, because of escaped slashes: to {request.redirect}, "
            "which is what is judged here."
        )
    if request is not None and (note := method_note(request.method)):
        yield note
