"""All that `smi-xds serve` is told: its groups of flags, judged together."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from smi_xds.config.authority import AuthorityConfig, CertManagerConfig, check_asked_for
from smi_xds.config.kubernetes import KubernetesConfig
from smi_xds.config.log import LogConfig
from smi_xds.config.mesh import MeshConfig
from smi_xds.config.notation import Address, home, parse_address
from smi_xds.config.webhooks import WebhookConfig
from smi_xds.config.writeback import LeaseConfig
from smi_xds.config.xds import DEFAULT_XDS_ADDRESS, NO_XDS_ADDRESS, XdsTlsConfig, parse_xds_address
from smi_xds.problems import ConfigError

DEFAULT_MONITORING_ADDRESS = "127.0.0.1:15014"  # Istio's port for it, as well


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """All that `smi-xds serve` needs to know."""

    files: tuple[Path, ...]
    kubernetes: KubernetesConfig | None
    xds_address: Address | None
    """In plaintext; None for nowhere."""
    xds_tls: XdsTlsConfig | None = None
    """None for nowhere."""
    monitoring_address: Address | None = None
    """Where metrics and health are served; None for nowhere."""
    webhooks: WebhookConfig | None = None
    """None for nowhere."""
    state_folder: Path
    """Where the authority's state is kept, unless `authority` says otherwise."""
    authority: AuthorityConfig = field(default_factory=AuthorityConfig)
    cert_manager: CertManagerConfig | None = None
    """None where our own authority signs."""
    lease: LeaseConfig | None = None
    """None without an API server."""
    write_back: bool = False
    """Whether the leader writes conditions and events."""
    mesh: MeshConfig
    log: LogConfig

    @property
    def needs_leader(self) -> bool:
        """Whether one of the replicas has something to do that the others have not."""
        has_tokens = self.xds_tls is not None and self.xds_tls.tokens is not None
        return self.write_back or self.authority.secret is not None or has_tokens


def parse_serve(
    *,
    files: Iterable[Path] = (),
    kubernetes: KubernetesConfig | None = None,
    xds_address: str = DEFAULT_XDS_ADDRESS,
    allow_plaintext: bool = False,
    xds_tls: XdsTlsConfig | None = None,
    monitoring_address: str | None = None,
    webhooks: WebhookConfig | None = None,
    state_folder: Path | None = None,
    authority: AuthorityConfig | None = None,
    cert_manager: CertManagerConfig | None = None,
    lease: LeaseConfig | None = None,
    write_back: bool = False,
    mesh: MeshConfig | None = None,
    log: LogConfig | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ServeConfig:
    """Judge the flags of `serve` together; ConfigError says which one to change."""
    folders = tuple(dict.fromkeys(files))
    if kubernetes is None:
        _check_without_api_server(folders, xds_tls, cert_manager, authority)
    if cert_manager is not None and authority is not None:
        check_asked_for(authority.leaf_lifetime)
    if state_folder is not None and authority is not None and authority.secret is not None:
        raise ConfigError("--state-secret and --state-folder exclude each other: choose one")
    plaintext = parse_xds_address(xds_address, allow_plaintext=allow_plaintext)
    if plaintext is None and xds_tls is None:
        raise ConfigError(
            f"--xds-address {NO_XDS_ADDRESS} leaves no port for xDS: add --xds-tls-address or "
            "--xds-mtls-address"
        )
    return ServeConfig(
        files=folders,
        kubernetes=kubernetes,
        xds_address=plaintext,
        xds_tls=xds_tls,
        monitoring_address=(
            None
            if monitoring_address is None
            else parse_address(
                monitoring_address, flag="--monitoring-address", example=DEFAULT_MONITORING_ADDRESS
            )
        ),
        webhooks=webhooks,
        state_folder=state_folder or default_state_folder(environ),
        authority=authority or AuthorityConfig(),
        cert_manager=cert_manager,
        lease=lease,
        write_back=write_back,
        mesh=mesh or MeshConfig(),
        log=log or LogConfig(),
    )


def _check_without_api_server(
    folders: tuple[Path, ...],
    xds_tls: XdsTlsConfig | None,
    cert_manager: CertManagerConfig | None,
    authority: AuthorityConfig | None,
) -> None:
    if not folders:
        raise ConfigError("nothing to serve: give --files DIR or --kubernetes")
    if xds_tls is not None and xds_tls.tokens is not None:
        raise ConfigError(
            "--xds-tls-address takes tokens of pods, which an API server has to judge: add "
            "--kubernetes, or have clients prove themselves by certificates (--xds-mtls-address)"
        )
    if cert_manager is not None:
        raise ConfigError("--cert-manager is asked over the API server: add --kubernetes")
    if authority is not None and authority.secret is not None:
        raise ConfigError("--state-secret is kept by an API server: add --kubernetes")


def default_state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`${XDG_STATE_HOME:-~/.local/state}/smi-xds` (XDG Base Directory Specification)."""
    base = Path(environ.get("XDG_STATE_HOME", ""))
    # The specification: a path in it that is not absolute is to be ignored.
    if not base.is_absolute():
        base = home(environ, instead="--state-folder DIR") / ".local" / "state"
    return base / "smi-xds"
