"""`smi-xds bootstrap`: what a sidecar, or a gRPC process without one, starts with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from smi_xds.cli import bootstrap_tls, options
from smi_xds.cli.bootstrap_flags import DEFAULT_MTLS_SERVER, DEFAULT_TLS_SERVER, Flags, check
from smi_xds.config import DEFAULT_XDS_ADDRESS, Address, parse_mesh

if TYPE_CHECKING:
    from smi_xds.mesh.model import Mesh, Workload
    from smi_xds.xds.control_plane import Tls

_PROTOCOL: Final = "delta"


@click.command()
@options.files(required=False)
@options.proxy_or_none
@click.option(
    "--server",
    "-s",
    metavar="HOST:PORT",
    help=f"Where `smi-xds serve` listens.  [default: {DEFAULT_XDS_ADDRESS}; "
    f"{DEFAULT_TLS_SERVER} with tokens; "
    f"{DEFAULT_MTLS_SERVER} with certificates]",
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
    help=f"How Envoy asks: incremental xDS, or state of the world.  [default: {_PROTOCOL}]",
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
def bootstrap(trust_domain: str, access_mode: str, mtls_mode: str, **flags: Any) -> int:
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
    given = Flags(**flags)
    check(given)
    server = given.address  # judged before anything is signed or written
    if given.for_pods:
        _print_for_pods(server, given)
        return 0
    from smi_xds.cli.offline import find_workload, read_mesh

    assert given.proxy is not None, "checked"
    settings = parse_mesh(trust_domain=trust_domain, access_mode=access_mode, mtls_mode=mtls_mode)
    understood = read_mesh(given.files, settings)
    workload = find_workload(understood, given.proxy)
    if given.grpc is workload.sidecar.listens:
        hint = "leave out --grpc" if given.grpc else "add --grpc"
        raise click.UsageError(
            f"{given.proxy} says smi-xds.io/sidecar: {workload.sidecar}; {hint}."
        )
    if given.state_folder is not None and given.certificates is not None:
        bootstrap_tls.sign(
            workload.identity,
            folder=given.certificates.absolute(),
            state_folder=given.state_folder,
            tell=lambda line: click.echo(line, err=True),
        )
    if given.grpc:
        _print_grpc(workload, server, given.certificates)
    else:
        _print_envoy(understood, workload, server, given)
    return 0


def _print_for_pods(server: Address, given: Flags) -> None:
    document = bootstrap_tls.config_map(
        server,
        name=given.server_name,
        token=given.token or bootstrap_tls.POD_TOKEN,
        root=given.root or bootstrap_tls.POD_ROOT,
        mounted=given.secrets or Path(bootstrap_tls.POD_FILES),
        protocol=given.protocol or _PROTOCOL,
    )
    _print(document, output=given.output or "yaml")


def _print_envoy(mesh: "Mesh", workload: "Workload", server: Address, given: Flags) -> None:
    from smi_xds.xds import bootstrap as made
    from smi_xds.xds import dump

    tls = _tls(server, given)
    if tls is not None:
        bootstrap_tls.write_secret_documents(tls)
    message = made.sidecar(
        workload,
        server_host=server.host,
        server_port=server.port,
        tls=tls,
        protocol=made.Protocol(given.protocol or _PROTOCOL),
    )
    output = given.output or "json"
    for line in _how_to_call(mesh, workload):
        click.echo(f"# {line}", err=output == "json")
    _print(dump.to_json(message), output=output)


def _tls(server: Address, given: Flags) -> "Tls | None":
    """How the sidecar proves who it is; None in plaintext."""
    name = given.server_name
    if given.token is not None and given.secrets is not None:
        return bootstrap_tls.token_tls(
            server,
            name=name,
            token=str(Path(given.token).absolute()),
            root=str(Path(given.root or bootstrap_tls.POD_ROOT).absolute()),
            secrets=str(given.secrets.absolute()),
        )
    if given.certificates is not None:
        folder = given.certificates.absolute()
        return bootstrap_tls.certificate_tls(server, name=name, folder=folder)
    return None


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
