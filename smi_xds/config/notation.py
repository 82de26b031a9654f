"""How flags write what many of them take: addresses, names of objects, choices, folders."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal, TypeVar

from smi_xds.problems import ConfigError
from smi_xds.values import as_ip

# A namespace, a Service, a label of a host name: RFC 1123, section 2.1, in lower case.
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# Other objects have the names of whole hosts.
SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a server listens or is found."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it; a name other than localhost could be anyone's."""
        ip = as_ip(self.host)
        return self.host == "localhost" or (ip is not None and ip.is_loopback)


def parse_address(text: str, *, flag: str, example: str = "127.0.0.1:15010") -> Address:
    """Read `HOST:PORT`, or `[HOST]:PORT` for IPv6; port 0 lets the system choose one."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_host = isinstance(as_ip(host), IPv6Address)
    else:
        is_host = bool(host) and not re.search(r"[\s\[\]:/]", host)
    if not (colon and is_host):
        raise ConfigError(f"{flag} {text!r} is not HOST:PORT, such as {example}")
    # int() would also take '+1', '1_0' and digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError(f"{flag} {text!r} has a port that is not a number from 0 to 65535")
    return Address(host, int(port))


def parse_name(
    text: str, *, kind: Literal["Lease", "Secret", "Service"], flag: str, example: str
) -> tuple[str, str]:
    """Read `NAMESPACE/NAME` of an object."""
    names = LABEL if kind == "Service" else SUBDOMAIN
    namespace, slash, name = text.partition("/")
    if not (slash and LABEL.fullmatch(namespace) and names.fullmatch(name)):
        raise ConfigError(f"{flag} {text!r} is not NAMESPACE/NAME of a {kind}, such as {example}")
    return namespace, name


def parse_choice(choices: type[_Choice], text: str, *, flag: str) -> _Choice:
    """Read one of a fixed set of words."""
    try:
        return choices(text)
    except ValueError:
        raise ConfigError(f"{flag} {text!r} must be one of: {', '.join(choices)}") from None


def home(environ: Mapping[str, str], *, instead: str) -> Path:
    """The home folder; `instead` is the flag that does without."""
    folder = Path(environ.get("HOME", ""))
    if not folder.is_absolute():
        raise ConfigError(f"HOME is not set to a folder: set it, or give {instead}")
    return folder
