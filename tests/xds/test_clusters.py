"""Clusters."""

import pytest

from smi_xds.mesh.model import InboundPort, PortRef, Protocol
from smi_xds.values import ServiceRef
from smi_xds.xds.clusters import inbound_cluster, outbound_cluster
from smi_xds.xds.resources import ENDPOINTS, SECRET, Need
from tests.support.shown import shown

WEB = PortRef(ServiceRef("shop", "web"), 80)
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def test_a_service_is_called_by_mtls_or_in_plaintext_as_each_endpoint_has_it() -> None:
    """Told apart by the endpoint's metadata, so the cluster never changes with its endpoints."""
    cluster = outbound_cluster(WEB, Protocol.HTTP)
    found = shown(cluster)
    assert [(m["name"], m["match"]) for m in found["transport_socket_matches"]] == [
        ("mtls", {"mtls": True}),
        ("plaintext", {}),
    ]
    assert cluster.needs == {
        Need(ENDPOINTS, "shop/web:80"),
        Need(SECRET, "identity"),
        Need(SECRET, "peers|shop/web:80"),
    }


def test_no_limit_of_envoys_own_fails_a_busy_service() -> None:
    """Circuit breakers are out of the way, and a draining endpoint is never a last resort."""
    found = shown(outbound_cluster(WEB, Protocol.HTTP))
    (thresholds,) = found["circuit_breakers"]["thresholds"]
    assert min(thresholds.values()) == 1_000_000_000
    assert found["common_lb_config"]["healthy_panic_threshold"] == {}


@pytest.mark.parametrize(
    "protocol, options",
    [
        (Protocol.HTTP, "use_downstream_protocol_config"),
        (Protocol.HTTP2, "explicit_http_config"),
        (Protocol.GRPC, "explicit_http_config"),
        (Protocol.TCP, None),
        (Protocol.SERVER_FIRST, None),
    ],
)
def test_what_is_spoken_to_a_service(protocol: Protocol, options: str | None) -> None:
    """HTTP as the caller speaks it, HTTP/2 and gRPC always in HTTP/2, TCP not at all."""
    port = InboundPort(number=8080, protocol=protocol)
    for cluster in (outbound_cluster(WEB, protocol), inbound_cluster(port, "127.0.0.1")):
        found = shown(cluster).get("typed_extension_protocol_options", {})
        assert (options in found.get(OPTIONS, {})) is (options is not None)


def test_only_tcp_weighs_its_localities() -> None:
    """A TCP split is in the endpoints; HTTP splits are in routes."""
    weighted = "locality_weighted_lb_config"
    assert weighted in shown(outbound_cluster(WEB, Protocol.TCP))["common_lb_config"]
    assert weighted not in shown(outbound_cluster(WEB, Protocol.HTTP))["common_lb_config"]


def test_the_application_is_one_fixed_address() -> None:
    """Where the workload says, at its own port."""
    cluster = inbound_cluster(InboundPort(number=8080, protocol=Protocol.HTTP), "127.0.2.1")
    (locality,) = shown(cluster)["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {
        "address": "127.0.2.1",
        "port_value": 8080,
    }
    assert (cluster.name, cluster.needs) == ("inbound|8080", frozenset())
