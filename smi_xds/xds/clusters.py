"""Clusters: one per service port for callers, one per own port for the application."""

from datetime import timedelta
from functools import cache

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterCommonLbConfigLocalityWeightedLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    ClusterTransportSocketMatch,
)
from envoy_data_plane.envoy.config.core.v3 import (
    BindConfig,
    ExtraSourceAddress,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    SocketAddress,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
    HttpProtocolOptionsUseDownstreamHttpConfig,
)
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any, Struct

from smi_xds.mesh.model import InboundPort, PortRef, Protocol, Sidecar, Workload
from smi_xds.xds import names
from smi_xds.xds.common import ads, mesh_endpoint, socket, transport_socket
from smi_xds.xds.encode import encode, pack
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, SECRET, Need, Resource
from smi_xds.xds.secrets import upstream_tls

CONNECT_TIMEOUT = timedelta(seconds=5)

# Envoy's 1,024 would make a busy service fail by itself; limits are for a policy to set.
_LIMIT = 1_000_000_000


def outbound_cluster(ref: PortRef, protocol: Protocol) -> Resource:
    """The cluster of a service port: the same bytes for whoever may call it.

    Endpoints with a sidecar are called by mTLS, the others in plaintext, told apart by their
    metadata: so the cluster itself never changes with its endpoints.
    """
    name = names.outbound_cluster(ref)
    cluster = service_cluster(name, weighted=protocol.is_tcp)
    cluster.transport_socket_matches = [
        ClusterTransportSocketMatch(
            name="mtls",
            match=mesh_endpoint(),
            transport_socket=transport_socket("tls", upstream_tls(ref)),
        ),
        ClusterTransportSocketMatch(
            name="plaintext", match=Struct(), transport_socket=_plaintext()
        ),
    ]
    cluster.typed_extension_protocol_options = _http_options(protocol)
    needs = (
        Need(ENDPOINTS, name),
        Need(SECRET, names.IDENTITY),
        Need(SECRET, names.peers(ref)),
    )
    return Resource.of(CLUSTER, name, encode(cluster), needs=needs)


def service_cluster(name: str, *, weighted: bool) -> Cluster:
    """What all clusters of service ports have; `weighted` ones a locality per backend."""
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads()),
        connect_timeout=CONNECT_TIMEOUT,
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        circuit_breakers=no_limits(),
        common_lb_config=_load_balancing(weighted=weighted),
    )


def inbound_cluster(workload: Workload, port: InboundPort) -> Resource:
    """The application itself: at its own address or, where it has none, at the one called."""
    name = names.inbound(port.number)
    cluster = _original(name, _from_sidecar(workload))
    if workload.app_address:
        endpoint = LbEndpoint(endpoint=Endpoint(address=socket(workload.app_address, port.number)))
        cluster.type = ClusterDiscoveryType.STATIC
        cluster.lb_policy = ClusterLbPolicy.ROUND_ROBIN
        cluster.load_assignment = ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        )
    cluster.typed_extension_protocol_options = _http_options(port.protocol)
    return Resource.of(CLUSTER, name, encode(cluster))


def inbound_passthrough(workload: Workload) -> Resource:
    """The application of an intercepted workload, at the address and port that were called."""
    return _inbound_passthrough(_families(workload))


@cache
def _inbound_passthrough(families: tuple[bool, ...]) -> Resource:
    name = names.INBOUND_PASSTHROUGH
    return Resource.of(CLUSTER, name, encode(_original(name, _from(families))))


@cache
def passthrough() -> Resource:
    """Wherever an intercepted application wanted to go."""
    return Resource.of(CLUSTER, names.PASSTHROUGH, encode(_original(names.PASSTHROUGH)))


@cache
def denied() -> Resource:
    """Nowhere: connections are closed without a byte."""
    cluster = Cluster(
        name=names.DENIED,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=CONNECT_TIMEOUT,
        load_assignment=ClusterLoadAssignment(cluster_name=names.DENIED),
    )
    return Resource.of(CLUSTER, names.DENIED, encode(cluster))


def _original(name: str, source: BindConfig | None = None) -> Cluster:
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.ORIGINAL_DST,
        connect_timeout=CONNECT_TIMEOUT,
        lb_policy=ClusterLbPolicy.CLUSTER_PROVIDED,
        circuit_breakers=no_limits(),
        upstream_bind_config=source,
    )


def _from_sidecar(workload: Workload) -> BindConfig | None:
    """The source by which a sidecar's connections to its own application are not redirected.

    Without it they look like a call of the workload to itself, which has to be: through 15006.
    """
    return _from(_families(workload)) if workload.sidecar is Sidecar.INTERCEPTED else None


def _families(workload: Workload) -> tuple[bool, ...]:
    """Whether it is IPv6, of the application's and the workload's addresses, each once."""
    known = (workload.app_address, workload.address, *workload.more_addresses)
    return tuple(dict.fromkeys(":" in address for address in known if address))


@cache
def _from(families: tuple[bool, ...]) -> BindConfig:
    first, *more = (
        SocketAddress(address=names.SIDECAR_SOURCE[family], port_value=0) for family in families
    )
    return BindConfig(
        source_address=first,
        extra_source_addresses=[ExtraSourceAddress(address=source) for source in more],
    )


@cache
def _plaintext() -> TransportSocket:
    return transport_socket("raw_buffer", RawBuffer())


@cache
def no_limits() -> CircuitBreakers:
    """No limit that a service could run into."""
    return CircuitBreakers(
        thresholds=[
            CircuitBreakersThresholds(
                max_connections=_LIMIT,
                max_pending_requests=_LIMIT,
                max_requests=_LIMIT,
                max_retries=_LIMIT,
            )
        ]
    )


def _load_balancing(*, weighted: bool) -> ClusterCommonLbConfig:
    """How a share of the traffic is chosen."""
    # Where no endpoint is healthy the answer is 503, never a draining endpoint ("panic").
    # For TCP a split is one locality per backend: a new weight is then endpoints alone, which
    # drains no connection (for HTTP it is a route, which drains none either).
    return ClusterCommonLbConfig(
        healthy_panic_threshold=Percent(value=0.0),
        locality_weighted_lb_config=(
            ClusterCommonLbConfigLocalityWeightedLbConfig() if weighted else None
        ),
    )


@cache
def _http_options(protocol: Protocol) -> dict[str, Any]:
    if not protocol.is_http:
        return {}
    http2 = Http2ProtocolOptions()
    if protocol is Protocol.HTTP:
        # As the caller speaks, so that HTTP/1.1, h2c and WebSocket pass unchanged.
        options = HttpProtocolOptions(
            use_downstream_protocol_config=HttpProtocolOptionsUseDownstreamHttpConfig(
                http_protocol_options=Http1ProtocolOptions(), http2_protocol_options=http2
            )
        )
    else:
        options = HttpProtocolOptions(
            explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=http2)
        )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(options)}
