"""SMI objects: the wire shape of each version, and from these to the types of `objects.smi`.

A field that a version does not know is refused, never skipped: it could have been meant as a
restriction. Whether what is said makes sense is judged by the mesh, which sees all objects.
"""

from collections.abc import Sequence
from decimal import Decimal
from math import isfinite
from typing import Any, TypeAlias

import msgspec

from smi_xds.objects.faults import ParseError, printable
from smi_xds.objects.metadata import (
    Metadata,
    annotations_of,
    check_name,
    check_namespace,
    name_of,
    namespace_of,
)
from smi_xds.objects.quantity import parse_quantity
from smi_xds.objects.smi import (
    Backend,
    HTTPMatch,
    HTTPRouteGroup,
    Rule,
    SplitMatch,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)


class _Strict(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    pass


class _Envelope(_Strict):
    """What every SMI object has at its root; `status` is the controller's, not the user's."""

    api_version: str
    kind: str
    metadata: Metadata
    status: Any = None


class _SubjectWire(_Strict):
    kind: str
    name: str
    namespace: str | None = None


class _DestinationWire(_SubjectWire):
    # Gone since v1alpha3, yet still written: as it restricts, it is kept and obeyed. The Go type
    # once was a string.
    port: int | str | None = None


class _RuleWire(_Strict):
    kind: str
    name: str
    matches: list[str] | None = None


class _TargetSpec(_Strict):
    destination: _DestinationWire | None = None
    rules: list[_RuleWire] | None = None
    sources: list[_SubjectWire] | None = None


class TargetWire(_Envelope, kw_only=True):
    """access.smi-spec.io/v1alpha3 TrafficTarget."""

    spec: _TargetSpec | None = None


class _HTTPMatchWire(_Strict):
    name: str
    path_regex: str | None = None
    methods: list[str] | None = None
    headers: list[dict[str, str]] | dict[str, str] | None = None


class _HTTPSpec(_Strict):
    matches: list[_HTTPMatchWire] | None = None


class HTTPRouteGroupWire(_Envelope, kw_only=True):
    """specs.smi-spec.io/v1alpha4 HTTPRouteGroup."""

    spec: _HTTPSpec | None = None


class _PortsWire(_Strict):
    name: str | None = None
    ports: list[int] | None = None


class _PortsSpec(_Strict):
    matches: _PortsWire | None = None


class PortRouteWire(_Envelope, kw_only=True):
    """specs.smi-spec.io/v1alpha4 TCPRoute and UDPRoute."""

    spec: _PortsSpec | None = None


class _QuantityBackendWire(_Strict):
    service: str
    weight: str | int | float | None = None


class _QuantitySplitSpec(_Strict):
    service: str
    backends: list[_QuantityBackendWire] | None = None


class QuantitySplitWire(_Envelope, kw_only=True):
    """split.smi-spec.io/v1alpha1 TrafficSplit."""

    spec: _QuantitySplitSpec


class _BackendWire(_Strict):
    service: str
    weight: int | float


class _SplitSpec(_Strict):
    service: str
    backends: list[_BackendWire] | None = None


class SplitWire(_Envelope, kw_only=True):
    """split.smi-spec.io/v1alpha2 TrafficSplit."""

    spec: _SplitSpec


class _SplitMatchWire(_Strict):
    kind: str
    name: str
    api_group: str | None = None


class _MatchingSplitSpec(_SplitSpec):
    matches: list[_SplitMatchWire] | None = None


class MatchingSplitWire(_Envelope, kw_only=True):
    """split.smi-spec.io/v1alpha3 and v1alpha4 TrafficSplit."""

    spec: _MatchingSplitSpec


AnySplitWire: TypeAlias = QuantitySplitWire | SplitWire | MatchingSplitWire


def target_from(wire: TargetWire) -> TrafficTarget:
    """access.smi-spec.io TrafficTarget."""
    spec = wire.spec or _TargetSpec()
    destination = spec.destination
    return TrafficTarget(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=_version(wire),
        created=wire.metadata.creation_timestamp or "",
        annotations=annotations_of(wire.metadata),
        destination=_subject(destination, field="spec.destination") if destination else None,
        destination_port=_destination_port(destination) if destination else None,
        rules=None
        if spec.rules is None
        else tuple(Rule(kind=r.kind, name=r.name, matches=_frozen(r.matches)) for r in spec.rules),
        sources=None
        if spec.sources is None
        else tuple(
            _subject(source, field=f"spec.sources[{i}]") for i, source in enumerate(spec.sources)
        ),
    )


def _subject(wire: _SubjectWire, *, field: str) -> Subject:
    # Both become part of a SPIFFE id; there are no wildcards in SMI.
    if wire.kind == "ServiceAccount":
        check_name(wire.name, field=f"{field}.name")
    if wire.namespace:
        check_namespace(wire.namespace, field=f"{field}.namespace")
    return Subject(kind=wire.kind, name=wire.name, namespace=wire.namespace or None)


def _destination_port(wire: _DestinationWire) -> int | None:
    port = wire.port
    if isinstance(port, str):
        if not (port.isascii() and port.isdecimal() and len(port) <= 5):
            raise ParseError(
                "spec.destination.port",
                f"'{printable(port)}' is not a port number",
                "Write a number from 1 to 65535.",
            )
        return int(port)
    return port


def http_route_group_from(wire: HTTPRouteGroupWire) -> HTTPRouteGroup:
    """specs.smi-spec.io HTTPRouteGroup."""
    matches = (wire.spec.matches if wire.spec else None) or []
    return HTTPRouteGroup(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=_version(wire),
        created=wire.metadata.creation_timestamp or "",
        annotations=annotations_of(wire.metadata),
        matches=tuple(
            HTTPMatch(
                name=match.name,
                path_regex=match.path_regex,
                methods=_frozen(match.methods),
                headers=_headers(match.headers),
            )
            for match in matches
        ),
        headers_as_map=any(isinstance(match.headers, dict) for match in matches),
    )


def _headers(
    headers: list[dict[str, str]] | dict[str, str] | None,
) -> tuple[tuple[str, str], ...] | None:
    """Both forms that the texts show: a list of maps (of one key or several), and one map."""
    if headers is None:
        return None
    maps = [headers] if isinstance(headers, dict) else headers
    return tuple(item for entries in maps for item in entries.items())


def tcp_route_from(wire: PortRouteWire) -> TCPRoute:
    """specs.smi-spec.io TCPRoute."""
    matches = (wire.spec.matches if wire.spec else None) or _PortsWire()
    return TCPRoute(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=_version(wire),
        created=wire.metadata.creation_timestamp or "",
        annotations=annotations_of(wire.metadata),
        match_name=matches.name,
        ports=None if matches.ports is None else tuple(matches.ports),
    )


def udp_route_from(wire: PortRouteWire) -> UDPRoute:
    """specs.smi-spec.io UDPRoute."""
    matches = (wire.spec.matches if wire.spec else None) or _PortsWire()
    return UDPRoute(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=_version(wire),
        created=wire.metadata.creation_timestamp or "",
        annotations=annotations_of(wire.metadata),
        match_name=matches.name,
        ports=None if matches.ports is None else tuple(matches.ports),
    )


def split_from(wire: AnySplitWire) -> TrafficSplit:
    """split.smi-spec.io TrafficSplit, of any version."""
    matches = wire.spec.matches if isinstance(wire, MatchingSplitWire) else None
    backends: Sequence[_QuantityBackendWire | _BackendWire] = wire.spec.backends or ()
    return TrafficSplit(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=_version(wire),
        created=wire.metadata.creation_timestamp or "",
        annotations=annotations_of(wire.metadata),
        service=wire.spec.service,
        backends=tuple(
            _backend(backend, field=f"spec.backends[{index}].weight")
            for index, backend in enumerate(backends)
        ),
        matches=None
        if matches is None
        else tuple(SplitMatch(kind=m.kind, name=m.name, api_group=m.api_group) for m in matches),
    )


def _backend(wire: _QuantityBackendWire | _BackendWire, *, field: str) -> Backend:
    weight = wire.weight
    if weight is None:
        return Backend(service=wire.service)
    if isinstance(weight, str):
        value = parse_quantity(weight.strip())
        if value is None:
            raise ParseError(
                field,
                f"'{printable(weight)}' is not a quantity",
                "Write a number, or one with a unit such as 500m or 1k.",
            )
        return Backend(service=wire.service, weight=value, written=weight)
    if not isfinite(weight):
        raise ParseError(
            field, "the number is too large", "Write a smaller one: weights are relative."
        )
    # By way of its text: 0.1 is a tenth, as written, not the nearest binary fraction.
    return Backend(service=wire.service, weight=Decimal(repr(weight)))


def _version(wire: _Envelope) -> str:
    return wire.api_version.rpartition("/")[2]


def _frozen(texts: list[str] | None) -> tuple[str, ...] | None:
    return None if texts is None else tuple(texts)
