"""What a real Envoy is started with and fed in these tests, written with xds-protos."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from smi_xds.values import TypeUrl
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    Need,
    Resource,
    ResourceSet,
)

NODE: Final = "default/a"

Source: TypeAlias = Mapping[str, object]
"""Where Envoy asks for something, in its words."""

ADS: Final[Source] = {"ads": {}, "resource_api_version": "V3"}
_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_HCM: Final = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    ".HttpConnectionManager"
)

# The modules above are imported so that json_format knows the types in an Any.
_KNOWN: Final = (hcm_pb2, router_pb2, tls_pb2)


def bootstrap(port: int, *, is_delta: bool, node: str = NODE) -> dict[str, object]:
    """An Envoy that asks for everything over one aggregated stream."""
    dynamic = {"ads_config": _api(is_delta=is_delta), "cds_config": ADS, "lds_config": ADS}
    return _bootstrap(port, dynamic, node=node)


def bootstrap_without_ads(port: int, *, source: Source) -> dict[str, object]:
    """An Envoy that asks for clusters on one stream, and for listeners on another."""
    return _bootstrap(port, {"cds_config": source, "lds_config": source}, node=NODE)


def own_stream(*, is_delta: bool) -> Source:
    """A stream for one type alone; Envoy opens one for each resource that says so."""
    return {"api_config_source": _api(is_delta=is_delta), "resource_api_version": "V3"}


def _api(*, is_delta: bool) -> Mapping[str, object]:
    return {
        "api_type": "DELTA_GRPC" if is_delta else "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
    }


def _bootstrap(port: int, dynamic: Mapping[str, object], *, node: str) -> dict[str, object]:
    return {
        "node": {"id": node, "cluster": "test"},
        "dynamic_resources": dynamic,
        "static_resources": {"clusters": [_xds_cluster(port)]},
    }


def _xds_cluster(port: int) -> dict[str, object]:
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "name": "xds",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": _assignment("xds", port),
    }


def _assignment(name: str, *ports: int) -> dict[str, object]:
    lb_endpoints = [{"endpoint": {"address": _address(port)}} for port in ports]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": lb_endpoints}]}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(
    name: str, *, timeout: str = "1s", is_bad: bool = False, source: Source = ADS
) -> Resource:
    """A cluster whose endpoints come from `source`; `timeout` is something to change."""
    made: dict[str, object] = {
        "name": name,
        "type": "EDS",
        "connect_timeout": timeout,
        "eds_cluster_config": {"eds_config": source},
    }
    if is_bad:
        unknown = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {}}
        made["transport_socket"] = {"name": "no.such.socket", "typed_config": unknown}
    return _resource(CLUSTER, cluster_pb2.Cluster(), made, needs=[Need(ENDPOINTS, name)])


def endpoints(name: str, *ports: int) -> Resource:
    """A load assignment on the loopback."""
    return _resource(ENDPOINTS, endpoint_pb2.ClusterLoadAssignment(), _assignment(name, *ports))


def listener(
    name: str, port: int, *, prefix: str = "x", source: Source = ADS, certificate: str = ""
) -> Resource:
    """
    An HTTP listener whose routes come from `source`; `prefix` is something to change.

    With the name of a secret, which comes from there as well, it speaks TLS.
    """
    router = {
        "name": "router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        },
    }
    manager = {
        "@type": _HCM,
        "stat_prefix": prefix,
        "rds": {"route_config_name": name, "config_source": source},
        "http_filters": [router],
    }
    chain: dict[str, object] = {"filters": [{"name": "http", "typed_config": manager}]}
    needs = [Need(ROUTES, name)]
    if certificate:
        chain["transport_socket"] = _tls(certificate, source)
        needs.append(Need(SECRET, certificate))
    made = {"name": name, "address": _address(port), "filter_chains": [chain]}
    return _resource(LISTENER, listener_pb2.Listener(), made, needs=needs)


def _tls(certificate: str, source: Source) -> Mapping[str, object]:
    common = {"tls_certificate_sds_secret_configs": [{"name": certificate, "sds_config": source}]}
    context = {"@type": _TLS, "common_tls_context": common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def secret(name: str, *, chain: str, key: str) -> Resource:
    """A certificate and its key, in PEM."""
    certificate = {
        "certificate_chain": {"inline_string": chain},
        "private_key": {"inline_string": key},
    }
    made = {"name": name, "tls_certificate": certificate}
    return _resource(SECRET, secret_pb2.Secret(), made)


def routes(name: str, to: str, *, is_bad: bool = False) -> Resource:
    """Everything to one cluster; a bad one has two virtual hosts of one domain."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": to}}
    hosts = [
        {"name": f"h{n}", "domains": ["*"], "routes": [route]} for n in range(2 if is_bad else 1)
    ]
    made = {"name": name, "virtual_hosts": hosts}
    return _resource(ROUTES, route_pb2.RouteConfiguration(), made, needs=[Need(CLUSTER, to)])


def _resource(
    type_: TypeUrl,
    message: Message,
    fields: Mapping[str, object],
    *,
    needs: list[Need] | None = None,
) -> Resource:
    json_format.ParseDict(dict(fields), message)
    body = message.SerializeToString(deterministic=True)
    return Resource.of(
        type_, str(fields.get("name") or fields["cluster_name"]), body, needs=needs or []
    )


def served(*resources: Resource) -> dict[str, ResourceSet]:
    """What the Envoy of these tests gets."""
    layers: dict[TypeUrl, dict[str, Resource]] = {}
    for each in resources:
        layers.setdefault(each.type, {})[each.name] = each
    return {NODE: ResourceSet({type_: (layer,) for type_, layer in layers.items()})}
