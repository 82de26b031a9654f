"""Chains of inbound listeners: who is let in on a port, and by which protocol.

The same for bound and intercepted sidecars; what a chain matches beside that is the listener's.
"""

from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import TransportSocket
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch

from smi_xds.mesh.model import InboundPort, Sidecar, Workload
from smi_xds.values import AccessMode, Mode, SpiffeId
from smi_xds.xds import names
from smi_xds.xds.common import host, transport_socket
from smi_xds.xds.filters import inbound_http, inbound_tcp
from smi_xds.xds.rbac import tcp_shadow
from smi_xds.xds.secrets import downstream_tls


def inbound_chains(workload: Workload, port: InboundPort) -> list[FilterChain]:
    """The chains of one of the workload's own ports; none where nobody may connect."""
    return _http_chains(workload, port) if port.protocol.is_http else _tcp_chains(workload, port)


def _http_chains(workload: Workload, port: InboundPort) -> list[FilterChain]:
    filters = [inbound_http(_logged(workload), names.inbound(port.number))]
    if workload.mtls is Mode.PERMISSIVE and workload.access is not AccessMode.STRICT:
        # TLS without our ALPN is the application's own; so gRPC clients call it in plaintext.
        own = _own_tls(_to_app(workload, port))
        return [_mtls(filters, era=workload.era), _plaintext(filters), own]
    chains = [_mtls(filters, grpc=True, era=workload.era)]
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
    proxy = inbound_tcp(_logged(workload), name, name)
    if workload.access is AccessMode.SHADOW:
        return [tcp_shadow(name, tuple(g for g in port.grants if g.tcp)), proxy]
    return [proxy]


def _logged(workload: Workload) -> SpiffeId | None:
    """Whose name stands in its access log; None is whoever its bootstrap says.

    So intercepted workloads have the same filters for the same port.
    """
    return None if workload.sidecar is Sidecar.INTERCEPTED else workload.identity


@lru_cache(1024)
def _mtls_socket(callers: tuple[SpiffeId, ...] | None, alpn: tuple[str, ...]) -> TransportSocket:
    return transport_socket("tls", downstream_tls(callers, alpn=alpn))


def _mtls(
    filters: list[Filter],
    *,
    callers: tuple[SpiffeId, ...] | None = None,
    grpc: bool = False,
    era: str = "",
) -> FilterChain:
    """TLS with a certificate of the mesh, from sidecars and, with `grpc`, from gRPC clients.

    The latter offer `h2` and insist that it is chosen. Sidecars do not offer it: for them nothing
    is chosen, and the codec is detected.
    """
    chosen = (names.GRPC_ALPN,) if grpc else ()
    return FilterChain(
        name=f"mtls|{era}" if era else "mtls",
        filter_chain_match=FilterChainMatch(
            transport_protocol="tls", application_protocols=[names.ALPN, *chosen]
        ),
        transport_socket=_mtls_socket(callers, chosen),
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
