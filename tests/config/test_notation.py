"""Addresses and choices, as flags write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.config import Address, parse_address, parse_log, parse_mesh
from smi_xds.problems import ConfigError


@pytest.mark.parametrize(
    "text, host, port",
    [
        ("127.0.0.1:15010", "127.0.0.1", 15010),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("control.example.org:443", "control.example.org", 443),
    ],
)
def test_an_address_is_host_and_port(text: str, host: str, port: int) -> None:
    """It is printed as it was written."""
    address = parse_address(text, flag="--server")

    assert address == Address(host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":15010", "127.0.0.1", "::1:15010", "[::1]", "[::1:15010", "[]:1", "[a.b]:1"),
        *("[127.0.0.1]:1", "[fe80::1%eth0]:1", "http://a:1", "a b:1", "a/b:1", "[::1]x:1"),
    ],
)
def test_what_is_not_host_and_port_is_refused(text: str) -> None:
    """The error quotes it, names the flag and shows the form."""
    with pytest.raises(ConfigError) as caught:
        parse_address(text, flag="--server")

    assert str(caught.value) == f"--server {text!r} is not HOST:PORT, such as 127.0.0.1:15010"


@pytest.mark.parametrize("port", ["", "x", "-1", "+1", "1_0", "65536", "1 ", "\u0661", "000080"])
def test_a_port_is_a_number_from_0_to_65535(port: str) -> None:
    """Spellings that only a programming language knows are refused too."""
    with pytest.raises(ConfigError, match="has a port that is not a number from 0 to 65535"):
        parse_address(f"127.0.0.1:{port}", flag="--server")


@given(text=st.text(max_size=30))
def test_any_text_is_an_address_or_one_line(text: str) -> None:
    """Nothing but ConfigError escapes, and its message has one line."""
    message = ""
    address: Address | None = None
    try:
        address = parse_address(text, flag="--server")
    except ConfigError as error:
        message = str(error)

    assert len(message.splitlines()) == (1 if address is None else 0)
    assert address is None or parse_address(str(address), flag="--server") == address


def test_a_choice_that_does_not_exist_is_refused_with_those_that_do() -> None:
    """Each flag with a fixed set of values names them."""
    with pytest.raises(ConfigError, match=r"^--access-mode 'lax' must be one of: strict, shadow"):
        parse_mesh(access_mode="lax")
    with pytest.raises(ConfigError, match=r"^--mtls-mode 'off' must be one of: strict, permissive"):
        parse_mesh(mtls_mode="off")
    with pytest.raises(ConfigError, match=r"^--log-format 'xml' must be one of: json, console$"):
        parse_log(log_format="xml")
    with pytest.raises(ConfigError, match=r"^--log-level 'all' must be one of: debug, info, warn"):
        parse_log(log_level="all")
