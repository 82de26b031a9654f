"""The resources that every server of the stream benchmark serves: the very same bytes.

20 clusters, a load assignment of 10 endpoints for each, a listener, and one route configuration of
a chosen size. What changes during a trial carries a number in its bytes, by which the clients know
what they got: servers replace it in place, so no size changes.
"""

import base64
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, TypedDict

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)

from smi_xds.xds.common import ads, socket
from smi_xds.xds.encode import encode, pack
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Need, Resource

MARKER: Final = b"marker-%012d"
"""How a number stands in the bytes; templates hold number 0."""

ROUTE_NAME: Final = "outbound"
CLUSTERS: Final = tuple(f"shop/service-{number}:http" for number in range(20))

# Served to one kind of proxy only: nothing that a version hash would be needed for.
_ENDPOINTS_EACH: Final = 10


class Written(TypedDict):
    """One resource in the file that servers load."""

    type: str
    name: str
    body: str
    needs: Sequence[tuple[str, str]]


def marked(template: bytes, number: int) -> bytes:
    """The template with another number in it."""
    return template.replace(MARKER % 0, MARKER % number, 1)


def build(*, route_bytes: int) -> list[Resource]:
    """All resources, with a route configuration of about that size."""
    return [
        *(_cluster(name) for name in CLUSTERS),
        *(_endpoints(name, index) for index, name in enumerate(CLUSTERS)),
        _listener(),
        _routes(route_bytes),
    ]


def write(resources: Sequence[Resource], path: Path) -> None:
    """Put them where servers load them from."""
    written: list[Written] = [
        {
            "type": each.type,
            "name": each.name,
            "body": base64.b64encode(each.body).decode(),
            "needs": sorted((need.type, need.name) for need in each.needs),
        }
        for each in resources
    ]
    path.write_text(json.dumps(written))


def _cluster(name: str) -> Resource:
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ads()),
        connect_timeout=timedelta(seconds=5),
    )
    return Resource.of(CLUSTER, name, encode(cluster), needs=[Need(ENDPOINTS, name)])


def _endpoints(name: str, index: int) -> Resource:
    endpoints = [
        LbEndpoint(
            endpoint=Endpoint(
                address=socket(f"10.1.{index}.{number}", 8080),
                hostname=(MARKER % 0).decode() if number == 0 else f"{name}-{number:03d}",
            )
        )
        for number in range(_ENDPOINTS_EACH)
    ]
    locality = LocalityLbEndpoints(lb_endpoints=endpoints)
    assignment = ClusterLoadAssignment(cluster_name=name, endpoints=[locality])
    return Resource.of(ENDPOINTS, name, encode(assignment))


def _listener() -> Resource:
    manager = HttpConnectionManager(
        stat_prefix=ROUTE_NAME,
        rds=Rds(config_source=ads(), route_config_name=ROUTE_NAME),
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router()))],
    )
    name = "envoy.filters.network.http_connection_manager"
    chain = FilterChain(filters=[Filter(name=name, typed_config=pack(manager))])
    listener = Listener(name="outbound", address=socket("127.0.0.1", 15001), filter_chains=[chain])
    return Resource.of(LISTENER, "outbound", encode(listener), needs=[Need(ROUTES, ROUTE_NAME)])


def _routes(size: int) -> Resource:
    hosts = [_virtual_host(0)]
    each = len(encode(RouteConfiguration(virtual_hosts=[_virtual_host(1)])))
    hosts += [_virtual_host(number) for number in range(1, size // each)]
    routes = RouteConfiguration(name=ROUTE_NAME, virtual_hosts=hosts)
    needs = [Need(CLUSTER, name) for name in CLUSTERS]
    return Resource.of(ROUTES, ROUTE_NAME, encode(routes), needs=needs)


def _virtual_host(number: int) -> VirtualHost:
    name = f"service-{number:05d}"
    domains = [name, *(f"{name}.shop{rest}" for rest in ("", ".svc", ".svc.cluster.local"))]
    if number == 0:
        domains.append((MARKER % 0).decode())
    action = RouteAction(cluster=CLUSTERS[number % len(CLUSTERS)], timeout=timedelta(0))
    route = Route(name="all", match=RouteMatch(prefix="/"), route=action)
    return VirtualHost(name=name, domains=domains, routes=[route])
