"""specs.smi-spec.io: the wire shape of each version, and from these to the types of the hub."""

from typing import TypeAlias, TypeVar

from smi_xds.objects.metadata import annotations_of, name_of, namespace_of
from smi_xds.objects.smi import HTTPMatch, HTTPRouteGroup, TCPRoute, UDPRoute
from smi_xds.objects.wire import Envelope, Strict, frozen

_PortRoute = TypeVar("_PortRoute", TCPRoute, UDPRoute)


class _HTTPMatchWire(Strict):
    name: str
    path_regex: str | None = None
    methods: list[str] | None = None
    # The text of v1alpha1 has none, its CRD has: as they restrict, they are read there, too.
    headers: list[dict[str, str]] | dict[str, str] | None = None


class RootHTTPRouteGroupWire(Envelope, kw_only=True):
    """HTTPRouteGroup of v1alpha1 and v1alpha2: no spec."""

    matches: list[_HTTPMatchWire] | None = None


class _HTTPSpec(Strict):
    matches: list[_HTTPMatchWire] | None = None


class HTTPRouteGroupWire(Envelope, kw_only=True):
    """HTTPRouteGroup of v1alpha3 and v1alpha4."""

    spec: _HTTPSpec | None = None


AnyHTTPRouteGroupWire: TypeAlias = RootHTTPRouteGroupWire | HTTPRouteGroupWire


class RootTCPRouteWire(Envelope, kw_only=True):
    """TCPRoute of v1alpha1 and v1alpha2: nothing but a name."""


class _EmptySpec(Strict):
    pass


class EmptyTCPRouteWire(Envelope, kw_only=True):
    """TCPRoute of v1alpha3: nothing in its spec."""

    spec: _EmptySpec | None = None


class _PortsWire(Strict):
    name: str | None = None
    ports: list[int] | None = None


class _PortsSpec(Strict):
    matches: _PortsWire | None = None


class PortRouteWire(Envelope, kw_only=True):
    """TCPRoute and UDPRoute of v1alpha4."""

    spec: _PortsSpec | None = None


AnyTCPRouteWire: TypeAlias = RootTCPRouteWire | EmptyTCPRouteWire | PortRouteWire


def http_route_group_from(wire: AnyHTTPRouteGroupWire) -> HTTPRouteGroup:
    """HTTPRouteGroup, of any version."""
    place = wire if isinstance(wire, RootHTTPRouteGroupWire) else wire.spec
    matches = (place.matches if place else None) or []
    return HTTPRouteGroup(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=wire.version,
        uid=wire.uid,
        generation=wire.generation,
        created=wire.created,
        annotations=annotations_of(wire.metadata),
        matches=tuple(
            HTTPMatch(
                name=match.name,
                path_regex=match.path_regex,
                methods=frozen(match.methods),
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


def tcp_route_from(wire: AnyTCPRouteWire) -> TCPRoute:
    """TCPRoute, of any version; before v1alpha4 it means every port."""
    matches = _matches(wire) if isinstance(wire, PortRouteWire) else _PortsWire()
    return _port_route(TCPRoute, wire, matches)


def udp_route_from(wire: PortRouteWire) -> UDPRoute:
    """UDPRoute."""
    return _port_route(UDPRoute, wire, _matches(wire))


def _port_route(kind: type[_PortRoute], wire: Envelope, matches: _PortsWire) -> _PortRoute:
    return kind(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        version=wire.version,
        uid=wire.uid,
        generation=wire.generation,
        created=wire.created,
        annotations=annotations_of(wire.metadata),
        match_name=matches.name,
        ports=None if matches.ports is None else tuple(matches.ports),
    )


def _matches(wire: PortRouteWire) -> _PortsWire:
    return (wire.spec.matches if wire.spec else None) or _PortsWire()
