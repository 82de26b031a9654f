"""Resources as JSON, for people."""

from types import MappingProxyType

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret as TlsSecret
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import TlsCertificate

from smi_xds.mesh.model import PortRef
from smi_xds.values import Secret, ServiceRef
from smi_xds.xds.dump import resource_json, set_json, to_json
from smi_xds.xds.resources import SECRET, TYPES, ResourceSet
from smi_xds.xds.secrets import leaf_secret, trust_secret, upstream_tls

LEAF = leaf_secret(b"chain", Secret(b"the key"))


def test_keys_of_resources_are_never_shown() -> None:
    """Whoever prints what a proxy gets does not print what it must keep."""
    found = resource_json(LEAF)
    assert "the key" not in str(found)
    assert found["tls_certificate"] == {
        "certificate_chain": {"inline_string": "chain"},
        "private_key": "<redacted>",
    }


def test_messages_are_shown_whole() -> None:
    """A bootstrap that is to be run needs its keys."""
    key = DataSource(inline_string="the key")
    message = TlsSecret(name="x", tls_certificate=TlsCertificate(private_key=key))
    assert "the key" in str(to_json(message))


def test_fields_have_the_names_of_envoys_own_documentation() -> None:
    """Snake case, as in Envoy's YAML, also within what is packed."""
    found = to_json(upstream_tls(PortRef(ServiceRef("shop", "web"), 80)))
    assert "common_tls_context" in found


def test_a_set_is_shown_by_type_and_sorted_by_name() -> None:
    """Every type stands there, if only to say that there is none of it."""
    layers = ({"trust": trust_secret(b"roots"), "identity": LEAF},)
    found = set_json(ResourceSet(MappingProxyType({SECRET: layers})))
    assert len(found) == len(TYPES)
    assert [secret["name"] for secret in found["Secret"]] == ["identity", "trust"]
    assert found["Cluster"] == []
