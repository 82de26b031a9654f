"""Clusters."""

from dataclasses import replace

import pytest

from smi_xds.mesh.model import InboundPort, PortRef, Protocol, Sidecar, Workload
from smi_xds.values import AccessMode, Mode, ProxyId, ServiceRef
from smi_xds.xds.clusters import (
    denied,
    inbound_cluster,
    inbound_passthrough,
    outbound_cluster,
    passthrough,
)
from smi_xds.xds.resources import ENDPOINTS, SECRET, Need
from tests.support.objects import spiffe
from tests.support.shown import shown

WEB = PortRef(ServiceRef("shop", "web"), 80)
BOUND = Workload(
    proxy=ProxyId("shop", "web"),
    identity=spiffe("web"),
    address="127.0.1.1",
    app_address="127.0.2.1",
    sidecar=Sidecar.BOUND,
    access=AccessMode.STRICT,
    mtls=Mode.STRICT,
)
INTERCEPTED = replace(
    BOUND, sidecar=Sidecar.INTERCEPTED, address="10.0.0.1", app_address="10.0.0.1"
)
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
    for cluster in (outbound_cluster(WEB, protocol), inbound_cluster(BOUND, port)):
        found = shown(cluster).get("typed_extension_protocol_options", {})
        assert (options in found.get(OPTIONS, {})) is (options is not None)


def test_only_tcp_weighs_its_localities() -> None:
    """A TCP split is in the endpoints; HTTP splits are in routes."""
    weighted = "locality_weighted_lb_config"
    assert weighted in shown(outbound_cluster(WEB, Protocol.TCP))["common_lb_config"]
    assert weighted not in shown(outbound_cluster(WEB, Protocol.HTTP))["common_lb_config"]


def test_the_application_is_one_fixed_address() -> None:
    """Where the workload says, at its own port."""
    cluster = inbound_cluster(BOUND, InboundPort(number=8080, protocol=Protocol.HTTP))
    (locality,) = shown(cluster)["load_assignment"]["endpoints"]
    (endpoint,) = locality["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {
        "address": "127.0.2.1",
        "port_value": 8080,
    }
    assert (cluster.name, cluster.needs) == ("inbound|8080", frozenset())


def test_an_intercepted_application_may_be_called_at_the_address_that_was_asked_for() -> None:
    """Where it has none of its own, as all pods of its kind do."""
    port = InboundPort(number=8080, protocol=Protocol.HTTP)
    found = shown(inbound_cluster(replace(INTERCEPTED, app_address=""), port))
    assert found["type"] == "ORIGINAL_DST"
    assert "load_assignment" not in found
    assert "ORIGINAL_DST" not in str(shown(inbound_cluster(INTERCEPTED, port)))


@pytest.mark.parametrize(
    "more, sources",
    [((), ["127.0.0.6"]), (("fd00::1",), ["127.0.0.6", "::6"])],
)
def test_a_sidecar_marks_its_calls_to_the_application(
    more: tuple[str, ...], sources: list[str]
) -> None:
    """By their source address; else they would be redirected like a call of another sidecar."""
    workload, port = (
        replace(INTERCEPTED, more_addresses=more),
        InboundPort(number=5432, protocol=Protocol.TCP),
    )
    for cluster in (inbound_cluster(workload, port), inbound_passthrough(workload)):
        bind = shown(cluster)["upstream_bind_config"]
        extra = [it["address"] for it in bind.get("extra_source_addresses", [])]
        assert [it["address"] for it in (bind["source_address"], *extra)] == sources
    assert "upstream_bind_config" not in shown(inbound_cluster(BOUND, port))


def test_the_ways_out_of_an_intercepted_workload() -> None:
    """On to where it was going, or nowhere."""
    assert shown(passthrough())["type"] == "ORIGINAL_DST"
    assert shown(denied())["load_assignment"] == {"cluster_name": "denied"}
