"""Who signs certificates: an authority of our own, one that is brought, or cert-manager."""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from smi_xds.config.notation import LABEL, SUBDOMAIN, parse_name
from smi_xds.problems import ConfigError

DEFAULT_LEAF_LIFETIME: Final = "24h"  # how long a stolen key is of use

# Shorter, and proxies would be told of new leaves more often than they answer.
_SHORTEST: Final = timedelta(seconds=5)
# An answer that ends within half a minute is not taken, and some of its time is over by then.
_SHORTEST_ASKED: Final = timedelta(minutes=1)
# Longer than this, a phase of a rotation takes longer than operators stay in one place.
_LONGEST: Final = timedelta(days=90)

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

# An external issuer has a group of its own, as in KIND.GROUP.
_ISSUER = re.compile(
    rf"(?P<namespace>{LABEL.pattern})/(?P<kind>[A-Za-z][A-Za-z0-9]{{0,62}})"
    rf"(\.(?P<group>{SUBDOMAIN.pattern}))?/(?P<name>{SUBDOMAIN.pattern})"
)


@dataclass(frozen=True, slots=True)
class SecretName:
    """A Secret of Kubernetes."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtConfig:
    """An authority that the operator brings, in files; they may be replaced at any time."""

    chain: Path
    """The signing certificate, and what leads from it to the root."""
    key: Path
    root: Path | None = None
    """The root, where `chain` does not end with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityConfig:
    """What there is to choose about who signs."""

    secret: SecretName | None = None
    """Keeps the state instead of the state folder."""
    brought: BroughtConfig | None = None
    """None where we make a root of our own."""
    leaf_lifetime: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertManagerConfig:
    """Which issuer of cert-manager signs the workloads' certificates."""

    namespace: str
    """Where it is asked."""
    kind: str
    group: str
    name: str
    ca: Path | None = None
    """Its roots, PEM; None to believe what its answers say."""


def parse_authority(
    *,
    state_secret: str | None = None,
    ca_cert: Path | None = None,
    ca_key: Path | None = None,
    ca_root: Path | None = None,
    leaf_lifetime: str = DEFAULT_LEAF_LIFETIME,
) -> AuthorityConfig:
    """Read them; ConfigError says which one to change."""
    if (ca_cert is None) != (ca_key is None):
        given, missing = ("--ca-cert", "--ca-key") if ca_cert else ("--ca-key", "--ca-cert")
        raise ConfigError(f"{given} is of use together with {missing} only: add it")
    if ca_root is not None and ca_cert is None:
        raise ConfigError("--ca-root is of use with --ca-cert and --ca-key only: add them")
    brought = None
    if ca_cert is not None and ca_key is not None:
        brought = BroughtConfig(chain=ca_cert, key=ca_key, root=ca_root)
    return AuthorityConfig(
        secret=None if state_secret is None else parse_secret(state_secret),
        brought=brought,
        leaf_lifetime=parse_lifetime(leaf_lifetime, flag="--leaf-lifetime"),
    )


def parse_secret(text: str) -> SecretName:
    """Read which Secret keeps the state."""
    return SecretName(
        *parse_name(text, kind="Secret", flag="--state-secret", example="smi-xds/smi-xds-ca")
    )


def parse_lifetime(text: str, *, flag: str) -> timedelta:
    """Read a number with its unit."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    lifetime = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not _SHORTEST <= lifetime <= _LONGEST:
        raise ConfigError(
            f"{flag} {text!r} is no time from {_SHORTEST.seconds}s to {_LONGEST.days}d: "
            "write a number with s, m, h or d"
        )
    return lifetime


def check_asked_for(lifetime: timedelta) -> None:
    """ConfigError where an issuer that has to be asked could not keep up with it."""
    if lifetime < _SHORTEST_ASKED:
        raise ConfigError(
            f"--leaf-lifetime {lifetime.seconds}s is too short for --cert-manager: give "
            f"{_SHORTEST_ASKED.seconds}s at least"
        )


def parse_cert_manager(
    reference: str | None, *, ca: Path | None = None
) -> CertManagerConfig | None:
    """Read who signs instead of our own authority; None where nobody does."""
    if reference is None:
        if ca is not None:
            raise ConfigError("--cert-manager-ca is of use with --cert-manager only: add it")
        return None
    found = _ISSUER.fullmatch(reference)
    if found is None:
        raise ConfigError(
            f"--cert-manager {reference!r} is not NAMESPACE/KIND/NAME of an issuer, such as "
            "smi-xds/Issuer/mesh or smi-xds/ClusterIssuer/mesh"
        )
    return CertManagerConfig(
        namespace=found["namespace"],
        kind=found["kind"],
        group=found["group"] or "cert-manager.io",
        name=found["name"],
        ca=ca,
    )
