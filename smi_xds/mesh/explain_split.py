"""Names for a way: which TrafficSplit and match decided, and why the others of its root did not.

Read from the objects that the mesh was made of, and from its problems. Nothing is decided here.
"""

from collections.abc import Iterator, Mapping

from smi_xds.mesh.explain_request import fails
from smi_xds.mesh.explain_values import PassedSplit, Request, Split
from smi_xds.mesh.matches import read_matches
from smi_xds.mesh.model import HttpMatch, Mesh, PortRoutes, RouteEntry
from smi_xds.objects.smi import TrafficSplit
from smi_xds.values import ObjectRef, ServiceRef


def split_named(mesh: Mesh, root: ServiceRef, name: str, match: HttpMatch | None) -> Split:
    """The split that decides, with the name of the match by which it does."""
    split = _splits(mesh, root).get(name)
    if split is None or match is None:
        return Split(name=name)
    group, found = next((group, it) for group, it, each in _matches(mesh, split) if each == match)
    return Split(name=name, group=group, match=found)


def passed_splits(
    mesh: Mesh, routes: PortRoutes, taken: RouteEntry, request: Request | None
) -> tuple[PassedSplit, ...]:
    """The other splits of the same root, and why they do not decide."""
    order = [entry.split for entry in routes.entries]
    found = []
    for name, split in _splits(mesh, routes.service).items():
        if name == taken.split:
            continue
        if name not in order:
            problems = [it.message for it in mesh.problems if it.ref == split.ref]
            why = " ".join(problems) or "It does not apply to this port."
        elif order.index(name) > order.index(taken.split):
            why = f"It comes after {taken.split}, which takes the request first."
        else:
            why = _unmet(mesh, split, request)
        found.append(PassedSplit(name=name, why=why))
    return tuple(found)


def _unmet(mesh: Mesh, split: TrafficSplit, request: Request | None) -> str:
    tried = [
        (fails(match, request, request.routed_path), f"match {name} of HTTPRouteGroup {group}")
        for group, name, match in _matches(mesh, split)
        if request is not None
    ]
    failed, where = min(tried, key=lambda it: len(it[0]), default=((), "No match"))
    return f"{where[0].upper()}{where[1:]} does not hold: {' and '.join(failed)}."


def _splits(mesh: Mesh, root: ServiceRef) -> Mapping[str, TrafficSplit]:
    splits = mesh.objects.splits.get(root, ()) if mesh.objects is not None else ()
    return {f"{split.namespace}/{split.name}": split for split in splits}


def _matches(mesh: Mesh, split: TrafficSplit) -> Iterator[tuple[str, str, HttpMatch]]:
    """(HTTPRouteGroup, name, match) of each match that it refers to."""
    assert mesh.objects is not None, "it was found there"
    for match in split.matches or ():
        group = mesh.objects.http_routes.get(ObjectRef(match.kind, split.namespace, match.name))
        for name, each in read_matches(group).by_name if group is not None else ():
            yield match.name, name, each
