"""Reads an answer off the Mesh, the last place where policy is words and not yet Envoy's."""

import json
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import re2

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import (
    EndpointState,
    HttpMatch,
    InboundPort,
    Mesh,
    MeshSettings,
    PortRef,
    PortRoutes,
    RouteEntry,
    Workload,
)
from smi_xds.sources.files import read_folders
from smi_xds.values import AccessMode, ServiceAccountRef, ServiceRef, SpiffeId
from tests.oracle.smi.judging import Account, Request, Verdict
from tests.oracle.smi.paths import normalise, split_host
from tests.oracle.worlds import Document


def mesh_of(documents: Iterable[Document]) -> Mesh:
    """The mesh of these documents, read from a file as `serve` reads them."""
    with tempfile.TemporaryDirectory(prefix="smi-xds-oracle-") as folder:
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        (Path(folder) / "objects.json").write_text(json.dumps(items))
        return MeshBuilder(MeshSettings())(read_folders([Path(folder)]))


def judge(
    mesh: Mesh, source: Account, service: tuple[str, str], number: int, request: Request | None
) -> Verdict:
    """What the mesh says of a request, or of a connection where there is none."""
    identity = SpiffeId.of(mesh.trust_domain, ServiceAccountRef(source.namespace, source.name))
    routes = mesh.routes[PortRef(ServiceRef(*service), number)]
    if routes.callers is not None and identity not in routes.callers:
        return Verdict(denied=Fraction(1), rightless=True)
    entry = next(
        entry
        for entry in routes.entries
        if not entry.matches
        or (request is not None and any(holds(match, request) for match in entry.matches))
    )
    return _spread(mesh, identity, routes, entry, request)


def _spread(
    mesh: Mesh,
    identity: SpiffeId,
    routes: PortRoutes,
    entry: RouteEntry,
    request: Request | None,
) -> Verdict:
    answers: dict[str, Fraction] = {}
    denied = unavailable = Fraction(0)
    total = sum(backend.weight for backend in entry.backends)
    if not total:
        return Verdict(unavailable=Fraction(1))
    by_address = {w.address: w for w in mesh.workloads.values() if w.sidecar.listens}
    for backend in entry.backends:
        share = Fraction(backend.weight, total)
        port = mesh.services[backend.service].port(routes.port)
        assert port is not None
        ready = [e for e in port.endpoints if e.state is EndpointState.READY]
        if not ready:
            unavailable += share
        for endpoint in ready:
            part = share / len(ready)
            workload = by_address.get(endpoint.address)
            assert (workload is None) == (endpoint.identity is None), endpoint
            if workload is not None and endpoint.port not in {p.number for p in workload.ports}:
                unavailable += part
            elif workload is None or admits(workload, endpoint.port, identity, routes, request):
                name = endpoint.address if workload is None else str(workload.proxy)
                answers[name] = answers.get(name, Fraction(0)) + part
            else:
                denied += part
    return Verdict(answers=answers, denied=denied, unavailable=unavailable)


def admits(
    workload: Workload,
    number: int,
    identity: SpiffeId,
    routes: PortRoutes,
    request: Request | None,
) -> bool:
    """Whether a workload lets somebody in at one of its ports."""
    found: InboundPort | None = next((p for p in workload.ports if p.number == number), None)
    if found is None or (found.protocol.is_http and not routes.protocol.is_http):
        return False
    if workload.access is not AccessMode.STRICT:
        return True
    if not found.protocol.is_http:
        return identity in found.admitted()
    assert request is not None
    return any(
        any(it.identity == identity and it.addresses is None for it in grant.sources)
        and (grant.http is None or any(holds(match, request) for match in grant.http))
        for grant in found.grants
    )


def holds(match: HttpMatch, request: Request) -> bool:
    """Whether a request meets a condition of the mesh, as Envoy will read it: in full."""
    path = normalise(request.path).text
    if match.path is not None and not re2.fullmatch(f"(?:{match.path}).*", path):
        return False
    if match.methods and request.method not in match.methods:
        return False
    for name, regex in match.headers:
        values = [value for key, value in request.headers if key.lower() == name]
        if name in ("host", ":authority"):
            values = [split_host(request.host)[0]]
        if not values or not re2.fullmatch(f"(?:{regex})", ",".join(values)):
            return False
    return True
