"""The tunnel of a workload: where datagrams of other sidecars arrive, in CONNECT-UDP streams.

Its listener judges who opens a stream, as it judges requests. A stream asks for a port of a
service; which address and port of the application that is, stands here, and is never read from
the request.

A stream is judged once. So the listener's chain is named after the rules: where they change, the
chain is another one, and the streams of whoever was admitted before end with the drain time.
"""

from dataclasses import replace
from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Http2ProtocolOptions,
    TrafficDirection,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    AdditionalAddress,
    Filter,
    FilterChain,
    Listener,
)
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteActionUpgradeConfig,
    RouteActionUpgradeConfigConnectConfig,
    RouteConfiguration,
    RouteMatch,
    RouteMatchConnectMatcher,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as HttpRbac
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import RbacPerRoute
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from smi_xds.mesh.model import PortRef, UdpPort, Workload
from smi_xds.values import AccessMode
from smi_xds.xds import names
from smi_xds.xds.accesslog import inbound_log
from smi_xds.xds.clusters import CONNECT_TIMEOUT, no_limits
from smi_xds.xds.common import NEVER, ads, socket, transport_socket, udp_socket
from smi_xds.xds.encode import encode, pack
from smi_xds.xds.rbac import FILTER, http_rules
from smi_xds.xds.resources import (
    CLUSTER,
    LISTENER,
    ROUTES,
    SECRET,
    Need,
    Resource,
    content_version,
)
from smi_xds.xds.secrets import downstream_tls

# Streams that a caller's sidecar did not end by itself (it was cut off) are ended in the end: twice
# as late as it would have.
_FORGOTTEN = timedelta(seconds=120)

_CONNECT_UDP = "CONNECT-UDP"


def tunnel_listener(workload: Workload) -> Resource:
    """Where datagrams for all UDP ports of a workload arrive."""
    chain = FilterChain(
        name=f"{names.TUNNEL}|{_version(workload)}",
        transport_socket=transport_socket("tls", downstream_tls()),
        filters=[_tunnel_manager(workload)],
    )
    listener = Listener(
        name=names.TUNNEL,
        address=socket(workload.address, names.TUNNEL_PORT),
        additional_addresses=[
            AdditionalAddress(address=socket(address, names.TUNNEL_PORT))
            for address in workload.more_addresses
        ],
        enable_reuse_port=False,
        traffic_direction=TrafficDirection.INBOUND,
        filter_chains=[chain],
    )
    needs = [Need(ROUTES, names.TUNNEL), Need(SECRET, names.IDENTITY), Need(SECRET, names.TRUST)]
    return Resource.of(LISTENER, names.TUNNEL, encode(listener), needs=needs)


def _tunnel_manager(workload: Workload) -> Filter:
    """It knows CONNECT-UDP and nothing else; who may open a stream, its routes say."""
    rules = HttpFilter(name=FILTER, typed_config=pack(HttpRbac()))
    router = HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router()))
    manager = HttpConnectionManager(
        stat_prefix=names.TUNNEL,
        codec_type=HttpConnectionManagerCodecType.HTTP2,
        http2_protocol_options=Http2ProtocolOptions(allow_connect=True),
        rds=Rds(config_source=ads(), route_config_name=names.TUNNEL),
        stream_idle_timeout=_FORGOTTEN,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type=_CONNECT_UDP)],
        access_log=[inbound_log(workload.identity, http=True)],
        http_filters=[rules, router],
    )
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(manager))


def tunnel_routes(workload: Workload) -> Resource:
    """One route per port of a service, with the rules of the target port behind it."""
    host = VirtualHost(
        name=names.TUNNEL,
        domains=["*"],
        routes=[
            _route(workload, port, ref) for port in workload.udp_ports for ref in port.services
        ],
    )
    needs = [Need(CLUSTER, names.inbound_udp(port.number)) for port in workload.udp_ports]
    configuration = RouteConfiguration(name=names.TUNNEL, virtual_hosts=[host])
    return Resource.of(ROUTES, names.TUNNEL, encode(configuration), needs=needs)


def inbound_udp_cluster(port: UdpPort, app_address: str) -> Resource:
    """The application itself."""
    name = names.inbound_udp(port.number)
    endpoint = LbEndpoint(endpoint=Endpoint(address=udp_socket(app_address, port.number)))
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=CONNECT_TIMEOUT,
        circuit_breakers=no_limits(),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )
    return Resource.of(CLUSTER, name, encode(cluster))


def _route(workload: Workload, port: UdpPort, ref: PortRef) -> Route:
    rules = _rules(workload, port)
    return Route(
        name=str(ref),
        match=RouteMatch(
            connect_matcher=RouteMatchConnectMatcher(),
            headers=[
                HeaderMatcher(name=":path", string_match=StringMatcher(exact=names.udp_path(ref)))
            ],
        ),
        route=RouteAction(
            cluster=names.inbound_udp(port.number),
            timeout=NEVER,
            upgrade_configs=[
                RouteActionUpgradeConfig(
                    upgrade_type=_CONNECT_UDP,
                    connect_config=RouteActionUpgradeConfigConnectConfig(),
                )
            ],
        ),
        typed_per_filter_config={} if rules is None else {FILTER: pack(rules)},
    )


def _rules(workload: Workload, port: UdpPort) -> RbacPerRoute | None:
    if workload.access is AccessMode.PERMISSIVE:
        return None
    # What a TrafficTarget says of requests is not about datagrams.
    grants = tuple(replace(grant, http=None) for grant in port.grants)
    return http_rules(grants, workload.access)


def _version(workload: Workload) -> str:
    """Another one whenever somebody may have lost a right, or a name."""
    if workload.access is not AccessMode.STRICT:
        return workload.access
    era = f"|{workload.era}" if workload.era else ""
    rules = ((port.number, _rules(workload, port)) for port in workload.udp_ports)
    return content_version(b"".join(b"%d " % port + encode(it) for port, it in rules if it)) + era
