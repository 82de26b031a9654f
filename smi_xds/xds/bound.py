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
    FilterChainMatchConnectionSourceType,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector

from smi_xds.mesh.model import InboundPort, PortRef, Protocol, Workload
from smi_xds.values import Mode
from smi_xds.xds import names
from smi_xds.xds.chains import inbound_chains
from smi_xds.xds.common import socket
from smi_xds.xds.encode import encode, pack
from smi_xds.xds.filters import outbound_http, outbound_tcp
from smi_xds.xds.resources import CLUSTER, LISTENER, ROUTES, SECRET, Need, Resource

# How long a plaintext client of a server that speaks first waits in permissive mode: it sends
# nothing that the inspector could tell from TLS.
_SERVER_FIRST_WAIT = timedelta(seconds=1)


def outbound_http_listener(workload: Workload) -> Resource:
    """The listener for every HTTP service, at the workload's address and 15001."""
    chain = _for_its_own([outbound_http(workload.identity, names.OUTBOUND)])
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
    proxy = outbound_tcp(workload.identity, name, cluster)
    listener = Listener(
        name=name,
        address=socket(workload.address, local_port),
        enable_reuse_port=False,
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=[_for_its_own([proxy])],
    )
    return Resource.of(LISTENER, name, encode(listener), needs=[Need(CLUSTER, cluster)])


def _for_its_own(filters: list[Filter]) -> FilterChain:
    """A chain for connections of its own host: whoever else came in would have its identity."""
    match = FilterChainMatch(source_type=FilterChainMatchConnectionSourceType.SAME_IP_OR_LOOPBACK)
    return FilterChain(filter_chain_match=match, filters=filters)


def inbound_listener(workload: Workload, port: InboundPort) -> Resource | None:
    """The listener for one of the workload's own ports; None where nobody may connect.

    Its own fields never change with policy: only chains do, in place, so that nothing else
    drains.
    """
    chains = inbound_chains(workload, port)
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
