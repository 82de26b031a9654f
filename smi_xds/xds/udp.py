"""UDP services as a sidecar offers them: a local port each, from which tunnels lead.

Datagrams go in CONNECT-UDP streams (RFC 9298) over mTLS and HTTP/2, one for each session (one
client's address and port), to the tunnel of the workload that is called (`xds.tunnel`).
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address

from envoy_data_plane.envoy.config.core.v3 import (
    Http2ProtocolOptions,
    SocketOption,
    TrafficDirection,
    UdpSocketConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    Listener,
    ListenerFilter,
    UdpListenerConfig,
)
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3 import (
    FilterConfig as HttpCapsule,
)
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import Route as UdpRoute
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import (
    UdpProxyConfig,
    UdpProxyConfigSessionFilter,
    UdpProxyConfigUdpTunnelingConfig,
    UdpProxyConfigUdpTunnelingConfigBufferOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig
from envoy_data_plane.xds.type.matcher.v3 import Matcher, MatcherOnMatch

from smi_xds.mesh.model import Endpoint as MeshEndpoint
from smi_xds.mesh.model import PortRef, Sidecar, Workload
from smi_xds.xds import names
from smi_xds.xds.accesslog import session_log
from smi_xds.xds.clusters import service_cluster
from smi_xds.xds.common import transport_socket, udp_socket
from smi_xds.xds.encode import encode, pack
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    SECRET,
    Need,
    Resource,
)
from smi_xds.xds.secrets import upstream_tls
from smi_xds.xds.tunnel import inbound_udp_cluster, tunnel_listener, tunnel_routes

SESSION_IDLE = timedelta(seconds=60)
"""A session without a datagram for so long, in either direction, is over; the next datagram begins
another one, maybe at another backend. As long as Envoy's own default."""

# Envoy drops datagrams over 1,500 bytes unless told; this is the longest that UDP can carry.
_LONGEST_DATAGRAM = 65_535

# Linux queues 208 kB of datagrams for a socket unless asked for more, which is some 20 of 8 kB:
# bursts are lost before Envoy sees them. It grants up to net.core.rmem_max.
_RECEIVE_BUFFER = SocketOption(description="SO_RCVBUF", level=1, name=8, int_value=4 * 1024 * 1024)

# What may wait until the stream is open: without a buffer the first datagrams of each session
# would be lost.
_WAITING_BYTES, _WAITING_DATAGRAMS = 256 * 1024, 1024


def udp_resources(
    workload: Workload, local: tuple[tuple[PortRef, int, bool], ...]
) -> Iterator[Resource]:
    """All of UDP that stands beside the clusters of services: the same in every mode.

    `local` are the UDP services that it may call: each with its local port, and whether nobody
    behind it has a sidecar.
    """
    for ref, port, outside in local:
        yield outbound_udp_listener(workload, ref, port, outside=outside)
    if workload.udp_ports:
        yield tunnel_routes(workload)
        yield tunnel_listener(workload)
    for served in workload.udp_ports:
        yield inbound_udp_cluster(served, workload.app_address)


def outbound_udp_listener(
    workload: Workload, ref: PortRef, local_port: int, *, outside: bool
) -> Resource:
    """The listener for one UDP service, at the workload's address and a port of its own."""
    name, cluster = names.outbound_udp(ref), names.outbound_cluster(ref)
    proxy = UdpProxyConfig(
        stat_prefix=name,
        matcher=_always(cluster),
        idle_timeout=SESSION_IDLE,
        upstream_socket_config=_datagrams(),
        access_log=[session_log(workload.identity)],
    )
    if not outside:
        _tunnel(proxy, ref)
    listener = Listener(
        name=name,
        # For its own application alone: whoever else could send here would have its identity.
        address=udp_socket(own_address(workload), local_port),
        # Another sidecar at a bound address must fail to bind it, not share it. So Envoy has to
        # run with one worker, which it insists on for a UDP port that is not shared. Loopback in
        # a network namespace is nobody else's.
        enable_reuse_port=workload.sidecar is Sidecar.INTERCEPTED,
        traffic_direction=TrafficDirection.OUTBOUND,
        udp_listener_config=UdpListenerConfig(downstream_socket_config=_datagrams()),
        socket_options=[_RECEIVE_BUFFER],
        listener_filters=[
            ListenerFilter(name="envoy.filters.udp_listener.udp_proxy", typed_config=pack(proxy))
        ],
    )
    return Resource.of(LISTENER, name, encode(listener), needs=[Need(CLUSTER, cluster)])


def outbound_udp_cluster(ref: PortRef, *, outside: bool) -> Resource:
    """The cluster of a UDP service port: tunnels by mTLS, or the endpoints themselves.

    A split is one locality per backend; which one a session goes to is decided at its start.
    """
    name = names.outbound_cluster(ref)
    cluster = service_cluster(name, weighted=True)
    needs = [Need(ENDPOINTS, name)]
    if not outside:
        http2 = Http2ProtocolOptions(allow_connect=True)
        options = HttpProtocolOptions(
            explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=http2)
        )
        cluster.typed_extension_protocol_options = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(options)
        }
        cluster.transport_socket = transport_socket("tls", upstream_tls(ref))
        needs += [Need(SECRET, names.IDENTITY), Need(SECRET, names.peers(ref))]
    return Resource.of(CLUSTER, name, encode(cluster), needs=needs)


def own_address(workload: Workload) -> str:
    """Where a workload's local UDP ports are: at loopback wherever there is one of its own.

    Envoy cannot tell who sends a datagram, and whoever can send one here has its identity.
    """
    if workload.sidecar is Sidecar.INTERCEPTED:
        return "::1" if ":" in workload.address else "127.0.0.1"
    if ip_address(workload.address).is_loopback:
        return workload.address
    # A VM: its application's address, if that is loopback; else there is nothing better.
    app = workload.app_address
    return app if ip_address(app).is_loopback else workload.address


def tunnel_ends(endpoints: tuple[MeshEndpoint, ...]) -> tuple[MeshEndpoint, ...]:
    """Where the tunnels to these endpoints end; those without a sidecar have none."""
    # Two ports of one pod have one tunnel.
    return tuple(
        dict.fromkeys(
            replace(endpoint, port=names.TUNNEL_PORT)
            for endpoint in endpoints
            if endpoint.identity is not None
        )
    )


def _always(cluster: str) -> Matcher:
    # The `cluster` of UdpProxyConfig is deprecated.
    action = TypedExtensionConfig(name="route", typed_config=pack(UdpRoute(cluster=cluster)))
    return Matcher(on_no_match=MatcherOnMatch(action=action))


def _tunnel(proxy: UdpProxyConfig, ref: PortRef) -> None:
    host = names.udp_host(ref)
    proxy.session_filters = [
        UdpProxyConfigSessionFilter(
            name="envoy.filters.udp.session.http_capsule", typed_config=pack(HttpCapsule())
        )
    ]
    proxy.tunneling_config = UdpProxyConfigUdpTunnelingConfig(
        proxy_host=host,
        target_host=host,
        default_target_port=ref.port,
        buffer_options=UdpProxyConfigUdpTunnelingConfigBufferOptions(
            max_buffered_bytes=_WAITING_BYTES, max_buffered_datagrams=_WAITING_DATAGRAMS
        ),
    )


def _datagrams() -> UdpSocketConfig:
    return UdpSocketConfig(max_rx_datagram_size=_LONGEST_DATAGRAM)
