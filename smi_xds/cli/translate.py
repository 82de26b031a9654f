"""`smi-xds translate`: what one proxy gets."""

import json
from typing import TYPE_CHECKING

import click

from smi_xds.cli import asking, options
from smi_xds.values import ProxyId, Secret

if TYPE_CHECKING:
    from smi_xds.mesh.model import Mesh, Workload
    from smi_xds.xds.secrets import Credentials


@click.command(short_help="Print what a proxy gets.")
@options.proxy
@options.output("yaml", "json", "static", about="static: one bootstrap with everything in it.")
@asking.where
def translate(where: asking.Where, proxy: ProxyId, output: str, **mesh: str) -> int:
    """Print what a proxy gets: clusters, endpoints, listeners, routes and secrets.

    Of folders of objects (--files), without certificates and keys; or what a running server
    (--server, --kubernetes) has for it now, without keys.

    With --output static it is one bootstrap that needs no control plane, for reading, for
    `envoy --mode validate` and for bug reports; it can be run as it is. Its certificates are made
    on the spot, by an authority that nobody else trusts.

    \b
    Examples:
      smi-xds translate --files my-objects --proxy shop/web
      smi-xds translate --server 127.0.0.1:15010 --proxy shop/web
      smi-xds translate --kubernetes --context staging --proxy shop/web
      smi-xds translate --files my-objects --proxy shop/web --output json | jq '.Cluster[].name'
      smi-xds translate --files my-objects --proxy shop/web --output static > static.yaml
      envoy --mode validate --config-path static.yaml

    Exit code: 0, or 2 where the folders could not be read, the server could not be asked, or there
    is no such proxy.
    """
    if where.servers is None:
        document = _offline(where.mesh(mesh), proxy, output)
    elif output == "static":
        raise click.UsageError("--output static is made of folders: give --files.")
    else:
        document = _online(where.servers, proxy)
    from smi_xds.cli.output import readable, to_yaml

    if output == "json":
        click.echo(json.dumps(readable(document), indent=2))
    else:
        click.echo(to_yaml(readable(document)), nl=False)
    return 0


def _online(servers: asking.Servers, proxy: ProxyId) -> object:
    from smi_xds.cli.output import whole
    from smi_xds.debug import client
    from smi_xds.xds.dump import ordered
    from smi_xds.xds.resources import TYPES

    with servers.one() as address:
        found = client.get_proxy(address, str(proxy))
    by_type: dict[str, list[object]] = {str(type_).rpartition(".")[2]: [] for type_ in TYPES}
    for resource in sorted(found["resources"], key=lambda it: it["name"]):
        by_type[resource["type"]].append(ordered(whole(resource["content"])))
    return by_type


def _offline(mesh: "Mesh", proxy: ProxyId, output: str) -> object:
    from smi_xds.cli.offline import find_workload
    from smi_xds.xds import bootstrap, dump
    from smi_xds.xds.translate import Translator

    workload = find_workload(mesh, proxy)
    if output == "static" and not workload.sidecar.listens:
        raise click.UsageError(f"{proxy} is a gRPC process without an Envoy: leave out static.")
    credentials = _throwaway(workload) if output == "static" else _left_out(workload)
    resources = Translator()(mesh, credentials=credentials)[str(proxy)]
    if output == "static":
        return dump.to_json(bootstrap.static(workload, resources))
    return dump.set_json(resources)


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
