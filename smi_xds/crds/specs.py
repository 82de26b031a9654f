"""specs.smi-spec.io: HTTPRouteGroup, TCPRoute and UDPRoute."""

from typing import Any

from smi_xds.crds.schema import Schema, a_list, a_text, an_object, column, texts

_METHODS = [
    "*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
]  # fmt: skip
_WITHOUT_SPEC = ("v1alpha1", "v1alpha2")


def http(version: str) -> Schema:
    """Schema of the root of an HTTPRouteGroup, without what all objects have."""
    description = (
        "Names kinds of HTTP requests. By itself it does nothing: TrafficTargets allow what it "
        "describes, and TrafficSplits apply to it."
    )
    matches = a_list(
        "A request belongs to the group if it fits any of these.",
        _match(),
        # "The name is the primary key" (traffic-specs): TrafficTargets refer to it.
        **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    if version in _WITHOUT_SPEC:
        return an_object(description, {"matches": matches}, required=["matches"])
    spec = an_object("The matches of the group.", {"matches": matches}, required=["matches"])
    return an_object(description, {"spec": spec}, required=["spec"])


def http_columns(version: str) -> list[dict[str, Any]]:
    """What `kubectl get htr` shows."""
    at = "" if version in _WITHOUT_SPEC else ".spec"
    return [column("Matches", f"{at}.matches", "What it matches.", priority=1)]


def _match() -> Schema:
    return an_object(
        "Fits a request that has the path, one of the methods, and all of the headers; what is "
        "left out fits every request.",
        {
            "name": a_text("By what TrafficTargets refer to it; unique in the group."),
            "pathRegex": a_text(
                "Regular expression (RE2) for the beginning of the path, which is normalised "
                "first. /api fits /api, /api/x and /apiary; write /api(/.*)?$ for less. The "
                "query is no part of it."
            ),
            "methods": a_list(
                "HTTP methods; '*' is every method.", {"type": "string", "enum": _METHODS}
            ),
            "headers": _headers(),
        },
        required=["name"],
    )


def _headers() -> Schema:
    # Texts and clients of SMI differ: smi-sdk-go writes a list of maps with one entry each, later
    # texts one map. A schema can have but one type, so this one has none, and says of each form
    # what is in it. The published schema of v1alpha1 has it too: pruned, it would not restrict.
    a_map = {"additionalProperties": texts()}
    return {
        "description": "Regular expressions (RE2) by header name, as a list of maps with one "
        "entry each (smi-sdk-go) or as one map. Each has to fit the whole value.",
        "x-kubernetes-preserve-unknown-fields": True,
        "items": {"type": "object", **a_map},
        **a_map,
    }


def ports(version: str, *, transport: str) -> Schema:
    """Schema of the root of a TCPRoute or UDPRoute."""
    description = (
        f"Names {transport} ports of a destination. By itself it does nothing: TrafficTargets "
        "allow what it describes."
    )
    if version in _WITHOUT_SPEC:
        return an_object(f"{description} In this version, all ports.", {})
    if version == "v1alpha3":
        # Nothing can be said here. What somebody says all the same is refused and not pruned:
        # without its ports a route means every port.
        closed: Schema = {"x-kubernetes-preserve-unknown-fields": True, "maxProperties": 0}
        spec = an_object("Nothing: all ports. Ports can be listed since v1alpha4.", {}, **closed)
        return an_object(description, {"spec": spec})
    number = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}
    # Neither is required: Go clients leave an empty list out, and write `matches: {}`.
    matches = an_object(
        "The ports; every port, where left out.",
        {
            "name": a_text("A name for people; nothing refers to it."),
            "ports": a_list(
                "Ports of the destination's pods (target ports of its services); every port, "
                "where left out or empty.",
                number,
            ),
        },
    )
    spec = an_object("The ports; every port, where left out.", {"matches": matches})
    return an_object(description, {"spec": spec})


def ports_columns(version: str) -> list[dict[str, Any]]:
    """What `kubectl get tr,ur` shows."""
    if version != "v1alpha4":
        return []
    path = ".spec.matches.ports"
    return [column("Ports", path, "Ports of the destination's pods; none stands for all.")]
