"""`smi-xds bootstrap`: what a sidecar, or a gRPC process without one, starts with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smi_xds.cli import bootstrap_tls, options
from smi_xds.config import DEFAULT_XDS_ADDRESS, Address, parse_address, parse_mesh
from smi_xds.values import ProxyId

if TYPE_CHECKING:
    from smi_xds.mesh.model import Mesh, Workload
    from smi_xds.xds.control_plane import Tls


@click.command()
@options.files(required=False)
@options.proxy_or_none
@click.option(
    "--server",
    "-s",
    metavar="HOST:PORT",
    help=f"Where `smi-xds serve` listens.  [default: {DEFAULT_XDS_ADDRESS}; "
    f"{bootstrap_tls.DEFAULT_TLS_SERVER} with tokens; "
    f"{bootstrap_tls.DEFAULT_MTLS_SERVER} with certificates]",
)
@click.option(
    "--output",
    "-o",
    type=click.Choice(["json", "yaml"]),
    help="Envoy tells them apart by the file's name; gRPC reads JSON alone.  [default: json; yaml "
    "with --for-pods]",
)
@click.option(
    "--protocol",
    type=click.Choice(["delta", "sotw"]),
    help="How Envoy asks: incremental xDS, or state of the world.  [default: delta]",
)
@click.option("--grpc", is_flag=True, help="For a gRPC process without a proxy.")
@click.option(
    "--certificates",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where tls.crt, tls.key and ca.crt are. Envoy proves itself to the server by them; with "
    "--grpc they are for other workloads.",
)
@click.option(
    "--state-folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --certificates: write new ones, signed by the authority of `smi-xds serve`.",
)
@bootstrap_tls.tls_options
@options.mesh
def bootstrap(
    files: tuple[Path, ...],
    proxy: ProxyId | None,
    server: str | None,
    output: str | None,
    protocol: str | None,
    grpc: bool,
    certificates: Path | None,
    state_folder: Path | None,
    for_pods: bool,
    token: str | None,
    root: str | None,
    secrets: Path | None,
    server_name: str | None,
    **mesh: str,
) -> int:
    """Print what the Envoy of a proxy starts with.

    It names the proxy and the server; everything else comes from there. Where the application
    calls and is called is told on standard error, or as comments in YAML.

    With --grpc it is for a process whose pod says `smi-xds.io/sidecar: proxyless`, and whose gRPC
    clients dial xds:///SERVICE.NAMESPACE:PORT. Services that ask for an identity need
    --certificates: they last a day. Run it again, with --state-folder, for new ones; the process
    notices by itself.

    Over TLS a sidecar proves who it is. In a pod, by its token: --for-pods prints a ConfigMap for
    all pods of a namespace (docs/sidecar.md). On a VM or a laptop, by --certificates, which last a
    day as well and are renewed in the same way.

    \b
    Examples:
      smi-xds bootstrap --files my-objects --proxy shop/web > web.json
      envoy --config-path web.json --concurrency 1 --drain-time-s 10
      smi-xds bootstrap --for-pods | kubectl apply --namespace shop -f -
      smi-xds bootstrap --files my-objects --proxy shop/vm --server xds.example.org:15013 \\
        --certificates ./vm --state-folder ~/.local/state/smi-xds > vm.json
      smi-xds bootstrap --files my-objects --proxy shop/job --grpc \\
        --certificates ./job --state-folder ~/.local/state/smi-xds > job.json
      GRPC_XDS_BOOTSTRAP=job.json ./job

    Exit code: 0, or 2 where the folders could not be read or have no such proxy.
    """
    if for_pods:
        _check_for_pods(files, proxy, certificates, grpc=grpc)
        address = parse_address(server or bootstrap_tls.DEFAULT_TLS_SERVER, flag="--server")
        document = bootstrap_tls.config_map(
            address,
            name=server_name,
            token=token or bootstrap_tls.POD_TOKEN,
            root=root or bootstrap_tls.POD_ROOT,
            mounted=secrets or Path(bootstrap_tls.POD_FILES),
            protocol=protocol or "delta",
        )
        _print(document, output=output or "yaml")
        return 0
    if not files or proxy is None:
        raise click.UsageError("Give --files and --proxy, or --for-pods.")
    address = parse_address(
        server or _usual_server(token, certificates, grpc=grpc), flag="--server"
    )
    _check_flags(output, protocol, certificates, state_folder, grpc=grpc)
    _check_token(token, root, secrets, certificates, grpc=grpc)
    from smi_xds.cli.offline import find_workload, read_mesh

    understood = read_mesh(files, parse_mesh(**mesh))
    workload = find_workload(understood, proxy)
    if grpc is workload.sidecar.listens:
        hint = "leave out --grpc" if grpc else "add --grpc"
        raise click.UsageError(f"{proxy} says smi-xds.io/sidecar: {workload.sidecar}; {hint}.")
    if state_folder is not None and certificates is not None:
        bootstrap_tls.sign(
            workload.identity,
            folder=certificates.absolute(),
            state_folder=state_folder,
            tell=lambda line: click.echo(line, err=True),
        )
    if grpc:
        _print_grpc(workload, address, certificates)
        return 0
    tls = None
    if token is not None and secrets is not None:
        tls = bootstrap_tls.token_tls(
            address,
            name=server_name,
            token=str(Path(token).absolute()),
            root=str(Path(root or bootstrap_tls.POD_ROOT).absolute()),
            secrets=str(secrets.absolute()),
        )
    elif certificates is not None:
        folder = certificates.absolute()
        tls = bootstrap_tls.certificate_tls(address, name=server_name, folder=folder)
    if tls is not None:
        bootstrap_tls.write_secret_documents(tls)
    _print_envoy(
        *(understood, workload, address),
        tls=tls,
        output=output or "json",
        protocol=protocol or "delta",
    )
    return 0


def _usual_server(token: str | None, certificates: Path | None, *, grpc: bool) -> str:
    if token is not None:
        return bootstrap_tls.DEFAULT_TLS_SERVER
    if certificates is not None and not grpc:
        return bootstrap_tls.DEFAULT_MTLS_SERVER
    return DEFAULT_XDS_ADDRESS


def _check_for_pods(
    files: tuple[Path, ...],
    proxy: ProxyId | None,
    certificates: Path | None,
    *,
    grpc: bool,
) -> None:
    given = {
        "--files": files,
        "--proxy": proxy,
        "--certificates": certificates,
        "--grpc": grpc,
    }
    for flag, value in given.items():
        if value:
            raise click.UsageError(f"--for-pods is for any pod, by its token: leave out {flag}.")


def _check_token(
    token: str | None,
    root: str | None,
    secrets: Path | None,
    certificates: Path | None,
    *,
    grpc: bool,
) -> None:
    if token is None:
        if root is not None or secrets is not None:
            flag = "--root" if root is not None else "--secrets"
            raise click.UsageError(f"{flag} goes with --token: add it, or leave out {flag}.")
        return
    if grpc or certificates is not None:
        flag = "--grpc" if grpc else "--certificates"
        raise click.UsageError(f"--token is a sidecar's proof by itself: leave out {flag}.")
    if secrets is None:
        raise click.UsageError("--token needs --secrets DIR, where Envoy is told to follow it.")


def _check_flags(
    output: str | None,
    protocol: str | None,
    certificates: Path | None,
    state_folder: Path | None,
    *,
    grpc: bool,
) -> None:
    if grpc and output == "yaml":
        raise click.UsageError("gRPC reads JSON alone: leave out --output yaml.")
    if grpc and protocol is not None:
        raise click.UsageError("gRPC speaks state of the world alone: leave out --protocol.")
    if state_folder is not None and certificates is None:
        raise click.UsageError("--state-folder signs what --certificates names: add it.")


def _print_envoy(
    mesh: "Mesh",
    workload: "Workload",
    server: Address,
    *,
    tls: "Tls | None",
    output: str,
    protocol: str,
) -> None:
    from smi_xds.xds import bootstrap as made
    from smi_xds.xds import dump

    message = made.sidecar(
        workload,
        server_host=server.host,
        server_port=server.port,
        tls=tls,
        protocol=made.Protocol(protocol),
    )
    for line in _how_to_call(mesh, workload):
        click.echo(f"# {line}", err=output == "json")
    _print(dump.to_json(message), output=output)


def _print(document: dict[str, object], *, output: str) -> None:
    from smi_xds.cli.output import readable, to_yaml

    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(to_yaml(readable(document)), nl=False)


def _print_grpc(workload: "Workload", server: Address, certificates: Path | None) -> None:
    from smi_xds.identity.handout import CERTIFICATE_CHAIN, PRIVATE_KEY, TRUST_BUNDLE
    from smi_xds.xds.grpc_bootstrap import CertificateFiles, grpc_bootstrap

    files = None
    if certificates is not None:
        folder = certificates.absolute()
        files = CertificateFiles(
            certificate_chain=str(folder / CERTIFICATE_CHAIN),
            private_key=str(folder / PRIVATE_KEY),
            trust_bundle=str(folder / TRUST_BUNDLE),
        )
    document = grpc_bootstrap(workload, server=str(server), certificates=files)
    click.echo(json.dumps(document, indent=2))


def _how_to_call(mesh: "Mesh", workload: "Workload") -> list[str]:
    """Which addresses the application and its callers use."""
    from smi_xds.mesh.model import Sidecar
    from smi_xds.xds.names import TUNNEL_PORT

    lines = [f"The sidecar of {workload.proxy}, {workload.identity}"]
    if workload.sidecar is Sidecar.INTERCEPTED:
        lines += [
            "runs as a user of its own (1337), by which deploy/interception/iptables.sh, run in "
            "the same network namespace, tells it from the application",
            f"calls every service by its address; egress to anything else is {workload.egress}",
            *_ports_of_services(mesh, workload, udp_only=True),
        ]
    else:
        lines += _own_ports(mesh, workload)
    lines += [
        f"is called: {workload.address}:{port.number}, "
        f"handed over to {workload.app_address}:{port.number} ({port.protocol})"
        for port in workload.ports
    ]
    lines += [
        f"is called: {workload.address}:{TUNNEL_PORT} (tunnel), "
        f"handed over to {workload.app_address}:{port.number} (udp)"
        for port in workload.udp_ports
    ]
    return lines


def _own_ports(mesh: "Mesh", workload: "Workload") -> list[str]:
    """Where a bound sidecar offers services to its application."""
    from smi_xds.xds.names import OUTBOUND_PORT

    return [
        f"calls HTTP services: http://{workload.address}:{OUTBOUND_PORT}/ with their name as Host",
        *_ports_of_services(mesh, workload),
    ]


def _ports_of_services(mesh: "Mesh", workload: "Workload", *, udp_only: bool = False) -> list[str]:
    from smi_xds.xds.udp import own_address

    reach = mesh.open | mesh.reach.get(workload.identity, frozenset())
    return [
        f"calls {ref}: {own_address(workload) if ref.udp else workload.address}:{port}"
        for ref, port in sorted(mesh.bound_ports.items())
        if replace(ref, pod="") in reach and (ref.udp or not udp_only)
    ]
