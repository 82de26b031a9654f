"""specs.smi-spec.io in conversion.

HTTPRouteGroups have their matches at the root until v1alpha2, and no headers in v1alpha1. TCPRoutes
have ports only since v1alpha4: before, one means every port.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from smi_xds.objects.fields import (
    Fields,
    changed,
    each,
    entries,
    flattened,
    in_spec,
    mapping,
    nested,
    without,
)
from smi_xds.objects.shapes import Restriction, Shape

_WITHOUT_SPEC = ("v1alpha1", "v1alpha2")
_WITHOUT_HEADERS = ("v1alpha1",)
_WITH_PORTS = ("v1alpha4",)


def _to_hub(fields: Fields, version: str) -> Fields:
    return nested(fields, {}) if version in _WITHOUT_SPEC else fields


def _http_from_hub(fields: Fields, version: str) -> Fields:
    if version in _WITHOUT_HEADERS:
        # Its CRD had headers, its text and its clients had not: those drop fields that they do
        # not know, and keep annotations.
        headless = each(lambda it: without(it, "headers"))
        fields = in_spec(lambda it: changed(it, "matches", headless))(fields)
    return flattened(fields, {}) if version in _WITHOUT_SPEC else fields


def _http_rescue(visible: Fields, original: Fields, version: str, _namespace: str) -> Fields:
    was = [mapping(it) for it in _matches(original)]

    def with_headers(match: Mapping[str, Any]) -> Mapping[str, Any]:
        same = [it for it in was if without(it, "headers") == match and "headers" in it]
        return same[0] if same and version in _WITHOUT_HEADERS else match

    return in_spec(lambda it: changed(it, "matches", each(with_headers)))(visible)


def _matches(fields: Fields) -> list[Any]:
    return entries(mapping(fields.get("spec")).get("matches"))


def _http_restrictions(fields: Fields, _namespace: str) -> Iterator[Restriction]:
    for match in map(mapping, _matches(fields)):
        if match.get("headers"):
            yield Restriction(
                key=("headers", str(match.get("name"))),
                value=match["headers"],
                field=f"spec.matches[{match.get('name')}].headers",
                said_in="v1alpha4",
            )


def _http_is_there(restriction: Restriction, old: Fields, new: Fields, _namespace: str) -> bool:
    # By its name, or by another one: a match that was renamed must not lose its headers.
    name = restriction.key[1]
    was = [_request(it) for it in map(mapping, _matches(old)) if str(it.get("name")) == name]
    return any(
        str(it.get("name")) == name or (_request(it) in was and not it.get("headers"))
        for it in map(mapping, _matches(new))
        if it not in _matches(old)
    )


def _request(match: Mapping[str, Any]) -> tuple[Any, Any]:
    return match.get("pathRegex"), match.get("methods")


HTTP_ROUTE_GROUP = Shape(
    to_hub=_to_hub,
    from_hub=_http_from_hub,
    rescue=_http_rescue,
    restrictions=_http_restrictions,
    is_there=_http_is_there,
)


def _tcp_from_hub(fields: Fields, version: str) -> Fields:
    if version in _WITH_PORTS:
        return fields
    if version in _WITHOUT_SPEC:
        return {}
    return in_spec(lambda it: without(it, "matches"))(fields)


def _tcp_rescue(visible: Fields, original: Fields, version: str, _namespace: str) -> Fields:
    was = mapping(original.get("spec"))
    if version in _WITH_PORTS or "matches" not in was:
        return visible
    return {**visible, "spec": {**mapping(visible.get("spec")), "matches": was["matches"]}}


def _tcp_restrictions(fields: Fields, _namespace: str) -> Iterator[Restriction]:
    matches = mapping(mapping(fields.get("spec")).get("matches"))
    if matches.get("ports"):
        yield Restriction(
            key=("ports",),
            value=matches["ports"],
            field="spec.matches.ports",
            said_in=_WITH_PORTS[-1],
        )


TCP_ROUTE = Shape(
    to_hub=_to_hub,
    from_hub=_tcp_from_hub,
    rescue=_tcp_rescue,
    restrictions=_tcp_restrictions,
)
