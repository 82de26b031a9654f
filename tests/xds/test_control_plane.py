"""How a sidecar finds its control plane, and proves itself there."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from smi_xds.demo.envoy import envoy_binary
from smi_xds.xds.bootstrap import Protocol, for_pods
from smi_xds.xds.control_plane import (
    Certificate,
    ControlPlane,
    Tls,
    Token,
    secret_files,
    xds_cluster,
)
from tests.support.shown import shown

TOKEN = Tls(
    root="/trust/ca.crt",
    name="smi-xds.smi-xds.svc",
    proof=Token(token="/token/token"),
    secrets="/files",
)
CERTIFICATE = Tls(
    root="/vm/ca.crt",
    name="192.0.2.7",
    proof=Certificate(chain="/vm/tls.crt", key="/vm/tls.key"),
    secrets="/vm",
)


def cluster(tls: Tls | None) -> Any:
    return shown(xds_cluster(ControlPlane(host="smi-xds.smi-xds.svc", port=15012, tls=tls)))


def context(tls: Tls) -> Any:
    return cluster(tls)["transport_socket"]["typed_config"]


def options(tls: Tls | None) -> Any:
    [found] = cluster(tls)["typed_extension_protocol_options"].values()
    return found


def test_in_plaintext_nothing_is_proved() -> None:
    """As on loopback."""
    assert "transport_socket" not in cluster(None)
    assert "http_filters" not in options(None)


@pytest.mark.parametrize(
    "tls, san_type, sni", [(TOKEN, "DNS", TOKEN.name), (CERTIFICATE, "IP_ADDRESS", "")]
)
def test_the_server_is_known_by_root_and_name(tls: Tls, san_type: str, sni: str) -> None:
    """Before anything is shown to it; an address is no server name."""
    common = context(tls)["common_tls_context"]
    validation = common["combined_validation_context"]

    [name] = validation["default_validation_context"]["match_typed_subject_alt_names"]
    assert name == {"san_type": san_type, "matcher": {"exact": tls.name}}
    assert common["alpn_protocols"] == ["h2"]
    assert context(tls).get("sni", "") == sni
    assert validation["validation_context_sds_secret_config"]["name"] == "trust.json"


def test_a_token_is_put_on_every_stream_as_it_is_then() -> None:
    """From a secret that is read again when something moves into the token's folder."""
    injector, codec = options(TOKEN)["http_filters"]

    assert injector["typed_config"]["overwrite"] is True
    generic = injector["typed_config"]["credential"]["typed_config"]
    assert generic["header_value_prefix"] == "Bearer "
    assert generic["credential"] == {
        "name": "token.json",
        "sds_config": {
            "path_config_source": {
                "path": "/files/token.json",
                "watched_directory": {"path": "/token"},
            },
            "resource_api_version": "V3",
        },
    }
    assert codec["name"] == "envoy.filters.http.upstream_codec"
    assert "tls_certificate_sds_secret_configs" not in context(TOKEN)["common_tls_context"]


def test_a_certificate_is_read_again_likewise() -> None:
    """And no token is sent beside it."""
    [config] = context(CERTIFICATE)["common_tls_context"]["tls_certificate_sds_secret_configs"]

    source = config["sds_config"]["path_config_source"]
    assert source == {"path": "/vm/certificate.json", "watched_directory": {"path": "/vm"}}
    assert "http_filters" not in options(CERTIFICATE)


def test_the_secret_files_name_what_is_rotated() -> None:
    """They hold no secret themselves."""
    token = {name: shown(secret) for name, secret in secret_files(TOKEN).items()}
    certificate = {name: shown(secret) for name, secret in secret_files(CERTIFICATE).items()}

    assert token == {
        "token.json": {
            "name": "token.json",
            "generic_secret": {"secret": {"filename": "/token/token"}},
        },
        "trust.json": {
            "name": "trust.json",
            "validation_context": {"trusted_ca": {"filename": "/trust/ca.crt"}},
        },
    }
    assert certificate["certificate.json"]["tls_certificate"] == {
        "certificate_chain": {"filename": "/vm/tls.crt"},
        "private_key": {"filename": "/vm/tls.key"},
    }


@pytest.mark.parametrize("protocol", Protocol)
def test_a_bootstrap_for_any_pod_names_none(protocol: Protocol) -> None:
    """Envoy is told by its command line; its admin interface is on loopback."""
    plane = ControlPlane(host="smi-xds.smi-xds.svc", port=15012, tls=TOKEN)
    found = shown(for_pods(plane, protocol=protocol))

    assert "node" not in found
    assert found["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    api = {Protocol.DELTA: "DELTA_GRPC", Protocol.SOTW: "GRPC"}[protocol]
    assert found["dynamic_resources"]["ads_config"]["api_type"] == api


@pytest.mark.envoy
@pytest.mark.parametrize("kind", ["token", "certificate"])
def test_envoy_takes_it(kind: str, tmp_path: Path) -> None:
    """`envoy --mode validate`, with the node from the command line."""
    folder = str(tmp_path)
    token, certificate = f"{folder}/token", f"{folder}/tls"
    proof = (
        Token(token=token)
        if kind == "token"
        else Certificate(chain=f"{certificate}.crt", key=f"{certificate}.key")
    )
    tls = Tls(root=f"{folder}/ca.crt", name="localhost", proof=proof, secrets=folder)
    plane = ControlPlane(host="127.0.0.1", port=1, tls=tls)
    (tmp_path / "envoy.json").write_text(json.dumps(shown(for_pods(plane))))
    for name, secret in secret_files(tls).items():
        resource = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            **shown(secret),
        }
        (tmp_path / name).write_text(json.dumps({"resources": [resource]}))
    done = subprocess.run(
        [
            *(envoy_binary(), "--mode", "validate", "--config-path", tmp_path / "envoy.json"),
            *("--config-yaml", '{"node": {"id": "shop/web", "cluster": "shop/web"}}'),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
