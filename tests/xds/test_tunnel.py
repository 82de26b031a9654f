"""The tunnel of a workload."""

from dataclasses import replace

import pytest

from smi_xds.mesh.model import Workload
from smi_xds.values import AccessMode, Mode
from smi_xds.xds.resources import CLUSTER, Need
from smi_xds.xds.tunnel import tunnel_listener, tunnel_routes
from tests.support.datagrams import DNS, SERVER
from tests.support.shown import shown

RBAC = "envoy.filters.http.rbac"


def test_each_port_of_a_service_is_a_route_with_the_rules_of_its_target_port() -> None:
    """Nobody's port stays, and denies; what is said of requests is left out."""
    routes = tunnel_routes(SERVER)
    assert routes.needs == {Need(CLUSTER, "inbound|5353/udp"), Need(CLUSTER, "inbound|8125/udp")}
    (host,) = shown(routes)["virtual_hosts"]
    asked = [
        (route["match"]["headers"][0]["string_match"]["exact"], route["route"]["cluster"])
        for route in host["routes"]
    ]
    assert asked == [
        ("/.well-known/masque/udp/dns.shop/53/", "inbound|5353/udp"),
        ("/.well-known/masque/udp/root.shop/53/", "inbound|5353/udp"),
        ("/.well-known/masque/udp/dns.shop/8125/", "inbound|8125/udp"),
    ]
    rules = [route["typed_per_filter_config"][RBAC]["rbac"]["rules"] for route in host["routes"]]
    assert [list(it.get("policies", {})) for it in rules] == [["shop/t"], ["shop/t"], []]
    assert rules[0]["policies"]["shop/t"]["permissions"] == [{"any": True}]


@pytest.mark.parametrize(
    "access, judged",
    [
        (AccessMode.STRICT, "rules"),
        (AccessMode.SHADOW, "shadow_rules"),
        (AccessMode.PERMISSIVE, ""),
    ],
)
def test_the_access_mode_says_what_the_rules_do(access: AccessMode, judged: str) -> None:
    """They deny, they only count, or there are none."""
    (host,) = shown(tunnel_routes(replace(SERVER, access=access)))["virtual_hosts"]
    config = host["routes"][0].get("typed_per_filter_config", {})
    assert bool(config) == bool(judged)
    if judged:
        assert judged in config[RBAC]["rbac"]


def chain(workload: Workload) -> str:
    """The name of the tunnel's chain."""
    (found,) = shown(tunnel_listener(workload))["filter_chains"]
    return str(found["name"])


def test_other_rules_are_another_chain() -> None:
    """So that open streams end; another root of a split takes nothing from anybody."""
    first, *others = SERVER.udp_ports
    revoked = replace(SERVER, udp_ports=(replace(first, grants=()), *others))
    fewer = replace(SERVER, udp_ports=(replace(first, services=(DNS,)), *others))
    assert chain(revoked) != chain(SERVER)
    assert chain(fewer) == chain(SERVER)
    assert chain(replace(SERVER, access=AccessMode.SHADOW)) == "tunnel|shadow"
    assert chain(replace(revoked, access=AccessMode.SHADOW)) == "tunnel|shadow"
    assert chain(replace(SERVER, access=AccessMode.PERMISSIVE)) == "tunnel|permissive"


def test_a_tunnel_has_every_address_of_its_pod() -> None:
    """At 15008, by mTLS alone, whatever the mode."""
    workload = replace(SERVER, mtls=Mode.PERMISSIVE, more_addresses=("fd00::1",))
    found = shown(tunnel_listener(workload))
    assert found["address"]["socket_address"] == {"address": "10.0.0.1", "port_value": 15008}
    (more,) = found["additional_addresses"]
    assert more["address"]["socket_address"] == {"address": "fd00::1", "port_value": 15008}
    context = found["filter_chains"][0]["transport_socket"]["typed_config"]
    assert context["require_client_certificate"] is True
