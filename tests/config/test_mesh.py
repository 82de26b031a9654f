"""What decides how objects are understood."""

import pytest

from smi_xds.config import MeshConfig, parse_mesh
from smi_xds.problems import ConfigError
from smi_xds.values import AccessMode, Mode


@pytest.mark.parametrize("text", ["", "Cluster.local", "spiffe://cluster.local", "a/b", "a b"])
def test_a_bad_trust_domain_is_refused(text: str) -> None:
    """The error quotes it and says what one is made of."""
    with pytest.raises(ConfigError) as caught:
        parse_mesh(trust_domain=text)

    assert str(caught.value).startswith(f"--trust-domain {text!r} cannot be a trust domain: use ")


def test_access_and_mtls_have_modes_of_their_own() -> None:
    """One may be permissive while the other stays strict."""
    mesh = parse_mesh(trust_domain="example.org", access_mode="permissive", mtls_mode="strict")

    assert mesh == MeshConfig(
        trust_domain="example.org", access_mode=AccessMode.PERMISSIVE, mtls_mode=Mode.STRICT
    )
