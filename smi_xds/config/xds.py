"""Where xDS is served, in plaintext and over TLS, and by which names."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from smi_xds.config.notation import LABEL, Address, parse_address, parse_name
from smi_xds.problems import ConfigError
from smi_xds.values import as_ip

DEFAULT_XDS_ADDRESS = "127.0.0.1:15010"  # Istio's port for xDS in plaintext, which operators know
DEFAULT_XDS_SERVICE = "smi-xds/smi-xds"  # as in deploy/kubernetes
NO_XDS_ADDRESS = "off"  # in the place of an address

# Host names as certificates have them.
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){LABEL.pattern}(\.{LABEL.pattern})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsTlsConfig:
    """Where proxies ask over TLS and prove who they are, and by which names they know us."""

    tokens: Address | None
    """For pods, with tokens; None for nowhere."""
    certificates: Address | None
    """For others, with client certificates; None for nowhere."""
    names: tuple[str, ...]
    """DNS names and IP addresses for the server's certificate."""


def parse_xds_address(text: str, *, allow_plaintext: bool = False) -> Address | None:
    """Read where xDS is served in plaintext: on loopback, or wherever the user insists."""
    if text == NO_XDS_ADDRESS:
        return None
    address = parse_address(text, flag="--xds-address")
    if not (allow_plaintext or address.is_loopback):
        # Without TLS and tokens whoever reaches the port may ask for any identity and its key.
        raise ConfigError(
            f"--xds-address {text} is refused: without TLS, xDS is served on loopback only; "
            f"use 127.0.0.1:{address.port} or [::1]:{address.port}, --xds-tls-address for pods "
            "elsewhere, or --allow-plaintext-xds where only what you trust reaches the port"
        )
    return address


def parse_xds_tls(
    *,
    tokens: str | None = None,
    certificates: str | None = None,
    service: str = DEFAULT_XDS_SERVICE,
    names: Iterable[str] = (),
) -> XdsTlsConfig | None:
    """Read the addresses for callers with tokens and with certificates; None without either."""
    namespace, name = parse_name(
        service, kind="Service", flag="--xds-service", example=DEFAULT_XDS_SERVICE
    )
    more = tuple(names)
    for one in more:
        if as_ip(one) is None and not _DNS_NAME.fullmatch(one):
            raise ConfigError(f"--xds-name {one!r} is neither a DNS name nor an IP address")
    if tokens is None and certificates is None:
        if more:
            raise ConfigError(
                "--xds-name is of use with --xds-tls-address or --xds-mtls-address only: add one"
            )
        return None
    short = f"{name}.{namespace}"
    # The first is what bootstraps say. On this machine, and through a port-forward, it is the last.
    own = (f"{short}.svc", f"{short}.svc.cluster.local", short, "localhost")
    return XdsTlsConfig(
        tokens=(
            None
            if tokens is None
            else parse_address(tokens, flag="--xds-tls-address", example="0.0.0.0:15012")
        ),
        certificates=(
            None
            if certificates is None
            else parse_address(certificates, flag="--xds-mtls-address", example="0.0.0.0:15013")
        ),
        names=tuple(dict.fromkeys((*own, "127.0.0.1", "::1", *more))),
    )
