"""Route configurations: where requests go, and at the destination who may send them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    RetryPolicy,
    RetryPolicyRetryBackOff,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)

from smi_xds.mesh.model import (
    InboundPort,
    PortRef,
    PortRoutes,
    RouteEntry,
    Workload,
)
from smi_xds.values import AccessMode
from smi_xds.xds import names
from smi_xds.xds.common import NEVER
from smi_xds.xds.encode import encode, fragment, pack, splice
from smi_xds.xds.kept import Kept
from smi_xds.xds.matching import route_match
from smi_xds.xds.rbac import FILTER, http_rules
from smi_xds.xds.resources import CLUSTER, ROUTES, Need, Resource

# Entries are kept encoded: of hundreds of splits of one service, mostly one changes at a time.
# Those of 10,000 services have 7 MB.
_ENTRIES = Kept(size=8 << 20)

# Only where nothing was processed: safe for every method. Counted in upstream_rq_retry.
_RETRY_ON = "connect-failure,refused-stream,reset-before-request"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFragment:
    """The encoded virtual host of one service port, ready to be joined with others."""

    body: bytes
    clusters: frozenset[Need]


def outbound_host(routes: PortRoutes, *, allowed: bool, local: bool) -> HostFragment:
    """The virtual host of a service port, as someone with a right to it (or without) gets it."""
    domains = names.domains(routes.ref, default_port=routes.default_port, local=local)
    body, needs = _host(routes, domains, allowed=allowed)
    return HostFragment(body=body, clusters=needs)


def service_routes(routes: PortRoutes, *, allowed: bool) -> Resource:
    """The routes of one service port to an intercepted sidecar: any Host, the address decided."""
    name = names.outbound_routes(routes.ref)
    host, needs = _host(routes, ["*"], allowed=allowed)
    body = splice(RouteConfiguration(name=name), "virtual_hosts", (host,))
    return Resource.of(ROUTES, name, body, needs=needs)


def _host(
    routes: PortRoutes, domains: list[str], *, allowed: bool
) -> tuple[bytes, frozenset[Need]]:
    ways: Iterable[bytes] = (_joined([_denied(routes.ref)]),)
    called = frozenset[PortRef]()
    if allowed:
        ways = (_entry(entry, routes.port, routes.pod) for entry in routes.entries)
        called = called_by(routes)
    host = splice(VirtualHost(name=str(routes.ref), domains=domains), "routes", ways)
    needs = frozenset(Need(CLUSTER, names.outbound_cluster(ref)) for ref in called)
    return fragment(RouteConfiguration, "virtual_hosts", host), needs


def _joined(routes: list[Route]) -> bytes:
    return b"".join(fragment(VirtualHost, "routes", encode(route)) for route in routes)


def outbound_routes(hosts: tuple[HostFragment, ...]) -> Resource:
    """The one table of a bound sidecar: every HTTP service by Host."""
    hosts = (*hosts, _nowhere())
    body = splice(
        RouteConfiguration(name=names.OUTBOUND), "virtual_hosts", (host.body for host in hosts)
    )
    needs = frozenset[Need]().union(*(host.clusters for host in hosts))
    return Resource.of(ROUTES, names.OUTBOUND, body, needs=needs)


def called_by(routes: PortRoutes) -> frozenset[PortRef]:
    """The service ports whose clusters the routes of a service port name."""
    if not routes.protocol.is_http:
        # A TCP split is in the endpoints of the root's own cluster.
        return frozenset({routes.ref})
    services = {backend.service for entry in routes.entries for backend in entry.backends}
    return frozenset(PortRef(service, routes.port, pod=routes.pod) for service in services)


def inbound_routes(workload: Workload, port: InboundPort) -> Resource:
    """All requests to an own port go to the application, if the rules allow them.

    The rules stand on the route configuration: they reach open connections at the next request,
    and nothing drains when they change.
    """
    name = names.inbound(port.number)
    rules = {}
    if workload.access is not AccessMode.PERMISSIVE:
        rules[FILTER] = pack(http_rules(port.grants, workload.access))
    everything = Route(
        name=name,
        match=RouteMatch(prefix="/"),
        route=RouteAction(cluster=name, timeout=NEVER),
    )
    configuration = RouteConfiguration(
        name=name,
        virtual_hosts=[VirtualHost(name=name, domains=["*"], routes=[everything])],
        typed_per_filter_config=rules,
    )
    return Resource.of(ROUTES, name, encode(configuration), needs=[Need(CLUSTER, name)])


def _entry(entry: RouteEntry, port: int, pod: str) -> bytes:
    """A route for each match of an entry, encoded."""
    return _ENTRIES.get((entry, port, pod), lambda: _encoded(entry, port, pod))


def _encoded(entry: RouteEntry, port: int, pod: str) -> bytes:
    found = []
    for match in entry.matches or (None,):
        route = Route(name=entry.split or "service", match=route_match(match))
        _act(route, entry, port, pod)
        found.append(route)
    return _joined(found)


def _act(route: Route, entry: RouteEntry, port: int, pod: str) -> None:
    backends = [backend for backend in entry.backends if backend.weight > 0]
    if not backends:
        # Envoy refuses weights that add up to 0.
        route.direct_response = _answer(503, f"no backend of {entry.split} has a weight")
        return
    clusters = [
        WeightedClusterClusterWeight(
            name=names.outbound_cluster(PortRef(backend.service, port, pod=pod)),
            weight=backend.weight,
        )
        for backend in entry.backends
    ]
    action = RouteAction(timeout=NEVER, retry_policy=_retries())
    if len(clusters) == 1:
        action.cluster = clusters[0].name
    else:
        action.weighted_clusters = WeightedCluster(clusters=clusters)
    route.route = action


@cache
def _retries() -> RetryPolicy:
    return RetryPolicy(
        retry_on=_RETRY_ON,
        num_retries=2,
        retry_back_off=RetryPolicyRetryBackOff(base_interval=timedelta(milliseconds=25)),
    )


def _denied(ref: PortRef) -> Route:
    text = f"no TrafficTarget allows this identity to call {ref}"
    return Route(name="denied", match=RouteMatch(prefix="/"), direct_response=_answer(403, text))


def _nowhere() -> HostFragment:
    text = "no service has this host; write NAME.NAMESPACE, with the port unless it is the default"
    host = VirtualHost(
        name="unknown",
        domains=["*"],
        routes=[
            Route(
                name="unknown",
                match=RouteMatch(prefix="/"),
                direct_response=_answer(404, text),
            )
        ],
    )
    body = fragment(RouteConfiguration, "virtual_hosts", encode(host))
    return HostFragment(body=body, clusters=frozenset())


def _answer(status: int, text: str) -> DirectResponseAction:
    return DirectResponseAction(status=status, body=DataSource(inline_string=f"smi-xds: {text}\n"))
