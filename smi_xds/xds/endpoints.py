"""Load assignments, joined from cached bytes of their endpoints."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from envoy_data_plane.envoy.config.core.v3 import HealthStatus, Locality, Metadata
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.endpoint.v3 import Endpoint as EnvoyEndpoint

from smi_xds.mesh.model import Endpoint, EndpointState
from smi_xds.xds.common import mesh_endpoint, socket
from smi_xds.xds.encode import encode, fragment, splice
from smi_xds.xds.resources import ENDPOINTS, Resource

_HEALTH = {
    EndpointState.READY: HealthStatus.UNKNOWN,
    EndpointState.DRAINING: HealthStatus.DRAINING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Endpoints that get a share of the traffic together: one backend of a TCP split.

    Without a name they are the whole. gRPC clients refuse endpoints that are in no locality, and
    use none of a locality without a weight (gRFC A27).
    """

    name: str = ""
    weight: int = 1
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(slots=True)
class EndpointEncoder:
    """Encodes the load assignments of one cluster, and keeps the bytes of the last one's endpoints.

    Of 1,000 endpoints of which one changed, one is encoded and the rest are joined.
    """

    _kept: Mapping[Endpoint, bytes] = field(default_factory=dict)

    def __call__(self, name: str, groups: tuple[Group, ...]) -> Resource:
        """The load assignment of a cluster."""
        now: dict[Endpoint, bytes] = {}
        localities = []
        for group in groups:
            fragments = []
            for endpoint in group.endpoints:
                encoded = now.get(endpoint) or self._kept.get(endpoint) or _encode(endpoint)
                now[endpoint] = encoded
                fragments.append(encoded)
            body = splice(_locality(group), "lb_endpoints", fragments)
            localities.append(fragment(ClusterLoadAssignment, "endpoints", body))
        self._kept = now
        assignment = ClusterLoadAssignment(cluster_name=name)
        return Resource.of(ENDPOINTS, name, splice(assignment, "endpoints", localities))


def _locality(group: Group) -> LocalityLbEndpoints:
    # One locality per backend: its name shows in the stats, its weight is its share.
    return LocalityLbEndpoints(
        locality=Locality(sub_zone=group.name), load_balancing_weight=group.weight
    )


def _encode(endpoint: Endpoint) -> bytes:
    metadata = None
    if endpoint.identity is not None:
        metadata = Metadata(filter_metadata={"envoy.transport_socket_match": mesh_endpoint()})
    message = LbEndpoint(
        endpoint=EnvoyEndpoint(address=socket(endpoint.address, endpoint.port)),
        health_status=_HEALTH[endpoint.state],
        metadata=metadata,
    )
    return fragment(LocalityLbEndpoints, "lb_endpoints", encode(message))
