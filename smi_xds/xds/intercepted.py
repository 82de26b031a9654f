"""Listeners of intercepted sidecars: what a workload sends and gets is redirected to two ports.

Outbound, 15001 hands each connection to the listener of its destination, which is bound to no
port: changing one leaves connections of the others alone. These are the same bytes for every
caller. Inbound, 15006 has chains by port: the fields of the listener itself never change, so that
only the connections of a chain that changed are drained.
"""

from datetime import timedelta
from functools import cache

from envoy_data_plane.envoy.config.core.v3 import Address, TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import (
    AdditionalAddress,
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.extensions.filters.listener.original_dst.v3 import OriginalDst
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector

from smi_xds.mesh.model import Destination, Egress, PortRef, Protocol, Workload
from smi_xds.mesh.workloads import RESERVED_PORTS
from smi_xds.values import AccessMode, Mode
from smi_xds.xds import names
from smi_xds.xds.chains import inbound_chains
from smi_xds.xds.common import socket
from smi_xds.xds.encode import encode, pack
from smi_xds.xds.fields import Message
from smi_xds.xds.filters import inbound_tcp, outbound_http, outbound_tcp
from smi_xds.xds.rbac import tcp_shadow
from smi_xds.xds.resources import CLUSTER, LISTENER, ROUTES, SECRET, Need, Resource

# How long a connection may be silent before it counts as plaintext: a plaintext client of a server
# that speaks first sends nothing that the inspector could tell from TLS. The same in every mode,
# so that a new mode drains nothing; callers of the mesh have said hello long before.
_INSPECTION = timedelta(seconds=3)

_GUARD = "guard"


def virtual_outbound(workload: Workload) -> Resource:
    """The listener to which everything is redirected that the workload sends.

    What no other listener claims goes on to where it was going, or nowhere where egress is closed.
    """
    return _virtual_outbound(workload.egress, _families(workload))


@cache
def _virtual_outbound(egress: Egress, families: frozenset[bool]) -> Resource:
    default = names.PASSTHROUGH if egress is Egress.OPEN else names.DENIED
    listener = Listener(
        name=names.OUTBOUND,
        enable_reuse_port=False,
        use_original_dst=True,
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=[_guard(names.OUTBOUND_PORT, outbound_tcp(None, _GUARD, names.DENIED))],
        default_filter_chain=FilterChain(
            name=default, filters=[outbound_tcp(None, default, default)]
        ),
    )
    # Redirected connections arrive at loopback: nobody else has any business here.
    _at(listener, families, names.OUTBOUND_PORT, ("127.0.0.1", "::1"))
    needs = [Need(CLUSTER, names.DENIED), Need(CLUSTER, default)]
    return Resource.of(LISTENER, names.OUTBOUND, encode(listener), needs=needs)


def outbound_listener(
    destination: Destination, ref: PortRef, protocol: Protocol, *, allowed: bool
) -> Resource:
    """The listener of a service port's address, or of one pod's of a headless service.

    It is named by the address: Envoy takes no second listener for one. Requests are denied by
    their route; connections go to a cluster without endpoints, which closes them without a byte.
    """
    name, routes = names.outbound_at(destination), names.outbound_routes(ref)
    if protocol.is_http:
        filter_, needs = outbound_http(None, routes), [Need(ROUTES, routes)]
    else:
        cluster = names.outbound_cluster(ref) if allowed else names.DENIED
        filter_ = outbound_tcp(None, routes, cluster)
        needs = [Need(CLUSTER, cluster)]
    listener = Listener(
        name=name,
        address=socket(destination.address, destination.port),
        bind_to_port=False,
        enable_reuse_port=False,
        traffic_direction=TrafficDirection.OUTBOUND,
        filter_chains=[FilterChain(filters=[filter_])],
    )
    return Resource.of(LISTENER, name, encode(listener), needs=needs)


def virtual_inbound(workload: Workload) -> Resource:
    """The listener to which everything is redirected that others send to the workload."""
    chains = [*_inbound_guards()]
    needs = {Need(CLUSTER, names.DENIED)}
    for port in workload.ports:
        found = inbound_chains(workload, port)
        for chain in found:
            assert chain.filter_chain_match is not None
            chain.name = f"{names.inbound(port.number)}|{chain.name}"
            chain.filter_chain_match.destination_port = port.number
        if found:
            name = names.inbound(port.number)
            needs |= {Need(SECRET, names.IDENTITY), Need(SECRET, names.TRUST), Need(CLUSTER, name)}
            needs |= {Need(ROUTES, name)} if port.protocol.is_http else set()
        chains += found
    if _is_open(workload):
        # Ports that no service names: nobody can have been granted anything there.
        chains.append(_undeclared(workload))
        needs.add(Need(CLUSTER, names.INBOUND_PASSTHROUGH))
    listener = Listener(
        name=names.INBOUND,
        enable_reuse_port=False,
        traffic_direction=TrafficDirection.INBOUND,
        listener_filters=_inspectors(),
        listener_filters_timeout=_INSPECTION,
        continue_on_listener_filters_timeout=True,
        filter_chains=chains,
    )
    # All addresses are those of its own pod.
    _at(listener, _families(workload), names.INBOUND_PORT, ("0.0.0.0", "::"))  # noqa: S104
    return Resource.of(LISTENER, names.INBOUND, encode(listener), needs=needs)


def _guard(port: int, nowhere: Filter) -> FilterChain:
    """What is meant for a port of the sidecar itself goes nowhere: never round and round."""
    return FilterChain(
        name=f"{_GUARD}|{port}",
        filter_chain_match=FilterChainMatch(destination_port=port),
        filters=[nowhere],
    )


@cache
def _inbound_guards() -> tuple[FilterChain, ...]:
    nowhere = inbound_tcp(None, _GUARD, names.DENIED)
    return tuple(_guard(port, nowhere) for port in sorted(RESERVED_PORTS))


def _is_open(workload: Workload) -> bool:
    return workload.mtls is Mode.PERMISSIVE and workload.access is not AccessMode.STRICT


def _undeclared(workload: Workload) -> FilterChain:
    name = names.INBOUND_PASSTHROUGH
    filters = [inbound_tcp(workload.identity, name, name)]
    if workload.access is AccessMode.SHADOW:
        filters.insert(0, tcp_shadow(name, ()))
    return FilterChain(name=name, filters=filters)


@cache
def _inspectors() -> list[ListenerFilter]:
    return [
        _listener_filter("original_dst", OriginalDst()),
        _listener_filter("tls_inspector", TlsInspector()),
    ]


def _listener_filter(kind: str, config: Message) -> ListenerFilter:
    return ListenerFilter(name=f"envoy.filters.listener.{kind}", typed_config=pack(config))


def _families(workload: Workload) -> frozenset[bool]:
    """Whether it has IPv6 addresses (True), IPv4 ones (False), or both."""
    return frozenset(":" in it for it in (workload.address, *workload.more_addresses))


def _at(
    listener: Listener, families: frozenset[bool], port: int, addresses: tuple[str, str]
) -> None:
    """Bind one address of each family."""
    first, *more = _sockets(families, port, addresses)
    listener.address = first
    listener.additional_addresses = [AdditionalAddress(address=it) for it in more]


@cache
def _sockets(
    families: frozenset[bool], port: int, addresses: tuple[str, str]
) -> tuple[Address, ...]:
    return tuple(socket(it, port) for it in addresses if (":" in it) in families)
