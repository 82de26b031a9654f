"""Every kind of SMI that is a resource, with all versions of it that were ever published.

And where their fields are: problems name them as the newest version does, and are told in the words
of the version in which an object was written.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from smi_xds.objects.smi import ACCESS_GROUP, SPECS_GROUP, SPLIT_GROUP, SmiObject

ALL = ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmiKind:
    """One kind, with its versions from the oldest to the newest."""

    kind: str
    group: str
    plural: str
    short: str
    versions: tuple[str, ...] = ALL

    @property
    def stored(self) -> str:
        """The version that the API server keeps and that we watch.

        The newest, released or not: API servers prefer it, so it is what kubectl, the garbage
        collector and the end of a namespace ask for. None of them is to need a webhook.
        """
        return self.versions[-1]


SMI_KINDS: Mapping[str, SmiKind] = {
    it.kind: it
    for it in (
        SmiKind(kind="TrafficTarget", group=ACCESS_GROUP, plural="traffictargets", short="tt"),
        SmiKind(
            kind="IdentityBinding",
            group=ACCESS_GROUP,
            plural="identitybindings",
            short="ib",
            versions=("v1alpha4",),
        ),
        SmiKind(kind="HTTPRouteGroup", group=SPECS_GROUP, plural="httproutegroups", short="htr"),
        SmiKind(kind="TCPRoute", group=SPECS_GROUP, plural="tcproutes", short="tr"),
        SmiKind(
            kind="UDPRoute",
            group=SPECS_GROUP,
            plural="udproutes",
            short="ur",
            versions=("v1alpha4",),
        ),
        SmiKind(kind="TrafficSplit", group=SPLIT_GROUP, plural="trafficsplits", short="ts"),
    )
}

# The first versions have their fields at the root.
_WITHOUT_SPEC: Mapping[str, tuple[str, ...]] = {
    "TrafficTarget": ("v1alpha1",),
    "HTTPRouteGroup": ("v1alpha1", "v1alpha2"),
}


def as_written(field: str, it: SmiObject) -> str:
    """A field of an object, given as the newest version has it, in the words of its own version."""
    kind = it.ref.kind
    if it.version not in _WITHOUT_SPEC.get(kind, ()):
        return field
    at_root = field.removeprefix("spec.")
    if kind == "TrafficTarget" and at_root.startswith("rules"):
        return f"specs{at_root.removeprefix('rules')}"
    return at_root
