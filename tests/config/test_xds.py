"""Where xDS is served, and by which names."""

import pytest

from smi_xds.config import Address, parse_xds_address, parse_xds_tls
from smi_xds.problems import ConfigError


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"])
def test_xds_is_served_on_loopback(text: str) -> None:
    """Every loopback address will do."""
    address = parse_xds_address(text)

    assert address is not None
    assert address.is_loopback


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0:15010", "[::]:15010", "10.0.0.1:15010", "example.org:15010"),
        *("localhost.example.org:15010", "[::ffff:127.0.0.1]:15010"),
    ],
)
def test_xds_in_plaintext_is_refused_elsewhere(text: str) -> None:
    """Whoever reaches it could take any identity: the error says so, and what to use."""
    with pytest.raises(ConfigError) as caught:
        parse_xds_address(text)

    assert str(caught.value) == (
        f"--xds-address {text} is refused: without TLS, xDS is served on loopback only; "
        "use 127.0.0.1:15010 or [::1]:15010, --xds-tls-address for pods elsewhere, or "
        "--allow-plaintext-xds where only what you trust reaches the port"
    )


def test_plaintext_xds_is_allowed_elsewhere_to_who_insists() -> None:
    """And where nobody wants it, there is none."""
    assert parse_xds_address("0.0.0.0:1", allow_plaintext=True) == Address("0.0.0.0", 1)
    assert parse_xds_address("off") is None


def test_the_names_of_the_xds_server() -> None:
    """Those of its Service, those of this machine, and more where they are given."""
    config = parse_xds_tls(
        tokens="[::]:15012", service="mesh/plane", names=["xds.example.org", "192.0.2.7"]
    )

    assert config is not None
    assert (config.tokens, config.certificates) == (Address("::", 15012), None)
    assert config.names[0] == "plane.mesh.svc"
    assert {"localhost", "127.0.0.1", "xds.example.org", "192.0.2.7"} < set(config.names)


@pytest.mark.parametrize("name", ["", "*.example.org", "a b", "A.example.org", "fe80::1%eth0"])
def test_names_that_no_certificate_has(name: str) -> None:
    """One line that names the flag."""
    with pytest.raises(ConfigError, match="--xds-name"):
        parse_xds_tls(tokens="127.0.0.1:1", names=[name])


def test_no_tls_unless_an_address_is_given() -> None:
    """Names alone would serve nothing, and a bad Service is told all the same."""
    assert parse_xds_tls() is None
    with pytest.raises(ConfigError, match="--xds-name is of use with --xds-tls-address or"):
        parse_xds_tls(names=["xds.example.org"])
    with pytest.raises(ConfigError, match="--xds-service 'x' is not NAMESPACE/NAME"):
        parse_xds_tls(service="x")


def test_an_address_that_is_none_is_told_with_the_port_that_is_usual_there() -> None:
    """What is copied from the line does not collide with another flag's port."""
    with pytest.raises(ConfigError, match=r"--xds-tls-address 'x' .* such as 0\.0\.0\.0:15012$"):
        parse_xds_tls(tokens="x")
    with pytest.raises(ConfigError, match=r"--xds-mtls-address 'x' .* such as 0\.0\.0\.0:15013$"):
        parse_xds_tls(certificates="x")
