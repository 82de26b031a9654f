"""What `smi-xds bootstrap` writes for sidecars that prove who they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from smi_xds.cli.options import Command
from smi_xds.config import Address

if TYPE_CHECKING:
    from smi_xds.values import SpiffeId
    from smi_xds.xds.control_plane import Tls

# Where a pod's volumes are, as docs/sidecar.md mounts them.
POD_TOKEN: Final = "/var/run/secrets/smi-xds/token"  # noqa: S105 - a path
POD_ROOT: Final = "/var/run/smi-xds/ca.crt"
POD_FILES: Final = "/etc/smi-xds"
CONFIG_MAP: Final = "smi-xds-sidecar"
BOOTSTRAP_FILE: Final = "envoy.json"


def tls_options(command: Command) -> Command:
    """How a sidecar proves who it is, and knows its server."""
    for option in (
        click.option(
            "--server-name",
            metavar="NAME",
            help="Over TLS: the name, DNS or IP, that the server's certificate is for.  "
            "[default: the host of --server]",
        ),
        click.option(
            "--secrets",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="With --token: where to write the files by which Envoy follows it; for pods: "
            f"where the ConfigMap is mounted.  [default for pods: {POD_FILES}]",
        ),
        click.option(
            "--root",
            metavar="FILE",
            help="With --token, or for pods: the roots that the server's certificate may lead to.  "
            f"[default: {POD_ROOT}]",
        ),
        click.option(
            "--token",
            metavar="FILE",
            help="Prove the pod by the token in this file, over TLS.",
        ),
        click.option(
            "--for-pods",
            is_flag=True,
            help=f"A ConfigMap {CONFIG_MAP} for all pods of a namespace; needs no objects.",
        ),
    ):
        command = option(command)
    return command


def token_tls(server: Address, *, name: str | None, token: str, root: str, secrets: str) -> "Tls":
    """Over TLS, with a token."""
    from smi_xds.xds.control_plane import Tls, Token

    return Tls(root=root, name=name or server.host, proof=Token(token=token), secrets=secrets)


def certificate_tls(server: Address, *, name: str | None, folder: Path) -> "Tls":
    """Over TLS, with a client certificate; the folder has all that is needed."""
    from smi_xds.identity.handout import CERTIFICATE_CHAIN, PRIVATE_KEY, TRUST_BUNDLE
    from smi_xds.xds.control_plane import Certificate, Tls

    proof = Certificate(chain=str(folder / CERTIFICATE_CHAIN), key=str(folder / PRIVATE_KEY))
    root = str(folder / TRUST_BUNDLE)
    return Tls(root=root, name=name or server.host, proof=proof, secrets=str(folder))


def secret_documents(tls: "Tls") -> dict[str, str]:
    """The files by which Envoy follows tokens and certificates, and what is in them."""
    from smi_xds.xds.control_plane import secret_files
    from smi_xds.xds.dump import to_json
    from smi_xds.xds.encode import type_url

    found = {}
    for file, secret in secret_files(tls).items():
        resource = {"@type": type_url(type(secret)), **to_json(secret)}
        found[file] = json.dumps({"resources": [resource]}, indent=2) + "\n"
    return found


def write_secret_documents(tls: "Tls") -> None:
    """Write them to the folder in which Envoy looks, perhaps at this moment."""
    from smi_xds.identity.handout import replace_file

    folder = Path(tls.secrets)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file, text in secret_documents(tls).items():
            replace_file(folder / file, text.encode(), mode=0o644)
    except OSError as error:
        raise click.UsageError(
            f"{folder} cannot be written: {error.strerror}; choose another folder."
        ) from None


def sign(
    identity: "SpiffeId", *, folder: Path, state_folder: Path, tell: Callable[[str], object]
) -> None:
    """Write a new certificate to the folder, and say when it ends."""
    from smi_xds.identity.handout import hand_out
    from smi_xds.identity.issuer import wall_clock

    leaf = hand_out(identity, state_folder=state_folder, folder=folder, now=wall_clock())
    tell(f"# The certificate of {identity} ends at {leaf.not_after:%Y-%m-%d %H:%M:%S} UTC")


def config_map(
    server: Address, *, name: str | None, token: str, root: str, mounted: Path, protocol: str
) -> dict[str, object]:
    """A ConfigMap with what the Envoys of all pods start with; which one it is, each is told."""
    from smi_xds.xds.bootstrap import Protocol, for_pods
    from smi_xds.xds.control_plane import ControlPlane
    from smi_xds.xds.dump import to_json

    tls = token_tls(server, name=name, token=token, root=root, secrets=str(mounted))
    plane = ControlPlane(host=server.host, port=server.port, tls=tls)
    bootstrap = to_json(for_pods(plane, protocol=Protocol(protocol)))
    files = {BOOTSTRAP_FILE: json.dumps(bootstrap, indent=2) + "\n", **secret_documents(tls)}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": CONFIG_MAP,
            "labels": {"app.kubernetes.io/name": "smi-xds"},
        },
        "data": dict(sorted(files.items())),
    }
