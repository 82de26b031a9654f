"""The dialect of gRPC clients without a proxy: listeners, routes and clusters.

A client that dials `xds:///cart.shop:8080` asks for the listener of that very name, and from there
for a route configuration, its clusters and their endpoints. Endpoints and virtual hosts are the
same bytes as for sidecars. What differs (gRFCs A27, A28, A29, A33):

- Clusters must not have transport socket matches: one way to call all endpoints of a service.
  Certificates come from providers that the client's bootstrap names.
- Only a route with clusters counts. Who must not call a service is told so by the fault filter:
  it fails every call with PERMISSION_DENIED, as the 403 of a sidecar would.
"""

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import TransportSocket
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.fault.v3 import FaultAbort, HttpFault
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateProviderPluginInstance,
    CertificateValidationContext,
    CommonTlsContext,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import FractionalPercent

from smi_xds.mesh.model import PortRef
from smi_xds.values import SpiffeId
from smi_xds.xds import names
from smi_xds.xds.clusters import no_limits
from smi_xds.xds.common import ads, transport_socket
from smi_xds.xds.encode import encode, pack, splice
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Need, Resource
from smi_xds.xds.routes import HostFragment

_FAULT = "envoy.filters.http.fault"
_PERMISSION_DENIED = 7  # grpc.status: the code that gRPC clients read from a 403, too


def grpc_listeners(ref: PortRef) -> tuple[Resource, ...]:
    """A listener for each name by which a service port is dialled; they never change."""
    routes = names.outbound_routes(ref)
    manager = HttpConnectionManager(
        rds=Rds(config_source=ads(), route_config_name=routes),
        # Without faults of its own; a route may have some. Nothing else may stand here: a client
        # refuses a listener with filters that it does not know.
        http_filters=[
            HttpFilter(name=_FAULT, typed_config=pack(HttpFault())),
            HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router())),
        ],
    )
    api_listener = ApiListener(api_listener=pack(manager))
    return tuple(
        Resource.of(
            LISTENER,
            name,
            encode(Listener(name=name, api_listener=api_listener)),
            needs=[Need(ROUTES, routes)],
        )
        for name in names.domains(ref, default_port=False, local=False)
    )


def grpc_routes(ref: PortRef, host: HostFragment) -> Resource:
    """The routes of a service port: its virtual host as sidecars get it."""
    name = names.outbound_routes(ref)
    body = splice(RouteConfiguration(name=name), "virtual_hosts", [host.body])
    return Resource.of(ROUTES, name, body, needs=host.clusters)


def grpc_denied(ref: PortRef) -> Resource:
    """The routes of a service port for those without any right to it."""
    name = names.outbound_routes(ref)
    always = FractionalPercent(numerator=100)
    fault = HttpFault(abort=FaultAbort(grpc_status=_PERMISSION_DENIED, percentage=always))
    denied = Route(
        name=names.DENIED,
        match=RouteMatch(prefix="/"),
        route=RouteAction(cluster=names.DENIED),
        typed_per_filter_config={_FAULT: pack(fault)},
    )
    configuration = RouteConfiguration(
        name=name, virtual_hosts=[VirtualHost(name=str(ref), domains=["*"], routes=[denied])]
    )
    needs = [Need(CLUSTER, names.DENIED)]
    return Resource.of(ROUTES, name, encode(configuration), needs=needs)


def grpc_cluster(ref: PortRef, identities: tuple[SpiffeId, ...] | None) -> Resource:
    """The cluster of a service port, whose endpoints prove to be one of these; None: plaintext."""
    tls = None if identities is None else _tls(identities)
    return _cluster(names.outbound_cluster(ref), tls)


def denied_cluster() -> Resource:
    """Where the calls of the denied do not go: a route must name a cluster that exists."""
    return _cluster(names.DENIED, None)


def denied_endpoints() -> Resource:
    """None."""
    return Resource.of(
        ENDPOINTS, names.DENIED, encode(ClusterLoadAssignment(cluster_name=names.DENIED))
    )


def _cluster(name: str, socket: TransportSocket | None) -> Resource:
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads()),
        lb_policy=ClusterLbPolicy.ROUND_ROBIN,  # what every gRPC client knows
        circuit_breakers=no_limits(),
        transport_socket=socket,
    )
    return Resource.of(CLUSTER, name, encode(cluster), needs=[Need(ENDPOINTS, name)])


def _tls(identities: tuple[SpiffeId, ...]) -> TransportSocket:
    """mTLS to the sidecars behind a service; TLS parameters are the client's own (A29)."""
    trust = _provider(names.TRUST)
    validation = CertificateValidationContext(ca_certificate_provider_instance=trust)
    # Deprecated, and the only list of names that gRPC reads: set past the constructor's warning.
    # An empty one would accept anybody with a certificate.
    accepted = [str(identity) for identity in sorted(identities)] or [names.NO_ONE]
    validation.match_subject_alt_names = [StringMatcher(exact=uri) for uri in accepted]
    common = CommonTlsContext(
        tls_certificate_provider_instance=_provider(names.IDENTITY), validation_context=validation
    )
    return transport_socket("tls", UpstreamTlsContext(common_tls_context=common))


def _provider(name: str) -> CertificateProviderPluginInstance:
    return CertificateProviderPluginInstance(instance_name=name)
