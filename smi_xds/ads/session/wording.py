"""What both dialects note about a response: what it replaces and what the client waits for."""

from collections.abc import Iterable, Mapping

from smi_xds.ads.session.ordering import WARMS
from smi_xds.ads.session.pictures import Difference, Picture
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import Need


def replaced(
    told: Picture, diff: Difference, *, again: Iterable[str]
) -> Mapping[str, frozenset[Need]]:
    """Every name that a response touches, with the needs of what the client had until then."""
    names = {r.name for r in diff.changed}.union(diff.departed, again)
    before = ((name, told.resources.get(name)) for name in names)
    return {name: old.needs if old is not None else frozenset() for name, old in before}


def warms(type_: TypeUrl, diff: Difference) -> frozenset[str]:
    """What must follow the changed resources: their endpoints, or their routes."""
    child = WARMS.get(type_)
    if child is None:
        return frozenset()
    return frozenset(n.name for r in diff.changed for n in r.needs if n.type == child)
