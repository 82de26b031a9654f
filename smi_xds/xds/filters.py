"""Filters of chains: HTTP connection managers and TCP proxies.

Paths are normalised before anything is judged or routed: dot segments, double slashes, escaped
slashes (by a redirect). Without that `/api/../secret` passes a rule for `/api`.
"""

from functools import cache, lru_cache

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac as HttpRbac
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerForwardClientCertDetails,
    HttpConnectionManagerPathWithEscapedSlashesAction,
    HttpConnectionManagerServerHeaderTransformation,
    HttpConnectionManagerSetCurrentClientCertDetails,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy

from smi_xds.values import SpiffeId
from smi_xds.xds.accesslog import inbound_log, outbound_log
from smi_xds.xds.common import NEVER, ads
from smi_xds.xds.encode import pack
from smi_xds.xds.rbac import FILTER

# Filters are kept for so many names: building one takes a millisecond.
_KEPT = 4096

_HCM = "envoy.filters.network.http_connection_manager"


def outbound_http(identity: SpiffeId | None, route_configuration: str) -> Filter:
    """The connection manager between an application and the services it calls.

    Without an identity it is the same for all callers.
    """
    manager = _manager(route_configuration, route_configuration)
    manager.access_log = [outbound_log(identity, http=True)]
    manager.http_filters = [_router()]
    return Filter(name=_HCM, typed_config=pack(manager))


@lru_cache(_KEPT)
def inbound_http(identity: SpiffeId | None, name: str) -> Filter:
    """The connection manager before an application.

    Its RBAC filter is empty: the rules come with the routes. What the client says of its own
    certificate is dropped, what the handshake proved is told to the application.
    """
    manager = _manager(name, name)
    manager.access_log = [inbound_log(identity, http=True)]
    manager.forward_client_cert_details = HttpConnectionManagerForwardClientCertDetails.SANITIZE_SET
    manager.set_current_client_cert_details = HttpConnectionManagerSetCurrentClientCertDetails(
        uri=True
    )
    # Nothing may stand before the RBAC filter but what it judges by.
    manager.http_filters = [HttpFilter(name=FILTER, typed_config=pack(HttpRbac())), _router()]
    return Filter(name=_HCM, typed_config=pack(manager))


@lru_cache(_KEPT)
def inbound_tcp(identity: SpiffeId | None, name: str, cluster: str) -> Filter:
    """Connections that arrive, handed over as they are."""
    return _tcp_proxy(name, cluster, inbound_log(identity, http=False))


def outbound_tcp(identity: SpiffeId | None, name: str, cluster: str) -> Filter:
    """Connections that an application opens; without an identity the same for all callers."""
    return _tcp_proxy(name, cluster, outbound_log(identity, http=False))


def _tcp_proxy(name: str, cluster: str, log: AccessLog) -> Filter:
    """Bytes to one cluster, for as long as both ends want."""
    proxy = TcpProxy(stat_prefix=name, cluster=cluster, idle_timeout=NEVER, access_log=[log])
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))


def _manager(stat_prefix: str, route_configuration: str) -> HttpConnectionManager:
    return HttpConnectionManager(
        stat_prefix=stat_prefix,
        rds=Rds(config_source=ads(), route_config_name=route_configuration),
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=(
            HttpConnectionManagerPathWithEscapedSlashesAction.UNESCAPE_AND_REDIRECT
        ),
        strip_trailing_host_dot=True,
        # A stream that is silent for five minutes is not a broken one: gRPC, WebSocket.
        stream_idle_timeout=NEVER,
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
    )


@cache
def _router() -> HttpFilter:
    return HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router()))
