"""Certificates and trust."""

from smi_xds.mesh.model import PortRef
from smi_xds.values import Secret, ServiceRef
from smi_xds.xds import names
from smi_xds.xds.resources import SECRET
from smi_xds.xds.secrets import (
    downstream_tls,
    leaf_secret,
    peers_secret,
    san_matchers,
    trust_secret,
    upstream_tls,
)
from tests.support.objects import spiffe
from tests.support.shown import shown

WEB = PortRef(ServiceRef("shop", "web"), 80)


def test_a_leaf_is_the_secret_called_identity() -> None:
    """Every proxy asks for the same name; whose leaf it gets is decided per stream."""
    leaf = leaf_secret(b"chain", Secret(b"the key"))
    assert (leaf.type, leaf.name) == (SECRET, "identity")
    assert b"the key" in leaf.body
    assert "the key" not in repr(leaf)


def test_peers_are_the_exact_identities_behind_a_service() -> None:
    """Sorted, by URI, together with the roots that prove them."""
    context = shown(peers_secret(WEB, (spiffe("b"), spiffe("a")), b"roots"))
    assert context["validation_context"] == {
        "trusted_ca": {"inline_string": "roots"},
        "match_typed_subject_alt_names": [
            {"san_type": "URI", "matcher": {"exact": str(spiffe(name))}} for name in "ab"
        ],
        "max_verify_depth": 3,
    }


def test_a_list_of_names_is_never_empty() -> None:
    """Envoy reads an empty list as anyone with a certificate: nobody has a name of its own."""
    (nobody,) = [shown(matcher) for matcher in san_matchers(())]
    assert nobody == {"san_type": "URI", "matcher": {"exact": names.NO_ONE}}


def test_trust_alone_accepts_every_identity_of_the_mesh() -> None:
    """For servers whose callers are judged request by request."""
    assert shown(trust_secret(b"roots"))["validation_context"] == {
        "trusted_ca": {"inline_string": "roots"},
        "max_verify_depth": 3,
    }


def test_clients_check_who_answers() -> None:
    """A client proves itself, offers our ALPN, and checks the names behind the service."""
    tls = shown(upstream_tls(WEB))
    common = tls["common_tls_context"]
    assert common["alpn_protocols"] == ["smi-xds"]
    assert common["tls_certificate_sds_secret_configs"][0]["name"] == "identity"
    assert common["validation_context_sds_secret_config"]["name"] == "peers|shop/web:80"
    assert tls["sni"] == "web.shop.svc"


def test_servers_ask_for_a_certificate() -> None:
    """Always; with callers given, the handshake admits these alone."""
    anyone, some = shown(downstream_tls()), shown(downstream_tls((spiffe("a"),)))
    assert anyone["require_client_certificate"] is some["require_client_certificate"] is True
    trust = anyone["common_tls_context"]["validation_context_sds_secret_config"]
    assert trust["name"] == "trust"
    combined = some["common_tls_context"]["combined_validation_context"]
    assert combined["default_validation_context"]["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": str(spiffe("a"))}}
    ]
    assert combined["validation_context_sds_secret_config"]["name"] == "trust"


def test_nobody_admitted_is_nobody() -> None:
    """An empty list of callers does not become a list that admits all."""
    tls = shown(downstream_tls(()))
    combined = tls["common_tls_context"]["combined_validation_context"]
    (san,) = combined["default_validation_context"]["match_typed_subject_alt_names"]
    assert san["matcher"] == {"exact": names.NO_ONE}
