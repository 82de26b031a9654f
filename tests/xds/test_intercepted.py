"""Listeners of intercepted sidecars."""

from dataclasses import replace
from typing import Any

import pytest

from smi_xds.mesh.model import (
    Destination,
    Egress,
    Grant,
    InboundPort,
    PortRef,
    Protocol,
    Sidecar,
    Source,
    Workload,
)
from smi_xds.values import AccessMode, Mode, ProxyId, ServiceRef
from smi_xds.xds import names
from smi_xds.xds.intercepted import outbound_listener, virtual_inbound, virtual_outbound
from smi_xds.xds.resources import CLUSTER, ROUTES, SECRET, Need, Resource
from tests.support.objects import spiffe
from tests.support.shown import shown

REF = PortRef(ServiceRef("shop", "web"), 80)
GRANT = Grant(
    target="shop/t", sources=(Source(spiffe("client")),), ports=None, http=None, tcp=True, l7=True
)
HTTP = InboundPort(number=8080, protocol=Protocol.HTTP)
TCP = InboundPort(number=5432, protocol=Protocol.TCP, grants=(GRANT,))

WEB = Workload(
    proxy=ProxyId("shop", "web"),
    identity=spiffe("web"),
    address="10.0.0.1",
    app_address="10.0.0.1",
    sidecar=Sidecar.INTERCEPTED,
    access=AccessMode.STRICT,
    mtls=Mode.STRICT,
    ports=(TCP, HTTP),
)
PERMISSIVE = replace(WEB, access=AccessMode.PERMISSIVE, mtls=Mode.PERMISSIVE)


def chains(listener: Resource) -> list[tuple[str, int | None]]:
    """The name and port of each chain, but for the guards."""
    found = [
        (chain["name"], chain.get("filter_chain_match", {}).get("destination_port"))
        for chain in shown(listener)["filter_chains"]
    ]
    return [it for it in found if not it[0].startswith("guard")]


def clusters(chain: Any) -> list[str]:
    return [it["typed_config"].get("cluster", "") for it in chain["filters"]]


@pytest.mark.parametrize(
    "egress, cluster", [(Egress.OPEN, "passthrough"), (Egress.CLOSED, "denied")]
)
def test_what_no_listener_claims(egress: Egress, cluster: str) -> None:
    """It goes on to where it was going, or nowhere; never round and round."""
    listener = virtual_outbound(replace(WEB, egress=egress))
    found = shown(listener)
    assert found["use_original_dst"] is True
    assert clusters(found["default_filter_chain"]) == [cluster]
    (guard,) = found["filter_chains"]
    assert guard["filter_chain_match"] == {"destination_port": 15001}
    assert clusters(guard) == ["denied"]
    assert listener.needs == {Need(CLUSTER, "denied"), Need(CLUSTER, cluster)}


@pytest.mark.parametrize(
    "addresses, outbound, inbound",
    [
        (("10.0.0.1",), ["127.0.0.1"], ["0.0.0.0"]),
        (("fd00::1",), ["::1"], ["::"]),
        (("10.0.0.1", "fd00::1"), ["127.0.0.1", "::1"], ["0.0.0.0", "::"]),
        (("fd00::1", "10.0.0.1"), ["127.0.0.1", "::1"], ["0.0.0.0", "::"]),
    ],
)
def test_both_families_are_bound_where_the_pod_has_them(
    addresses: tuple[str, ...], outbound: list[str], inbound: list[str]
) -> None:
    """And no other: a host without IPv6 could not bind it."""
    first, *more = addresses
    workload = replace(WEB, address=first, more_addresses=tuple(more))
    for listener, expected in (
        (virtual_outbound(workload), outbound),
        (virtual_inbound(workload), inbound),
    ):
        found = shown(listener)
        bound = [found, *found.get("additional_addresses", [])]
        assert [it["address"]["socket_address"]["address"] for it in bound] == expected


def test_an_address_has_a_listener_of_its_own() -> None:
    """Bound to no port; named by the address, for there can be only one."""
    listener = outbound_listener(Destination("10.96.0.1", 80), REF, Protocol.HTTP, allowed=True)
    found = shown(listener)
    assert listener.name == found["name"] == "outbound|10.96.0.1:80"
    assert found["bind_to_port"] is False
    assert listener.needs == {Need(ROUTES, "outbound|shop/web:80")}


def test_who_must_not_call_is_denied() -> None:
    """HTTP by its route; TCP by a cluster without endpoints."""
    there = Destination("fd00:96::1", 80)
    http = [outbound_listener(there, REF, Protocol.HTTP, allowed=it) for it in (True, False)]
    assert http[0] == http[1]
    tcp = [outbound_listener(there, REF, Protocol.TCP, allowed=it) for it in (True, False)]
    assert [it.needs for it in tcp] == [
        {Need(CLUSTER, "shop/web:80")},
        {Need(CLUSTER, "denied")},
    ]
    assert [it.name for it in tcp] == ["outbound|[fd00:96::1]:80"] * 2


def test_listeners_are_the_same_for_all_callers() -> None:
    """Who calls is told by the sidecar's own bootstrap."""
    listener = outbound_listener(Destination("10.96.0.1", 80), REF, Protocol.TCP, allowed=True)
    log = shown(listener)["filter_chains"][0]["filters"][0]["typed_config"]["access_log"][0]
    source = log["typed_config"]["log_format"]["json_format"]["source"]
    assert source == "%CEL(xds.node.metadata['identity'])%"


def test_own_ports_have_chains_by_port() -> None:
    """Those of a bound sidecar, beside each other in one listener."""
    listener = virtual_inbound(WEB)
    assert chains(listener) == [("inbound|5432|mtls", 5432), ("inbound|8080|mtls", 8080)]
    assert listener.needs == {
        Need(CLUSTER, "denied"),
        Need(CLUSTER, "inbound|5432"),
        Need(CLUSTER, "inbound|8080"),
        Need(ROUTES, "inbound|8080"),
        Need(SECRET, names.IDENTITY),
        Need(SECRET, names.TRUST),
    }


def test_with_nobody_allowed_a_tcp_port_has_no_chain() -> None:
    """An empty list of callers would admit everyone."""
    listener = virtual_inbound(replace(WEB, ports=(replace(TCP, grants=()),)))
    assert chains(listener) == []
    assert Need(CLUSTER, "inbound|5432") not in listener.needs


@pytest.mark.parametrize(
    "access, mtls, passed",
    [
        (AccessMode.STRICT, Mode.STRICT, False),
        (AccessMode.PERMISSIVE, Mode.STRICT, False),
        (AccessMode.STRICT, Mode.PERMISSIVE, False),
        (AccessMode.PERMISSIVE, Mode.PERMISSIVE, True),
        (AccessMode.SHADOW, Mode.PERMISSIVE, True),
    ],
)
def test_ports_of_no_service(access: AccessMode, mtls: Mode, passed: bool) -> None:
    """Passed on where nobody has to say who they are, and closed otherwise."""
    listener = virtual_inbound(replace(WEB, access=access, mtls=mtls))
    assert (("inbound|passthrough", None) in chains(listener)) is passed
    assert (Need(CLUSTER, "inbound|passthrough") in listener.needs) is passed


def test_the_shadow_falls_on_ports_of_no_service() -> None:
    """Nobody can have been granted anything there: every connection would have been denied."""
    listener = virtual_inbound(replace(PERMISSIVE, access=AccessMode.SHADOW))
    last = shown(listener)["filter_chains"][-1]
    assert [it["name"] for it in last["filters"]] == [
        "envoy.filters.network.rbac",
        "envoy.filters.network.tcp_proxy",
    ]
    assert "policies" not in last["filters"][0]["typed_config"]["shadow_rules"]


def test_modes_and_policy_change_chains_alone() -> None:
    """Another field of the listener would drain every connection of the workload."""
    server_first = InboundPort(number=3306, protocol=Protocol.SERVER_FIRST)

    def constant(workload: Workload) -> dict[str, Any]:
        found: dict[str, Any] = shown(virtual_inbound(workload))
        del found["filter_chains"]
        return found

    expected = constant(WEB)
    for workload in (
        PERMISSIVE,
        replace(WEB, ports=()),
        replace(PERMISSIVE, ports=(server_first,)),
    ):
        assert constant(workload) == expected


def test_the_sidecars_own_ports_lead_nowhere() -> None:
    """Whoever asks for them would be sent round and round."""
    guards = [
        it for it in shown(virtual_inbound(PERMISSIVE))["filter_chains"] if "guard" in it["name"]
    ]
    assert {it["filter_chain_match"]["destination_port"] for it in guards} >= {15000, 15001, 15006}
    assert {name for guard in guards for name in clusters(guard)} == {"denied"}
