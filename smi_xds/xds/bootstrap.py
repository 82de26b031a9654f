"""What a sidecar starts with, and a whole configuration that needs no control plane."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, TypeVar

from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapDynamicResources,
    BootstrapStaticResources,
    LayeredRuntime,
    RuntimeLayer,
)
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiConfigSource,
    ApiConfigSourceApiType,
    ApiVersion,
    BackoffStrategy,
    ConfigSource,
    GrpcService,
    GrpcServiceEnvoyGrpc,
    Node,
    RetryPolicy,
    TransportSocket,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
)
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    DownstreamTlsContext,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret as TlsSecret
from envoy_data_plane.google.protobuf import Any, Struct, Value

from smi_xds.mesh.model import Sidecar, Workload
from smi_xds.xds import names
from smi_xds.xds.common import NEVER, socket
from smi_xds.xds.control_plane import XDS_CLUSTER, ControlPlane, Tls, xds_cluster
from smi_xds.xds.encode import pack, type_url
from smi_xds.xds.fields import Message
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    Resource,
    ResourceSet,
)

# Users' expressions are held to `mesh.matches.MAX_PROGRAM_SIZE`; Envoy's own limit of 100 would
# refuse the whole route configuration for one of them.
_RE2_LIMIT = 1_000_000

# Pauses between tries to reach a control plane, doubled up to the longest, each drawn from 0 to
# that. Envoy's own maximum is 30 s: so long a restarted control plane would wait for its sidecars.
_RETRY_PAUSE, _LONGEST_RETRY_PAUSE = timedelta(seconds=0.5), timedelta(seconds=5)

M = TypeVar("M", bound=Message)


class Protocol(StrEnum):
    """How a sidecar is told of changes."""

    DELTA = "delta"
    """What changed."""
    SOTW = "sotw"
    """State of the world: all clusters, or all listeners, where one changed."""


_API_TYPES: Final = {
    Protocol.DELTA: ApiConfigSourceApiType.DELTA_GRPC,
    Protocol.SOTW: ApiConfigSourceApiType.GRPC,
}


def sidecar(
    workload: Workload,
    *,
    server_host: str,
    server_port: int,
    tls: Tls | None = None,
    protocol: Protocol = Protocol.DELTA,
) -> Bootstrap:
    """A bootstrap that asks a control plane for everything else, on one aggregated stream."""
    plane = ControlPlane(host=server_host, port=server_port, tls=tls)
    return _asking(plane, protocol, node=_node(workload), admin=_admin(workload))


def for_pods(plane: ControlPlane, *, protocol: Protocol = Protocol.DELTA) -> Bootstrap:
    """One for any pod: which one it is, Envoy is told by its command line (`node`)."""
    admin = Admin(address=socket("127.0.0.1", names.ADMIN_PORT))
    return _asking(plane, protocol, node=None, admin=admin)


def _asking(
    plane: ControlPlane, protocol: Protocol, *, node: Node | None, admin: Admin
) -> Bootstrap:
    pauses = BackoffStrategy(base_interval=_RETRY_PAUSE, max_interval=_LONGEST_RETRY_PAUSE)
    stream = ApiConfigSource(
        api_type=_API_TYPES[protocol],
        transport_api_version=ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[
            GrpcService(
                envoy_grpc=GrpcServiceEnvoyGrpc(
                    cluster_name=XDS_CLUSTER, retry_policy=RetryPolicy(retry_back_off=pauses)
                )
            ),
        ],
    )
    return Bootstrap(
        node=node,
        admin=admin,
        layered_runtime=_runtime(),
        static_resources=BootstrapStaticResources(clusters=[xds_cluster(plane)]),
        dynamic_resources=BootstrapDynamicResources(
            ads_config=stream, cds_config=_until_told(), lds_config=_until_told()
        ),
    )


def static(workload: Workload, resources: ResourceSet) -> Bootstrap:
    """A self-contained bootstrap: routes, endpoints and secrets inlined, no control plane.

    For reading, for bug reports and for `envoy --mode validate`; it can be run as it is. Every
    route configuration, load assignment and secret that is named must be in `resources`.
    """
    routes = _parsed(RouteConfiguration, resources.all(ROUTES))
    assignments = _parsed(ClusterLoadAssignment, resources.all(ENDPOINTS))
    clusters = _parsed(Cluster, resources.all(CLUSTER))
    listeners = _parsed(Listener, resources.all(LISTENER))
    secrets = _parsed(TlsSecret, resources.all(SECRET))
    return Bootstrap(
        node=_node(workload),
        admin=_admin(workload),
        layered_runtime=_runtime(),
        static_resources=BootstrapStaticResources(
            clusters=[_static_cluster(c, assignments) for _, c in sorted(clusters.items())],
            listeners=[_static_listener(one, routes) for _, one in sorted(listeners.items())],
            secrets=[secret for _, secret in sorted(secrets.items())],
        ),
    )


def admin_address(workload: Workload) -> str:
    """Where the admin interface of a sidecar listens: loopback, and its own where it can.

    Several bound sidecars may share a host: the application's address then tells them apart.
    """
    for address in (workload.app_address, workload.address):
        if ip_address(address).is_loopback:
            return address
    return "127.0.0.1"


def _node(workload: Workload) -> Node:
    account = workload.identity.service_account
    node = Node(id=str(workload.proxy), cluster=str(account) if account else str(workload.identity))
    if workload.sidecar is Sidecar.INTERCEPTED:
        # Its access logs say so: its outbound listeners are the same for all callers.
        identity = Value(string_value=str(workload.identity))
        node.metadata = Struct(fields={names.IDENTITY: identity})
    return node


def _admin(workload: Workload) -> Admin:
    return Admin(address=socket(admin_address(workload), names.ADMIN_PORT))


def _runtime() -> LayeredRuntime:
    # Several headers of one name are one list (RFC 9110, section 5.3): matched each by itself, a
    # caller with one value that is allowed could add another that is not, and the application
    # might read that one (as in CVE-2020-25017).
    joined = Value(bool_value=False)
    settings = Struct(
        fields={
            "re2.max_program_size.error_level": Value(number_value=_RE2_LIMIT),
            "re2.max_program_size.warn_level": Value(number_value=_RE2_LIMIT),
            "envoy.reloadable_features.match_headers_individually": joined,
            "envoy.reloadable_features.rbac_match_headers_individually": joined,
        }
    )
    return LayeredRuntime(layers=[RuntimeLayer(name="smi-xds", static_layer=settings)])


def _until_told() -> ConfigSource:
    # No time-out: a sidecar that has heard nothing is not ready, rather than ready and empty.
    return ConfigSource(
        ads=AggregatedConfigSource(),
        resource_api_version=ApiVersion.V3,
        initial_fetch_timeout=NEVER,
    )


# ------------------------------------------------------------------ inlining


def _parsed(cls: type[M], resources: Mapping[str, Resource]) -> Mapping[str, M]:
    return {name: cls.parse(resource.body) for name, resource in resources.items()}


def _static_cluster(cluster: Cluster, assignments: Mapping[str, ClusterLoadAssignment]) -> Cluster:
    if cluster.type is ClusterDiscoveryType.EDS:
        cluster.type = ClusterDiscoveryType.STATIC
        cluster.eds_cluster_config = None
        cluster.load_assignment = assignments[cluster.name]
    _static_socket(cluster.transport_socket)
    for match in cluster.transport_socket_matches:
        _static_socket(match.transport_socket)
    return cluster


def _static_listener(listener: Listener, routes: Mapping[str, RouteConfiguration]) -> Listener:
    for chain in listener.filter_chains:
        _static_socket(chain.transport_socket)
        for filter_ in chain.filters:
            manager = _unpacked(HttpConnectionManager, filter_.typed_config)
            if manager is not None and manager.rds is not None:
                manager.route_config = routes[manager.rds.route_config_name]
                manager.rds = None
                filter_.typed_config = pack(manager)
    return listener


def _static_socket(transport_socket: TransportSocket | None) -> None:
    """Secrets without a source are those of the bootstrap itself."""
    if transport_socket is None:
        return
    body = transport_socket.typed_config
    context = _unpacked(DownstreamTlsContext, body) or _unpacked(UpstreamTlsContext, body)
    if context is not None and context.common_tls_context is not None:
        _forget_sources(context.common_tls_context)
        transport_socket.typed_config = pack(context)


def _forget_sources(context: CommonTlsContext) -> None:
    combined = context.combined_validation_context
    trust = combined.validation_context_sds_secret_config if combined is not None else None
    for config in (
        *context.tls_certificate_sds_secret_configs,
        context.validation_context_sds_secret_config,
        trust,
    ):
        if config is not None:
            config.sds_config = None


def _unpacked(cls: type[M], body: Any | None) -> M | None:
    if body is None or body.type_url != type_url(cls):
        return None
    return cls.parse(body.value)
