"""Frozen values that every room shares.

Nothing here knows of Kubernetes clients, Envoy or YAML; everything is hashable, ordered and
prints the way an operator would write it.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NewType, Self

# SPIFFE-ID specification, sections 2.1 and 2.2: lower case trust domain, unescaped path segments.
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")

TypeUrl = NewType("TypeUrl", str)
"""`type.googleapis.com/envoy.config.cluster.v3.Cluster` and its like."""


class Mode(StrEnum):
    """Whether callers of a mesh, a namespace or a workload have to use mTLS."""

    STRICT = "strict"
    PERMISSIVE = "permissive"


class AccessMode(StrEnum):
    """What TrafficTargets do in a mesh, a namespace or a workload.

    `strict` ones decide, `permissive` ones are not even asked. In `shadow` everyone is let in,
    and what would have been denied is counted and logged.
    """

    STRICT = "strict"
    SHADOW = "shadow"
    PERMISSIVE = "permissive"


def is_trust_domain(text: str) -> bool:
    """Whether it may name a trust domain (SPIFFE-ID, section 2.1)."""
    return _TRUST_DOMAIN.fullmatch(text) is not None


def as_ip(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that it is; None for one with a zone, which only one machine understands."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """Names one Kubernetes or SMI object; `namespace` is empty for those without one."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else self._bare()

    def _bare(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, order=True)
class ServiceRef:
    """A Kubernetes Service."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class ServiceAccountRef:
    """A Kubernetes ServiceAccount: the identity of a workload."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class ProxyId:
    """One data plane, named by its pod (or VM): `namespace/name` is its xDS node id."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace/name`; ValueError says what is wrong with it."""
        namespace, slash, name = text.partition("/")
        if not (slash and namespace and name) or "/" in name:
            raise ValueError(f"{text!r} is not NAMESPACE/NAME")
        return cls(namespace, name)


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A workload identity, as in the URI SAN of its certificate (SPIFFE-ID, section 2)."""

    trust_domain: str
    path: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"

    @classmethod
    def of(cls, trust_domain: str, account: ServiceAccountRef) -> Self:
        """The identity of a service account: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/NAME`."""
        return cls(trust_domain, f"/ns/{account.namespace}/sa/{account.name}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `spiffe://trust-domain/path`; ValueError says what is wrong with it."""
        scheme, separator, rest = text.partition("://")
        domain, slash, path = rest.partition("/")
        if scheme != "spiffe" or not separator:
            raise ValueError(f"{text!r} is not a SPIFFE id: it does not start with spiffe://")
        if not is_trust_domain(domain):
            raise ValueError(f"{text!r} is not a SPIFFE id: bad trust domain {domain!r}")
        if not _PATH.fullmatch(slash + path):
            raise ValueError(f"{text!r} is not a SPIFFE id: bad path {slash + path!r}")
        return cls(domain, slash + path)

    @property
    def service_account(self) -> ServiceAccountRef | None:
        """The service account it stands for, or None where the path has another form."""
        match self.path.split("/"):
            case ["", "ns", namespace, "sa", name]:
                return ServiceAccountRef(namespace, name)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Secret:
    """Bytes that must never be printed: private keys and tokens."""

    value: bytes = field(repr=False)

    def __str__(self) -> str:
        return "<redacted>"
