"""Every kind of SMI that is a resource, with all versions of it that were ever published."""

from collections.abc import Mapping
from dataclasses import dataclass

from smi_xds.objects.smi import ACCESS_GROUP, SPECS_GROUP, SPLIT_GROUP

ALL = ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmiKind:
    """One kind; `stored` is the version that the API server keeps and that we watch."""

    kind: str
    group: str
    plural: str
    short: str
    versions: tuple[str, ...] = ALL
    stored: str = "v1alpha4"


# Stored is what the CRDs of smi-sdk-go store: the newest released version of each group. So they
# can be replaced by ours and ours by them, and no object is converted to be read by us.
SMI_KINDS: Mapping[str, SmiKind] = {
    it.kind: it
    for it in (
        SmiKind(
            kind="TrafficTarget",
            group=ACCESS_GROUP,
            plural="traffictargets",
            short="tt",
            stored="v1alpha3",
        ),
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
