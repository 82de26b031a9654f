"""`smi-xds bootstrap`: what a sidecar starts with."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smi_xds.cli import options
from smi_xds.config import DEFAULT_XDS_ADDRESS, parse_address, parse_mesh
from smi_xds.values import ProxyId

if TYPE_CHECKING:
    from smi_xds.mesh.model import Mesh, Workload


@click.command()
@options.files(required=True)
@options.proxy
@click.option(
    "--server",
    "-s",
    default=DEFAULT_XDS_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="Where `smi-xds serve` listens.",
)
@click.option(
    "--output",
    "-o",
    type=click.Choice(["json", "yaml"]),
    default="json",
    show_default=True,
    help="Envoy tells them apart by the file's name.",
)
@options.mesh
def bootstrap(
    files: tuple[Path, ...], proxy: ProxyId, server: str, output: str, **mesh: str
) -> int:
    """Print what the Envoy of a proxy starts with.

    It names the proxy and the server; everything else comes from there. Where the application
    calls and is called is told on standard error, or as comments in YAML.

    \b
    Examples:
      smi-xds bootstrap --files my-objects --proxy shop/web > web.json
      envoy --config-path web.json --concurrency 1 --drain-time-s 10

    Exit code: 0, or 2 where the folders could not be read or have no such proxy.
    """
    address = parse_address(server, flag="--server")
    from smi_xds.cli.offline import find_workload, read_mesh
    from smi_xds.cli.output import readable, to_yaml
    from smi_xds.xds import bootstrap as made
    from smi_xds.xds import dump

    understood = read_mesh(files, parse_mesh(**mesh))
    workload = find_workload(understood, proxy)
    message = made.sidecar(workload, server_host=address.host, server_port=address.port)
    document = dump.to_json(message)
    for line in _how_to_call(understood, workload):
        click.echo(f"# {line}", err=output == "json")
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(to_yaml(readable(document)), nl=False)
    return 0


def _how_to_call(mesh: "Mesh", workload: "Workload") -> list[str]:
    """Which addresses the application and its callers use."""
    from smi_xds.xds.names import OUTBOUND_PORT

    lines = [
        f"The sidecar of {workload.proxy}, {workload.identity}",
        f"calls HTTP services: http://{workload.address}:{OUTBOUND_PORT}/ with their name as Host",
    ]
    reach = mesh.open | mesh.reach.get(workload.identity, frozenset())
    lines += [
        f"calls {ref}: {workload.address}:{port}"
        for ref, port in sorted(mesh.bound_ports.items())
        if ref in reach
    ]
    lines += [
        f"is called: {workload.address}:{port.number}, "
        f"handed over to {workload.app_address}:{port.number} ({port.protocol})"
        for port in workload.ports
    ]
    return lines
