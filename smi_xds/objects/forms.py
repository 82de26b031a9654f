"""The version table: each version of each kind that is read, its shape, and what becomes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from smi_xds.objects import parse_access, parse_kube, parse_specs, parse_split
from smi_xds.objects.kube import KubeObject
from smi_xds.objects.smi import SmiObject
from smi_xds.objects.versions import SMI_KINDS

MeshObject: TypeAlias = KubeObject | SmiObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One version of one kind: its shape on the wire, and how that becomes an object."""

    api_version: str
    kind: str
    wire: type[msgspec.Struct]
    # Takes a `wire`, gives None for an object that is none of ours. The table joins different
    # types, which a tuple cannot say.
    build: Callable[[Any], MeshObject | None]
    namespaced: bool = True


def _form(api_version: str, kind: str, wire: Any, build: Any) -> Form:
    return Form(
        api_version=api_version,
        kind=kind,
        wire=wire,
        build=build,
        namespaced=kind != "Namespace",
    )


_KUBE = (
    _form("v1", "Namespace", parse_kube.MetadataWire, parse_kube.namespace_from),
    _form("v1", "ServiceAccount", parse_kube.MetadataWire, parse_kube.service_account_from),
    _form("v1", "Service", parse_kube.ServiceWire, parse_kube.service_from),
    _form("v1", "Pod", parse_kube.PodWire, parse_kube.pod_from),
    _form(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        parse_kube.EndpointSliceWire,
        parse_kube.endpoint_slice_from,
    ),
)

# By kind: what builds it, and its shapes from the oldest version to the newest.
_SMI: Mapping[str, tuple[Callable[[Any], MeshObject], tuple[type[msgspec.Struct], ...]]] = {
    "TrafficTarget": (
        parse_access.target_from,
        (
            parse_access.RootTargetWire,
            parse_access.TargetWire,
            parse_access.TargetWire,
            parse_access.GroupTargetWire,
        ),
    ),
    "IdentityBinding": (
        parse_access.identity_binding_from,
        (parse_access.IdentityBindingWire,),
    ),
    "HTTPRouteGroup": (
        parse_specs.http_route_group_from,
        (
            parse_specs.RootHTTPRouteGroupWire,
            parse_specs.RootHTTPRouteGroupWire,
            parse_specs.HTTPRouteGroupWire,
            parse_specs.HTTPRouteGroupWire,
        ),
    ),
    "TCPRoute": (
        parse_specs.tcp_route_from,
        (
            parse_specs.RootTCPRouteWire,
            parse_specs.RootTCPRouteWire,
            parse_specs.EmptyTCPRouteWire,
            parse_specs.PortRouteWire,
        ),
    ),
    "UDPRoute": (parse_specs.udp_route_from, (parse_specs.PortRouteWire,)),
    "TrafficSplit": (
        parse_split.split_from,
        (
            parse_split.QuantitySplitWire,
            parse_split.SplitWire,
            parse_split.MatchingSplitWire,
            parse_split.MatchingSplitWire,
        ),
    ),
}

FORMS: Mapping[tuple[str, str], Form] = {
    (form.api_version, form.kind): form
    for form in (
        *_KUBE,
        *(
            _form(f"{it.group}/{version}", it.kind, wire, _SMI[it.kind][0])
            for it in SMI_KINDS.values()
            for version, wire in zip(it.versions, _SMI[it.kind][1], strict=True)
        ),
    )
}

# A kind's hub can say what any of its versions can: only for TrafficSplit is it none of them.
HUB_WIRES: Mapping[str, type[msgspec.Struct]] = {
    kind: wires[-1] for kind, (_, wires) in _SMI.items()
} | {"TrafficSplit": parse_split.HubSplitWire}
