"""What resources refer to is found by reading them."""

from datetime import timedelta

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
)
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteActionRequestMirrorPolicy,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)

from smi_xds.values import TypeUrl
from smi_xds.xds.encode import encode
from smi_xds.xds.references import references
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Need, ResourceSet
from tests import golden
from tests.test_golden import _translate


@pytest.mark.parametrize("case", golden.cases(), ids=lambda case: case.name)
def test_they_agree_with_what_the_generators_say(case: golden.Case) -> None:
    """But for a listener's clusters: its routes refer to them, and it says so beforehand."""
    for resources in _translate(golden.build(case)).values():
        for type_ in resources.layers:
            for resource in resources.all(type_).values():
                found = references(type_, resource.body)
                assert found <= resource.needs
                assert resource.needs - found <= behind(found, resources, of=type_)


def behind(needs: frozenset[Need], resources: ResourceSet, *, of: TypeUrl) -> frozenset[Need]:
    """What the routes of a listener refer to."""
    if of != LISTENER:
        return frozenset()
    routes = (resources.get(need.type, need.name) for need in needs if need.type == ROUTES)
    return frozenset(need for each in routes if each is not None for need in each.needs)


def test_a_cluster_names_its_endpoints_by_service_or_by_its_own_name() -> None:
    """Only where they come by EDS."""

    def mk(**fields: object) -> bytes:
        return encode(Cluster(name="a", connect_timeout=timedelta(seconds=1), **fields))  # type: ignore[arg-type]  # any of its fields

    eds = ClusterDiscoveryType.EDS
    service = ClusterEdsClusterConfig(service_name="s")
    assert references(CLUSTER, mk(type=eds, eds_cluster_config=service)) == {Need(ENDPOINTS, "s")}
    assert references(CLUSTER, mk(type=eds)) == {Need(ENDPOINTS, "a")}
    assert references(CLUSTER, mk(type=ClusterDiscoveryType.STRICT_DNS)) == frozenset()


def test_routes_name_clusters_one_by_one_by_weight_and_as_mirrors() -> None:
    """An action without a cluster (by header, say) names none."""
    weights = [WeightedClusterClusterWeight(name=name) for name in ("w1", "w2")]
    actions = [
        RouteAction(cluster="one"),
        RouteAction(weighted_clusters=WeightedCluster(clusters=weights)),
        RouteAction(
            cluster_header="x",
            request_mirror_policies=[RouteActionRequestMirrorPolicy(cluster="m")],
        ),
    ]
    routes = [Route(match=RouteMatch(prefix="/"), route=action) for action in actions]
    hosts = [VirtualHost(name="h", domains=["*"], routes=routes)]

    found = references(ROUTES, encode(RouteConfiguration(name="r", virtual_hosts=hosts)))

    assert found == {Need(CLUSTER, name) for name in ("one", "w1", "w2", "m")}


@pytest.mark.parametrize("type_", [CLUSTER, TypeUrl("type.googleapis.com/made.up.Type")])
def test_what_cannot_be_read_refers_to_nothing(type_: TypeUrl) -> None:
    """Bytes that are no message, and types that nobody here knows."""
    assert references(type_, b"\xff\xff") == frozenset()
