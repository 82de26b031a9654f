"""The flags of `smi-xds bootstrap`, and which of them go together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from smi_xds.cli import options
from smi_xds.config import DEFAULT_XDS_ADDRESS, Address, parse_address
from smi_xds.values import ProxyId

DEFAULT_TLS_SERVER: Final = "smi-xds.smi-xds.svc:15012"
DEFAULT_MTLS_SERVER: Final = "127.0.0.1:15013"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What was given, but for what says how files are understood."""

    files: tuple[Path, ...]
    proxy: ProxyId | None
    server: str | None
    output: str | None
    protocol: str | None
    grpc: bool
    certificates: Path | None
    state_folder: Path | None
    for_pods: bool
    token: str | None
    root: str | None
    secrets: Path | None
    server_name: str | None

    @property
    def address(self) -> Address:
        """Of the server, or where it usually is."""
        usual = DEFAULT_XDS_ADDRESS
        if self.for_pods or self.token is not None:
            usual = DEFAULT_TLS_SERVER
        elif self.certificates is not None and not self.grpc:
            usual = DEFAULT_MTLS_SERVER
        return parse_address(self.server or usual, flag="--server", example=usual)


def check(given: Flags) -> None:
    """UsageError for what does not go together, or would do nothing."""
    if given.for_pods:
        _check_for_pods(given)
    elif not given.files or given.proxy is None:
        raise click.UsageError("Give --files and --proxy, or --for-pods.")
    elif given.grpc:
        _check_grpc(given)
    elif given.token is not None:
        _check_token(given)
    else:
        _check_others(given)
    if given.state_folder is not None and given.certificates is None:
        raise click.UsageError("--state-folder signs what --certificates names: add it.")


def _check_for_pods(given: Flags) -> None:
    of_one = {
        "--files": given.files,
        "--proxy": given.proxy,
        "--certificates": given.certificates,
        "--state-folder": given.state_folder,
        "--grpc": given.grpc,
    }
    options.refuse(of_one, "is of one proxy, --for-pods for any, by its token: leave it out.")
    options.refuse(
        {flag: options.is_given(flag) for flag in options.MESH},
        "says how to understand --files, of which --for-pods needs none: leave it out.",
    )


def _check_grpc(given: Flags) -> None:
    if given.output == "yaml":
        raise click.UsageError("gRPC reads JSON alone: leave out --output yaml.")
    if given.protocol is not None:
        raise click.UsageError("gRPC speaks state of the world alone: leave out --protocol.")
    of_sidecars = {
        "--token": given.token,
        "--secrets": given.secrets,
        "--root": given.root,
        "--server-name": given.server_name,
    }
    options.refuse(of_sidecars, "is of a sidecar that asks over TLS, not of --grpc: leave it out.")


def _check_token(given: Flags) -> None:
    if given.certificates is not None:
        raise click.UsageError("--token is a sidecar's proof by itself: leave out --certificates.")
    if given.secrets is None:
        raise click.UsageError("--token needs --secrets DIR, where Envoy is told to follow it.")


def _check_others(given: Flags) -> None:
    of_tokens = {"--root": given.root, "--secrets": given.secrets}
    options.refuse(of_tokens, "goes with --token: add it, or leave this one out.")
    if given.server_name is not None and given.certificates is None:
        raise click.UsageError(
            "--server-name is who to expect over TLS: add --token or --certificates."
        )
