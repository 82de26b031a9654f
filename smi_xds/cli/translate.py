"""`smi-xds translate`: what one proxy gets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smi_xds.cli import options
from smi_xds.config import parse_mesh
from smi_xds.values import ProxyId, Secret

if TYPE_CHECKING:
    from smi_xds.mesh.model import Workload
    from smi_xds.xds.secrets import Credentials


@click.command()
@options.files(required=True)
@options.proxy
@click.option(
    "--output",
    "-o",
    type=click.Choice(["yaml", "json", "static"]),
    default="yaml",
    show_default=True,
    help="static: one bootstrap with everything in it.",
)
@options.mesh
def translate(files: tuple[Path, ...], proxy: ProxyId, output: str, **mesh: str) -> int:
    """Print what a proxy gets: clusters, endpoints, listeners, routes and secrets.

    Certificates and keys are left out. With --output static it is one bootstrap that needs no
    control plane, for reading, for `envoy --mode validate` and for bug reports; it can be run as
    it is. Its certificates are made on the spot, by an authority that nobody else trusts.

    \b
    Examples:
      smi-xds translate --files my-objects --proxy shop/web
      smi-xds translate --files my-objects --proxy shop/web --output json | jq '.Cluster[].name'
      smi-xds translate --files my-objects --proxy shop/web --output static > static.yaml
      envoy --mode validate --config-path static.yaml

    Exit code: 0, or 2 where the folders could not be read or have no such proxy.
    """
    from smi_xds.cli.offline import find_workload, read_mesh
    from smi_xds.cli.output import readable, to_yaml
    from smi_xds.xds import bootstrap, dump
    from smi_xds.xds.translate import Translator

    understood = read_mesh(files, parse_mesh(**mesh))
    workload = find_workload(understood, proxy)
    if output == "static" and not workload.sidecar.listens:
        raise click.UsageError(f"{proxy} is a gRPC process without an Envoy: leave out static.")
    credentials = _throwaway(workload) if output == "static" else _left_out(workload)
    resources = Translator()(understood, credentials=credentials)[str(proxy)]
    if output == "static":
        document: object = dump.to_json(bootstrap.static(workload, resources))
    else:
        document = dump.set_json(resources)
    if output == "json":
        click.echo(json.dumps(readable(document), indent=2))
    else:
        click.echo(to_yaml(readable(document)), nl=False)
    return 0


def _left_out(workload: "Workload") -> "Credentials":
    """The same for every call, so that two outputs can be compared."""
    from smi_xds.xds.secrets import Credentials, leaf_secret

    certificate = f"<certificate of {workload.identity}>".encode()
    secret = leaf_secret(certificate, Secret(b"<private key>"))
    return Credentials(trust_bundle=b"<trust bundle>", leaves={workload.identity: secret})


def _throwaway(workload: "Workload") -> "Credentials":
    from smi_xds.identity.ca import Authority, create_key, create_root
    from smi_xds.identity.issuer import wall_clock
    from smi_xds.xds.secrets import Credentials, leaf_secret

    domain, now, key = workload.identity.trust_domain, wall_clock(), create_key()
    root = create_root(key, trust_domain=domain, now=now)
    authority = Authority(trust_domain=domain, certificate=root, key=key)
    leaf = authority.issue(workload.identity, now=now)
    secret = leaf_secret(leaf.certificate_chain, leaf.private_key)
    return Credentials(trust_bundle=authority.trust_bundle, leaves={workload.identity: secret})
