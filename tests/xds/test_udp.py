"""UDP in Envoy's words."""

from dataclasses import replace

import pytest

from smi_xds.mesh.model import (
    Endpoint,
    Sidecar,
)
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Need
from smi_xds.xds.udp import (
    outbound_udp_cluster,
    outbound_udp_listener,
    own_address,
    tunnel_ends,
    udp_resources,
)
from tests.support.datagrams import DNS, ROOT, SERVER
from tests.support.objects import spiffe
from tests.support.shown import shown


def test_a_service_has_a_local_port_from_which_a_tunnel_leads() -> None:
    """At loopback; it asks for the service, takes long datagrams, and buffers while it opens."""
    listener = outbound_udp_listener(SERVER, DNS, 20001, outside=False)
    assert listener.needs == {Need(CLUSTER, "shop/dns:53/udp")}
    found = shown(listener)
    assert found["address"]["socket_address"] == {
        "protocol": "UDP",
        "address": "127.0.0.1",
        "port_value": 20001,
    }
    assert found["enable_reuse_port"] is False
    longest = {"max_rx_datagram_size": "65535"}  # 64 bits are strings in JSON
    assert found["udp_listener_config"]["downstream_socket_config"] == longest
    proxy = found["listener_filters"][0]["typed_config"]
    assert proxy["tunneling_config"]["target_host"] == "dns.shop"
    assert proxy["tunneling_config"]["default_target_port"] == 53
    assert proxy["session_filters"][0]["name"] == "envoy.filters.udp.session.http_capsule"
    assert proxy["idle_timeout"] == "60s"


def test_outside_the_mesh_there_is_no_tunnel() -> None:
    """Neither at the listener nor at the cluster."""
    listener = shown(outbound_udp_listener(SERVER, DNS, 20001, outside=True))
    proxy = listener["listener_filters"][0]["typed_config"]
    assert {"tunneling_config", "session_filters"} & set(proxy) == set()
    cluster = outbound_udp_cluster(DNS, outside=True)
    assert "transport_socket" not in shown(cluster)
    assert cluster.needs == {Need(ENDPOINTS, "shop/dns:53/udp")}


def test_an_intercepted_application_calls_loopback() -> None:
    """There nobody else can send in its name, and Envoy's workers may share the port."""
    workload = replace(SERVER, sidecar=Sidecar.INTERCEPTED)
    found = shown(outbound_udp_listener(workload, DNS, 20001, outside=False))
    assert found["address"]["socket_address"]["address"] == "127.0.0.1"
    assert found["enable_reuse_port"] is True


def test_a_tunnel_is_mtls_to_the_identities_behind_a_service() -> None:
    """Over HTTP/2 with extended CONNECT; a split is in the endpoints."""
    cluster = outbound_udp_cluster(DNS, outside=False)
    found = shown(cluster)
    options = found["typed_extension_protocol_options"]
    (http,) = options.values()
    assert http["explicit_http_config"]["http2_protocol_options"]["allow_connect"] is True
    assert found["transport_socket"]["name"] == "envoy.transport_sockets.tls"
    assert "locality_weighted_lb_config" in found["common_lb_config"]
    assert cluster.needs == {
        Need(ENDPOINTS, "shop/dns:53/udp"),
        Need(SECRET, "identity"),
        Need(SECRET, "peers|shop/dns:53/udp"),
    }


def test_tunnels_end_at_the_sidecars() -> None:
    """One for each, however many ports it serves; none where there is no sidecar."""
    here = Endpoint(address="10.0.0.1", port=5353, identity=spiffe("dns"))
    there = Endpoint(address="10.0.0.2", port=5353)
    assert tunnel_ends((here, replace(here, port=5354), there)) == (replace(here, port=15008),)


def test_a_workload_gets_what_it_calls_and_what_it_serves() -> None:
    """Without UDP, nothing."""
    found = list(udp_resources(SERVER, ((ROOT, 20001, False),)))
    assert sorted((it.type, it.name) for it in found) == sorted(
        [
            (LISTENER, "outbound|shop/root:53/udp"),
            (LISTENER, "tunnel"),
            (ROUTES, "tunnel"),
            (CLUSTER, "inbound|5353/udp"),
            (CLUSTER, "inbound|8125/udp"),
        ]
    )
    assert list(udp_resources(replace(SERVER, udp_ports=()), ())) == []


@pytest.mark.parametrize(
    "sidecar, address, app, own",
    [
        (Sidecar.BOUND, "127.0.1.11", "127.0.2.11", "127.0.1.11"),
        (Sidecar.BOUND, "10.0.0.1", "127.0.0.1", "127.0.0.1"),
        (Sidecar.BOUND, "10.0.0.1", "10.0.0.2", "10.0.0.1"),
        (Sidecar.INTERCEPTED, "10.0.0.1", "10.0.0.1", "127.0.0.1"),
        (Sidecar.INTERCEPTED, "fd00::1", "fd00::1", "::1"),
    ],
)
def test_local_ports_are_at_loopback_where_there_is_one(
    sidecar: Sidecar, address: str, app: str, own: str
) -> None:
    """Whoever can send a datagram to them has the identity of the workload."""
    workload = replace(SERVER, sidecar=sidecar, address=address, app_address=app)
    assert own_address(workload) == own
