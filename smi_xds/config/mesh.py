"""What decides how objects are understood, by whichever command reads them."""

from dataclasses import dataclass

from smi_xds.config.notation import parse_choice
from smi_xds.problems import ConfigError
from smi_xds.values import AccessMode, Mode, is_trust_domain

DEFAULT_TRUST_DOMAIN = "cluster.local"  # what the meshes of this field default to


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    """What decides how objects are understood, by whichever command reads them."""

    trust_domain: str = DEFAULT_TRUST_DOMAIN
    access_mode: AccessMode = AccessMode.STRICT
    mtls_mode: Mode = Mode.STRICT


def parse_mesh(
    *,
    trust_domain: str = DEFAULT_TRUST_DOMAIN,
    access_mode: str = AccessMode.STRICT,
    mtls_mode: str = Mode.STRICT,
) -> MeshConfig:
    """Read the flags that decide how objects are understood."""
    if not is_trust_domain(trust_domain):
        raise ConfigError(
            f"--trust-domain {trust_domain!r} cannot be a trust domain: use lower case letters, "
            "digits, '.', '-' and '_', at most 255, without spiffe:// and path"
        )
    return MeshConfig(
        trust_domain=trust_domain,
        access_mode=parse_choice(AccessMode, access_mode, flag="--access-mode"),
        mtls_mode=parse_choice(Mode, mtls_mode, flag="--mtls-mode"),
    )
