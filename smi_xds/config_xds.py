"""The flags of `serve` that say where xDS is served over TLS, and by which names."""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from smi_xds.config import XdsTlsConfig, parse_address, parse_service
from smi_xds.problems import ConfigError

DEFAULT_XDS_SERVICE = "smi-xds/smi-xds"  # as in deploy/kubernetes

# Host names as certificates have them: RFC 1123, section 2.1, in lower case.
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def parse_xds_tls(
    *,
    tokens: str | None = None,
    certificates: str | None = None,
    service: str = DEFAULT_XDS_SERVICE,
    names: Iterable[str] = (),
) -> XdsTlsConfig | None:
    """Read the addresses for callers with tokens and with certificates; None without either."""
    namespace, name = parse_service(service, flag="--xds-service", example=DEFAULT_XDS_SERVICE)
    more = tuple(names)
    for one in more:
        if not (_is_ip(one) or _DNS_NAME.fullmatch(one)):
            raise ConfigError(f"--xds-name {one!r} is neither a DNS name nor an IP address")
    if tokens is None and certificates is None:
        return None
    short = f"{name}.{namespace}"
    # The first is what bootstraps say. On this machine, and through a port-forward, it is the last.
    own = (f"{short}.svc", f"{short}.svc.cluster.local", short, "localhost")
    return XdsTlsConfig(
        tokens=None if tokens is None else parse_address(tokens, flag="--xds-tls-address"),
        certificates=(
            None if certificates is None else parse_address(certificates, flag="--xds-mtls-address")
        ),
        names=tuple(dict.fromkeys((*own, "127.0.0.1", "::1", *more))),
    )


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return "%" not in name
