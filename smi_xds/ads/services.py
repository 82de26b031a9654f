"""The discovery services: the aggregated one, and one for each type that we serve.

All are the same conversation; on a service of its own a type need not be named (E1).
"""

from dataclasses import dataclass
from typing import Final

from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET

AGGREGATED: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"


@dataclass(frozen=True, slots=True)
class Service:
    """One of them; its methods are `Stream…` and `Delta…` of `noun`."""

    name: str
    noun: str
    type: TypeUrl | None = None
    """The only type that it serves; None for any."""


DISCOVERY_SERVICES: Final = (
    Service(AGGREGATED, "AggregatedResources"),
    Service("envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters", CLUSTER),
    Service("envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints", ENDPOINTS),
    Service("envoy.service.listener.v3.ListenerDiscoveryService", "Listeners", LISTENER),
    Service("envoy.service.route.v3.RouteDiscoveryService", "Routes", ROUTES),
    Service("envoy.service.secret.v3.SecretDiscoveryService", "Secrets", SECRET),
)
