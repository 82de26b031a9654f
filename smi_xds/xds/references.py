"""What an encoded resource refers to by name, found by reading it.

The generators of this room know what they refer to. For resources that somebody else made, a name
too many does no harm: nothing waits for what does not exist.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from smi_xds.values import TypeUrl
from smi_xds.xds.descriptors import message_class
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, ROUTES, SECRET, Need

_CLUSTER_MESSAGE: Final = "envoy.config.cluster.v3.Cluster"
_EDS: Final = 3  # Cluster.DiscoveryType

# By message: the field that names a resource of the type.
_NAMES: Final[Mapping[str, tuple[str, TypeUrl]]] = {
    "envoy.config.core.v3.GrpcService.EnvoyGrpc": ("cluster_name", CLUSTER),
    "envoy.config.core.v3.HttpUri": ("cluster", CLUSTER),
    "envoy.config.route.v3.RouteAction": ("cluster", CLUSTER),
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy": ("cluster", CLUSTER),
    "envoy.config.route.v3.WeightedCluster.ClusterWeight": ("name", CLUSTER),
    "envoy.extensions.filters.network.http_connection_manager.v3.Rds": (
        "route_config_name",
        ROUTES,
    ),
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": ("cluster", CLUSTER),
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight": (
        "name",
        CLUSTER,
    ),
    "envoy.extensions.filters.udp.udp_proxy.v3.Route": ("cluster", CLUSTER),
    "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig": ("cluster", CLUSTER),
    "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig": ("name", SECRET),
}


def references(type_: TypeUrl, body: bytes) -> frozenset[Need]:
    """The resources that this one names; none where nobody here knows its type."""
    return frozenset(need for need in _packed(type_, body) if need.name)


def _packed(url: str, body: bytes) -> Iterator[Need]:
    try:
        message = message_class(url.rpartition("/")[2]).FromString(body)
    except (ValueError, DecodeError):
        return
    yield from _of(message)


def _of(message: Message) -> Iterator[Need]:
    full_name, fields = message.DESCRIPTOR.full_name, {}
    for descriptor, value in message.ListFields():
        fields[descriptor.name] = value
        if descriptor.message_type is not None:
            for child in _children(value):
                yield from _of(child)
    if full_name == "google.protobuf.Any":
        yield from _packed(fields.get("type_url", ""), fields.get("value", b""))
    elif full_name == _CLUSTER_MESSAGE and fields.get("type") == _EDS:
        eds: Any = fields.get("eds_cluster_config")
        service = eds.service_name if eds is not None else ""
        yield Need(ENDPOINTS, service or fields.get("name", ""))
    elif full_name in _NAMES:
        field, type_ = _NAMES[full_name]
        yield Need(type_, fields.get(field, ""))


def _children(value: Any) -> Iterator[Message]:
    """The messages in a field: one, a list of them, or a map of them."""
    if isinstance(value, Message):
        yield value
    elif hasattr(value, "values"):
        yield from (child for child in value.values() if isinstance(child, Message))
    else:
        yield from value
