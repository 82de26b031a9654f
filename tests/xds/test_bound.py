"""Listeners of bound sidecars."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from smi_xds.mesh.model import Grant, InboundPort, PortRef, Protocol, Sidecar, Source, Workload
from smi_xds.values import AccessMode, Mode, ProxyId, ServiceRef
from smi_xds.xds import names
from smi_xds.xds.bound import inbound_listener, outbound_http_listener, outbound_tcp_listener
from smi_xds.xds.resources import CLUSTER, ROUTES, SECRET, Need
from tests.support.objects import spiffe
from tests.support.shown import shown

S, P = Mode.STRICT, Mode.PERMISSIVE
STRICT, SHADOW, PERMISSIVE = AccessMode
GRANT = Grant(
    target="shop/t", sources=(Source(spiffe("client")),), ports=None, http=None, tcp=True, l7=True
)


def mk_workload(*, access: AccessMode = STRICT, mtls: Mode = S) -> Workload:
    return Workload(
        proxy=ProxyId("shop", "web"),
        identity=spiffe("web"),
        address="10.0.0.1",
        app_address="127.0.0.1",
        sidecar=Sidecar.BOUND,
        access=access,
        mtls=mtls,
    )


def mk_port(protocol: Protocol, *grants: Grant) -> InboundPort:
    return InboundPort(number=8080, protocol=protocol, grants=grants)


def chains(protocol: Protocol, *, access: AccessMode, mtls: Mode) -> list[tuple[str, str]]:
    """The name of each chain, and the kind of its filter."""
    listener = inbound_listener(mk_workload(access=access, mtls=mtls), mk_port(protocol, GRANT))
    assert listener is not None
    found = shown(listener)["filter_chains"]
    return [(chain["name"], chain["filters"][0]["name"].rpartition(".")[2]) for chain in found]


HCM, TCP, RBAC = "http_connection_manager", "tcp_proxy", "rbac"


@pytest.mark.parametrize(
    "protocol, access, mtls, expected",
    [
        (Protocol.HTTP, STRICT, S, [("mtls", HCM)]),
        (Protocol.HTTP, SHADOW, S, [("mtls", HCM)]),
        (Protocol.HTTP, PERMISSIVE, S, [("mtls", HCM)]),
        (Protocol.HTTP, STRICT, P, [("mtls", HCM), ("plaintext", HCM)]),
        (Protocol.HTTP, SHADOW, P, [("mtls", HCM), ("plaintext", HCM), ("app-tls", RBAC)]),
        (Protocol.HTTP, PERMISSIVE, P, [("mtls", HCM), ("plaintext", HCM), ("app-tls", TCP)]),
        (Protocol.TCP, STRICT, S, [("mtls", TCP)]),
        (Protocol.TCP, STRICT, P, [("mtls", TCP)]),
        (Protocol.TCP, SHADOW, S, [("mtls", RBAC)]),
        (Protocol.TCP, SHADOW, P, [("mtls", RBAC), ("plaintext", RBAC), ("app-tls", RBAC)]),
        (Protocol.TCP, PERMISSIVE, S, [("mtls", TCP)]),
        (Protocol.TCP, PERMISSIVE, P, [("mtls", TCP), ("plaintext", TCP), ("app-tls", TCP)]),
    ],
)
def test_the_chains_of_each_mode(
    protocol: Protocol, access: AccessMode, mtls: Mode, expected: list[tuple[str, str]]
) -> None:
    """Plaintext needs permissive mTLS, and for connections permissive access as well."""
    assert chains(protocol, access=access, mtls=mtls) == expected


@pytest.mark.parametrize(
    "protocol, access, mtls, offered, chosen",
    [
        (Protocol.HTTP, STRICT, S, ["smi-xds", "h2"], ["h2"]),
        (Protocol.GRPC, SHADOW, S, ["smi-xds", "h2"], ["h2"]),
        (Protocol.GRPC, PERMISSIVE, S, ["smi-xds", "h2"], ["h2"]),
        (Protocol.HTTP2, STRICT, P, ["smi-xds", "h2"], ["h2"]),
        (Protocol.GRPC, SHADOW, P, ["smi-xds"], None),
        (Protocol.GRPC, PERMISSIVE, P, ["smi-xds"], None),
        (Protocol.TCP, STRICT, S, ["smi-xds"], None),
        (Protocol.TCP, PERMISSIVE, P, ["smi-xds"], None),
    ],
)
def test_grpc_clients_are_taken_where_tls_is_the_meshs_alone(
    protocol: Protocol, access: AccessMode, mtls: Mode, offered: list[str], chosen: list[str] | None
) -> None:
    """They offer h2, as an application's own TLS may; both ask for a certificate of the mesh."""
    listener = inbound_listener(mk_workload(access=access, mtls=mtls), mk_port(protocol, GRANT))
    assert listener is not None
    chain = shown(listener)["filter_chains"][0]
    assert chain["filter_chain_match"] == {
        "transport_protocol": "tls",
        "application_protocols": offered,
    }
    tls = chain["transport_socket"]["typed_config"]
    assert tls["require_client_certificate"] is True
    assert tls["common_tls_context"].get("alpn_protocols") == chosen


def test_with_nobody_allowed_a_tcp_port_has_no_listener() -> None:
    """A list of nobody would admit everyone; an HTTP port answers 403 instead."""
    assert inbound_listener(mk_workload(), mk_port(Protocol.TCP)) is None
    assert inbound_listener(mk_workload(), mk_port(Protocol.HTTP)) is not None
    assert inbound_listener(mk_workload(access=PERMISSIVE), mk_port(Protocol.TCP)) is not None


def test_callers_of_tcp_are_admitted_in_the_handshake() -> None:
    """Before the application could greet: a denied caller gets no byte."""
    listener = inbound_listener(mk_workload(), mk_port(Protocol.SERVER_FIRST, GRANT))
    assert listener is not None
    (chain,) = shown(listener)["filter_chains"]
    tls = chain["transport_socket"]["typed_config"]["common_tls_context"]
    sans = tls["combined_validation_context"]["default_validation_context"]
    assert [san["matcher"]["exact"] for san in sans["match_typed_subject_alt_names"]] == [
        str(spiffe("client"))
    ]


def test_callers_bound_to_addresses_have_a_chain_per_address() -> None:
    """Envoy takes the longest prefix alone: so those who may call from anywhere stand there too."""
    here = (Source(spiffe("pod"), ("10.0.0.8", "fd00::8")), Source(spiffe("db"), ("10.0.0.8",)))
    grant = replace(GRANT, target="shop/u", sources=here)
    listener = inbound_listener(mk_workload(), mk_port(Protocol.TCP, GRANT, grant))
    assert listener is not None
    assert admitted(shown(listener)) == {
        "mtls": (None, ["client"]),
        "mtls|10.0.0.8": ([("10.0.0.8", 32)], ["client", "db", "pod"]),
        "mtls|fd00::8": ([("fd00::8", 128)], ["client", "pod"]),
    }
    alone = inbound_listener(mk_workload(), mk_port(Protocol.TCP, grant))
    assert alone is not None
    assert "mtls" not in admitted(shown(alone))


def admitted(
    listener: Mapping[str, Any],
) -> dict[str, tuple[list[tuple[str, int]] | None, list[str]]]:
    """Per chain, the ranges it is for and the accounts it lists."""
    found = {}
    for chain in listener["filter_chains"]:
        ranges = chain["filter_chain_match"].get("source_prefix_ranges")
        context = chain["transport_socket"]["typed_config"]["common_tls_context"]
        sans = context["combined_validation_context"]["default_validation_context"]
        found[chain["name"]] = (
            ranges and [(it["address_prefix"], it["prefix_len"]) for it in ranges],
            [
                san["matcher"]["exact"].rpartition("/")[2]
                for san in sans["match_typed_subject_alt_names"]
            ],
        )
    return found


def test_callers_of_http_are_judged_request_by_request() -> None:
    """The handshake takes every identity of the mesh; the rules are in the routes."""
    listener = inbound_listener(mk_workload(), mk_port(Protocol.HTTP))
    assert listener is not None
    (chain,) = shown(listener)["filter_chains"]
    tls = chain["transport_socket"]["typed_config"]["common_tls_context"]
    assert tls["validation_context_sds_secret_config"]["name"] == names.TRUST
    assert listener.needs == {
        Need(ROUTES, "inbound|8080"),
        Need(CLUSTER, "inbound|8080"),
        Need(SECRET, names.IDENTITY),
        Need(SECRET, names.TRUST),
    }


def test_a_server_that_speaks_first_waits_a_second_for_plaintext_callers() -> None:
    """They send nothing that an inspector could tell from TLS."""
    permissive = mk_workload(access=PERMISSIVE, mtls=P)
    listener = inbound_listener(permissive, mk_port(Protocol.SERVER_FIRST))
    assert listener is not None
    found = shown(listener)
    assert found["listener_filters_timeout"] == "1s"
    assert found["continue_on_listener_filters_timeout"] is True
    strict = inbound_listener(mk_workload(access=PERMISSIVE), mk_port(Protocol.SERVER_FIRST))
    assert strict is not None
    assert "listener_filters_timeout" not in shown(strict)


def test_outbound_listeners_are_the_workloads_own() -> None:
    """At its address, on 15001 and on a port per TCP service."""
    workload, ref = mk_workload(), PortRef(ServiceRef("shop", "db"), 5432)
    http, tcp = outbound_http_listener(workload), outbound_tcp_listener(workload, ref, 20_001)
    assert [shown(it)["address"]["socket_address"] for it in (http, tcp)] == [
        {"address": "10.0.0.1", "port_value": 15001},
        {"address": "10.0.0.1", "port_value": 20_001},
    ]
    assert http.needs == {Need(ROUTES, "outbound")}
    assert tcp.needs == {Need(CLUSTER, "shop/db:5432")}


def test_outbound_listeners_are_for_the_workloads_own_host() -> None:
    """Whoever else came in would call services with its identity."""
    tcp = outbound_tcp_listener(mk_workload(), PortRef(ServiceRef("shop", "db"), 5432), 20001)
    for listener in (outbound_http_listener(mk_workload()), tcp):
        (chain,) = shown(listener)["filter_chains"]
        assert chain["filter_chain_match"] == {"source_type": "SAME_IP_OR_LOOPBACK"}


def test_no_address_is_shared_in_silence() -> None:
    """Another sidecar on the host could otherwise bind the same address, unnoticed."""
    workload, ref = mk_workload(), PortRef(ServiceRef("shop", "db"), 5432)
    inbound = inbound_listener(workload, mk_port(Protocol.HTTP))
    assert inbound is not None
    for it in (outbound_http_listener(workload), outbound_tcp_listener(workload, ref, 1), inbound):
        assert shown(it)["enable_reuse_port"] is False
