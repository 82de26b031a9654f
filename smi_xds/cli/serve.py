"""`smi-xds serve`: the control plane itself."""

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from smi_xds.cli import options
from smi_xds.cli.serve_options import authority_options, write_back_options, xds_tls_options
from smi_xds.config import (
    DEFAULT_MONITORING_ADDRESS,
    DEFAULT_WEBHOOK_SERVICE,
    DEFAULT_XDS_ADDRESS,
    KubernetesConfig,
    LogFormat,
    LogLevel,
    ServeConfig,
    parse_authority,
    parse_cert_manager,
    parse_kubernetes,
    parse_lease,
    parse_log,
    parse_mesh,
    parse_serve,
    parse_webhooks,
    parse_write_back,
    parse_xds_tls,
)


def _kubernetes(command: options.Command) -> options.Command:
    for option in (
        options.namespaces,
        options.in_cluster,
        options.api_server,
        click.option("--kubernetes", is_flag=True, help="Read objects from an API server."),
    ):
        command = option(command)
    return command


@click.command()
@options.files(required=False)
@_kubernetes
@click.option(
    "--xds-address",
    default=DEFAULT_XDS_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="Where sidecars ask in plaintext: on loopback (port 0 for any free one), or off.",
)
@xds_tls_options
@click.option(
    "--monitoring-address",
    default=DEFAULT_MONITORING_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="Where /metrics, /healthz and /readyz are served; port 0 for any free one.",
)
@click.option(
    "--webhook-address",
    metavar="HOST:PORT",
    help="Where API servers have objects converted and validated, over TLS; usually "
    "0.0.0.0:15017.  [default: nowhere]",
)
@click.option(
    "--webhook-service",
    default=DEFAULT_WEBHOOK_SERVICE,
    show_default=True,
    metavar="NAMESPACE/NAME",
    help="The Service that leads there, for whose names the certificate is.",
)
@click.option(
    "--state-folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the certificate authority is kept.  "
    "[default: smi-xds in $XDG_STATE_HOME or ~/.local/state]",
)
@authority_options
@click.option(
    "--cert-manager",
    metavar="NAMESPACE/KIND/NAME",
    help="Have this issuer of cert-manager sign the workloads' certificates, asked by "
    "CertificateRequests in that namespace.  [default: an authority of our own signs]",
)
@click.option(
    "--cert-manager-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The roots of that issuer; give old and new while they change.  [default: what its "
    "answers say]",
)
@write_back_options
@options.mesh
@click.option(
    "--log-format",
    type=click.Choice([choice.value for choice in LogFormat]),
    help="[default: console in a terminal, else json]",
)
@click.option(
    "--log-level",
    type=click.Choice([choice.value for choice in LogLevel]),
    default=LogLevel.INFO.value,
    show_default=True,
)
def serve(**given: Any) -> int:
    """Serve sidecars, and follow every change of the objects.

    Objects come from folders (--files), from a Kubernetes API server (--kubernetes), or from
    both. Sidecars ask on an xDS address; what they start with is written by
    `smi-xds bootstrap`. In plaintext they are believed who they say they are; over TLS they have
    to prove it (--xds-tls-address, --xds-mtls-address). SIGTERM and Ctrl-C end it.

    \b
    Examples:
      smi-xds serve --files my-objects
      smi-xds serve --kubernetes --context staging --namespace shop
      smi-xds serve --files my-objects --xds-address 127.0.0.1:0 --state-folder ./state

    Exit code: 0 after a signal, 2 where it could not start.
    """
    config = configured(**given)
    # Until the first sync, when `app.pipeline` freezes what is there: a tenth of the start went
    # into looking for garbage among classes.
    gc.disable()
    # gRPC's core writes to standard error by itself, a line for each handshake that a stranger
    # breaks off; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from smi_xds import app

    return app.serve(config)


def configured(
    *,
    files: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: str | None,
    context: str | None,
    in_cluster: bool,
    namespaces: tuple[str, ...],
    xds_address: str,
    allow_plaintext_xds: bool,
    xds_tls_address: str | None,
    xds_mtls_address: str | None,
    xds_service: str,
    xds_names: tuple[str, ...],
    monitoring_address: str,
    webhook_address: str | None,
    webhook_service: str,
    state_folder: Path | None,
    state_secret: str | None,
    ca_cert: Path | None,
    ca_key: Path | None,
    ca_root: Path | None,
    leaf_lifetime: str,
    cert_manager: str | None,
    cert_manager_ca: Path | None,
    lease: str | None,
    write_back: bool | None,
    log_format: str | None,
    log_level: str,
    environ: Mapping[str, str] = os.environ,
    **mesh: str,
) -> ServeConfig:
    """Judge the options of `serve`, also for a pod that is to have them; ConfigError."""
    chosen = log_format or (LogFormat.CONSOLE if sys.stderr.isatty() else LogFormat.JSON)
    api_server = _api_server(kubernetes, kubeconfig, context, namespaces, in_cluster=in_cluster)
    return parse_serve(
        files=files,
        kubernetes=api_server,
        xds_address=xds_address,
        allow_plaintext=allow_plaintext_xds,
        xds_tls=parse_xds_tls(
            tokens=xds_tls_address,
            certificates=xds_mtls_address,
            service=xds_service,
            names=xds_names,
        ),
        monitoring_address=monitoring_address,
        webhooks=parse_webhooks(webhook_address, service=webhook_service),
        state_folder=state_folder,
        authority=parse_authority(
            state_secret=state_secret,
            ca_cert=ca_cert,
            ca_key=ca_key,
            ca_root=ca_root,
            leaf_lifetime=leaf_lifetime,
        ),
        cert_manager=parse_cert_manager(cert_manager, ca=cert_manager_ca),
        lease=parse_lease(lease, api_server),
        write_back=parse_write_back(api_server, wanted=write_back),
        mesh=parse_mesh(**mesh),
        log=parse_log(log_format=chosen, log_level=log_level),
        environ=environ,
    )


def _api_server(
    wanted: bool,
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    *,
    in_cluster: bool,
) -> KubernetesConfig | None:
    if wanted:
        return parse_kubernetes(
            kubeconfig=kubeconfig, context=context, in_cluster=in_cluster, namespaces=namespaces
        )
    given = {
        "--kubeconfig": kubeconfig,
        "--context": context,
        "--namespace": namespaces,
        "--in-cluster": in_cluster,
    }
    options.refuse(given, "says which API server to read: add --kubernetes.")
    return None
