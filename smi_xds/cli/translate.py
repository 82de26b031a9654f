"""`smi-xds translate`: what one proxy gets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smi_xds.cli import options
from smi_xds.config import parse_mesh
from smi_xds.values import ProxyId

if TYPE_CHECKING:
    from smi_xds.mesh.model import Mesh, Workload
    from smi_xds.xds.resources import ResourceSet


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

    Private keys are redacted. With --output static it is one bootstrap that needs no control
    plane, for reading, for `envoy --mode validate` and for bug reports; it can be run as it is.
    Its certificates are made on the spot by an authority that nobody else trusts.

    \b
    Examples:
      smi-xds translate --files my-objects --proxy shop/web
      smi-xds translate --files my-objects --proxy shop/web --output json | jq '.Cluster[].name'
      smi-xds translate --files my-objects --proxy shop/web --output static > static.yaml
      envoy --mode validate --config-path static.yaml

    Exit code: 0, or 2 where the folders could not be read or have no such proxy.
    """
    from smi_xds.cli.offline import find_workload, read_mesh
    from smi_xds.xds import bootstrap, dump

    understood = read_mesh(files, parse_mesh(**mesh))
    workload = find_workload(understood, proxy)
    resources = _resources(understood, workload)
    if output == "static":
        _print_yaml(dump.to_json(bootstrap.static(workload, resources)))
    elif output == "json":
        click.echo(json.dumps(dump.set_json(resources), indent=2))
    else:
        _print_yaml(dump.set_json(resources))
    return 0


def _resources(mesh: "Mesh", workload: "Workload") -> "ResourceSet":
    from smi_xds.identity.ca import Authority, create_key, create_root
    from smi_xds.identity.issuer import wall_clock
    from smi_xds.xds.secrets import Credentials, leaf_secret
    from smi_xds.xds.translate import Translator

    now, key = wall_clock(), create_key()
    root = create_root(key, trust_domain=mesh.trust_domain, now=now)
    authority = Authority(trust_domain=mesh.trust_domain, certificate=root, key=key)
    leaf = authority.issue(workload.identity, now=now)
    credentials = Credentials(
        trust_bundle=authority.trust_bundle,
        leaves={workload.identity: leaf_secret(leaf.certificate_chain, leaf.private_key)},
    )
    return Translator()(mesh, credentials=credentials)[str(workload.proxy)]


def _print_yaml(document: Mapping[str, object]) -> None:
    import yaml

    click.echo(yaml.safe_dump(document, sort_keys=False, width=100), nl=False)
