"""What Envoy's discovery services and their messages look like on the wire.

A table, because importing `envoy_data_plane.envoy.service.discovery.v3` costs 0.5 s and 16 MB
(it brings a second gRPC library). A test holds it equal to that module's metadata.
"""

from collections.abc import Mapping
from typing import Final

from smi_xds.xds.protofile import FieldSpec, MethodSpec, PackageSpec

DISCOVERY: Final = "envoy.service.discovery.v3"

_NODE: Final = "envoy.config.core.v3.Node"
_CONTROL_PLANE: Final = "envoy.config.core.v3.ControlPlane"
_METADATA: Final = "envoy.config.core.v3.Metadata"
_STATUS: Final = "google.rpc.Status"
_ANY: Final = "google.protobuf.Any"
_DURATION: Final = "google.protobuf.Duration"

# (number, name, type, oneof); types without a dot are scalars or messages of this package.
_Row = tuple[int, str, str] | tuple[int, str, str, str]
_MESSAGES: Final[Mapping[str, tuple[_Row, ...]]] = {
    "AdsDummy": (),
    "DeltaDiscoveryRequest": (
        (1, "node", _NODE),
        (2, "type_url", "string"),
        (3, "resource_names_subscribe", "repeated string"),
        (4, "resource_names_unsubscribe", "repeated string"),
        (8, "resource_locators_subscribe", "repeated ResourceLocator"),
        (9, "resource_locators_unsubscribe", "repeated ResourceLocator"),
        (5, "initial_resource_versions", "map string"),
        (6, "response_nonce", "string"),
        (7, "error_detail", _STATUS),
    ),
    "DeltaDiscoveryResponse": (
        (1, "system_version_info", "string"),
        (2, "resources", "repeated Resource"),
        (4, "type_url", "string"),
        (6, "removed_resources", "repeated string"),
        (8, "removed_resource_names", "repeated ResourceName"),
        (5, "nonce", "string"),
        (7, "control_plane", _CONTROL_PLANE),
        (9, "resource_errors", "repeated ResourceError"),
    ),
    "DiscoveryRequest": (
        (1, "version_info", "string"),
        (2, "node", _NODE),
        (3, "resource_names", "repeated string"),
        (7, "resource_locators", "repeated ResourceLocator"),
        (4, "type_url", "string"),
        (5, "response_nonce", "string"),
        (6, "error_detail", _STATUS),
    ),
    "DiscoveryResponse": (
        (1, "version_info", "string"),
        (2, "resources", f"repeated {_ANY}"),
        (3, "canary", "bool"),
        (4, "type_url", "string"),
        (5, "nonce", "string"),
        (6, "control_plane", _CONTROL_PLANE),
        (7, "resource_errors", "repeated ResourceError"),
    ),
    "DynamicParameterConstraints": (
        (1, "constraint", "DynamicParameterConstraints.SingleConstraint", "type"),
        (2, "or_constraints", "DynamicParameterConstraints.ConstraintList", "type"),
        (3, "and_constraints", "DynamicParameterConstraints.ConstraintList", "type"),
        (4, "not_constraints", "DynamicParameterConstraints", "type"),
    ),
    "DynamicParameterConstraints.ConstraintList": (
        (1, "constraints", "repeated DynamicParameterConstraints"),
    ),
    "DynamicParameterConstraints.SingleConstraint": (
        (1, "key", "string"),
        (2, "value", "string", "constraint_type"),
        (3, "exists", "DynamicParameterConstraints.SingleConstraint.Exists", "constraint_type"),
    ),
    "DynamicParameterConstraints.SingleConstraint.Exists": (),
    "Resource": (
        (3, "name", "string"),
        (8, "resource_name", "ResourceName"),
        (4, "aliases", "repeated string"),
        (1, "version", "string"),
        (2, "resource", _ANY),
        (6, "ttl", _DURATION),
        (7, "cache_control", "Resource.CacheControl"),
        (9, "metadata", _METADATA),
    ),
    "Resource.CacheControl": ((1, "do_not_cache", "bool"),),
    "ResourceError": ((1, "resource_name", "ResourceName"), (2, "error_detail", _STATUS)),
    "ResourceLocator": ((1, "name", "string"), (2, "dynamic_parameters", "map string")),
    "ResourceName": (
        (1, "name", "string"),
        (2, "dynamic_parameter_constraints", "DynamicParameterConstraints"),
    ),
}


def _unary(name: str) -> MethodSpec:
    request, response = f"{DISCOVERY}.DiscoveryRequest", f"{DISCOVERY}.DiscoveryResponse"
    return MethodSpec(name=name, input=request, output=response, streaming=False)


def _stream(name: str) -> MethodSpec:
    request, response = f"{DISCOVERY}.DiscoveryRequest", f"{DISCOVERY}.DiscoveryResponse"
    return MethodSpec(name=name, input=request, output=response, streaming=True)


def _delta(name: str) -> MethodSpec:
    request, response = f"{DISCOVERY}.DeltaDiscoveryRequest", f"{DISCOVERY}.DeltaDiscoveryResponse"
    return MethodSpec(name=name, input=request, output=response, streaming=True)


def _per_type(noun: str) -> tuple[MethodSpec, ...]:
    return (_stream(f"Stream{noun}"), _delta(f"Delta{noun}"), _unary(f"Fetch{noun}"))


SERVICES: Final[Mapping[str, Mapping[str, tuple[MethodSpec, ...]]]] = {
    DISCOVERY: {
        f"{DISCOVERY}.AggregatedDiscoveryService": (
            _stream("StreamAggregatedResources"),
            _delta("DeltaAggregatedResources"),
        ),
    },
    "envoy.service.cluster.v3": {
        "envoy.service.cluster.v3.ClusterDiscoveryService": _per_type("Clusters"),
    },
    "envoy.service.endpoint.v3": {
        "envoy.service.endpoint.v3.EndpointDiscoveryService": _per_type("Endpoints"),
    },
    "envoy.service.listener.v3": {
        "envoy.service.listener.v3.ListenerDiscoveryService": _per_type("Listeners"),
    },
    "envoy.service.route.v3": {
        "envoy.service.route.v3.RouteDiscoveryService": _per_type("Routes"),
    },
    "envoy.service.secret.v3": {
        "envoy.service.secret.v3.SecretDiscoveryService": _per_type("Secrets"),
    },
}
"""Per package, each service's methods."""


def discovery_package() -> PackageSpec:
    """The discovery envelopes and the aggregated service."""
    messages = {
        f"{DISCOVERY}.{name}": tuple(_field(*row) for row in rows)
        for name, rows in _MESSAGES.items()
    }
    services = SERVICES[DISCOVERY]
    return PackageSpec(name=DISCOVERY, messages=messages, enums={}, services=services)


def _field(number: int, name: str, text: str, oneof: str | None = None) -> FieldSpec:
    match text.split():
        case ["map", value]:
            key = FieldSpec(name="key", number=1, type="string")
            entry = (key, FieldSpec(name="value", number=2, type=value))
            return FieldSpec(name=name, number=number, type="map", entry=entry)
        case ["repeated", element]:
            return FieldSpec(name=name, number=number, type=_full(element), repeated=True)
        case _:
            return FieldSpec(name=name, number=number, type=_full(text), oneof=oneof)


def _full(name: str) -> str:
    return f"{DISCOVERY}.{name}" if name[:1].isupper() else name
