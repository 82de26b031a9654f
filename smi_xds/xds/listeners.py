"""Listeners of bound sidecars: nothing is intercepted, every address is the workload's own.

`enable_reuse_port` is off: Envoy would share an address with another sidecar on the same host in
silence, and one workload's request would leave with another's identity.
"""

from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector

from smi_xds.mesh.model import InboundPort, PortRef, Protocol, Workload
from smi_xds.values import AccessMode, Mode, SpiffeId
from smi_xds.xds import names
from smi_xds.xds.common import host, socket, transport_socket
from smi_xds.xds.encode import encode, pack
from smi_xds.xds.filters import inbound_http, outbound_http, tcp_proxy
from smi_xds.xds.rbac import tcp_shadow
from smi_xds.xds.resources import CLUSTER, LISTENER, ROUTES, SECRET, Need, Resource
from smi_xds.xds.secrets import downstream_tls

# How long a plaintext client of a server that speaks first waits in permissive mode: it sends
# nothing that the inspector could tell from TLS.
_SERVER_FIRST_WAIT = timedelta(seconds=1)


def outbound_http_listener(workload: Workload) -> Resource:
    """The listener for every HTTP service, at the workload's address and 15001."""
    chain = FilterChain(filters=[outbound_http(workload.identity, names.OUTBOUND)])
    listener = Listener(
        name=names.OUTBOUND,
        address=socket(workload.address, names.OUTBOUND_PORT),
        enable_reuse_port=False,
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=[chain],
    )
    needs = [Need(ROUTES, names.OUTBOUND)]
    return Resource.of(LISTENER, names.OUTBOUND, encode(listener), needs=needs)


def outbound_tcp_listener(workload: Workload, ref: PortRef, local_port: int) -> Resource:
    """The listener for one TCP service, at the workload's address and a port of its own."""
    name, cluster = names.outbound_tcp(ref), names.outbound_cluster(ref)
    proxy = tcp_proxy(workload.identity, name, cluster, inbound=False)
    listener = Listener(
        name=name,
        address=socket(workload.address, local_port),
        enable_reuse_port=False,
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=[FilterChain(filters=[proxy])],
    )
    return Resource.of(LISTENER, name, encode(listener), needs=[Need(CLUSTER, cluster)])


def inbound_listener(workload: Workload, port: InboundPort) -> Resource | None:
    """The listener for one of the workload's own ports; None where nobody may connect.

    Its own fields never change with policy: only chains do, in place, so that nothing else
    drains.
    """
    chains = _http_chains(workload, port) if port.protocol.is_http else _tcp_chains(workload, port)
    if not chains:
        return None
    name = names.inbound(port.number)
    waits = port.protocol is Protocol.SERVER_FIRST and workload.mtls is Mode.PERMISSIVE
    listener = Listener(
        name=name,
        address=socket(workload.address, port.number),
        enable_reuse_port=False,
        traffic_direction=TrafficDirection.INBOUND,
        listener_filters=[
            ListenerFilter(
                name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector())
            )
        ],
        listener_filters_timeout=_SERVER_FIRST_WAIT if waits else None,
        continue_on_listener_filters_timeout=waits,
        filter_chains=chains,
    )
    kind, needed = (ROUTES, name) if port.protocol.is_http else (CLUSTER, name)
    needs = [
        Need(kind, needed),
        Need(CLUSTER, name),
        Need(SECRET, names.IDENTITY),
        Need(SECRET, names.TRUST),
    ]
    return Resource.of(LISTENER, name, encode(listener), needs=needs)


def _http_chains(workload: Workload, port: InboundPort) -> list[FilterChain]:
    filters = [inbound_http(workload.identity, names.inbound(port.number))]
    if workload.mtls is Mode.PERMISSIVE and workload.access is not AccessMode.STRICT:
        # TLS without our ALPN is the application's own; so gRPC clients call it in plaintext.
        own = _own_tls(_to_app(workload, port))
        return [_mtls(filters), _plaintext(filters), own]
    chains = [_mtls(filters, grpc=True)]
    if workload.mtls is Mode.PERMISSIVE:
        # Judged by the same rules: with strict access a caller without a name gets 403.
        chains.append(_plaintext(filters))
    return chains


def _tcp_chains(workload: Workload, port: InboundPort) -> list[FilterChain]:
    filters = _to_app(workload, port)
    if workload.access is AccessMode.STRICT:
        return _judged_in_the_handshake(filters, port)
    chains = [_mtls(filters)]
    if workload.mtls is Mode.PERMISSIVE:
        chains += [_plaintext(filters), _own_tls(filters)]
    return chains


def _judged_in_the_handshake(filters: list[Filter], port: InboundPort) -> list[FilterChain]:
    """Chains that list who may connect: a denied caller gets no byte, not even a greeting.

    Those who are bound to addresses stand in a chain of each address, beside those who are not:
    Envoy takes the chain of the longest prefix and looks at no other. With nobody allowed there
    is no chain: an empty list would admit everyone.
    """
    chains = []
    if anywhere := port.admitted():
        chains.append(_mtls(filters, callers=anywhere))
    for address in port.addresses:
        chain = _mtls(filters, callers=port.admitted(address))
        chain.name = f"mtls|{address}"
        assert chain.filter_chain_match is not None
        chain.filter_chain_match.source_prefix_ranges = [host(address)]
        chains.append(chain)
    return chains


def _to_app(workload: Workload, port: InboundPort) -> list[Filter]:
    """Hand over as it is; in shadow mode what would have been denied is counted on the way."""
    name = names.inbound(port.number)
    proxy = tcp_proxy(workload.identity, name, name, inbound=True)
    if workload.access is AccessMode.SHADOW:
        return [tcp_shadow(name, tuple(g for g in port.grants if g.tcp)), proxy]
    return [proxy]


def _mtls(
    filters: list[Filter], *, callers: tuple[SpiffeId, ...] | None = None, grpc: bool = False
) -> FilterChain:
    """TLS with a certificate of the mesh, from sidecars and, with `grpc`, from gRPC clients.

    The latter offer `h2` and insist that it is chosen. Sidecars do not offer it: for them nothing
    is chosen, and the codec is detected.
    """
    chosen = (names.GRPC_ALPN,) if grpc else ()
    return FilterChain(
        name="mtls",
        filter_chain_match=FilterChainMatch(
            transport_protocol="tls", application_protocols=[names.ALPN, *chosen]
        ),
        transport_socket=transport_socket("tls", downstream_tls(callers, alpn=chosen)),
        filters=filters,
    )


def _plaintext(filters: list[Filter]) -> FilterChain:
    return FilterChain(
        name="plaintext",
        filter_chain_match=FilterChainMatch(transport_protocol="raw_buffer"),
        filters=filters,
    )


def _own_tls(filters: list[Filter]) -> FilterChain:
    """TLS that is the application's own affair: passed on as it is."""
    return FilterChain(
        name="app-tls",
        filter_chain_match=FilterChainMatch(transport_protocol="tls"),
        filters=filters,
    )
