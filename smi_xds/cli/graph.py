"""`smi-xds graph`: who may talk to whom."""

import json
from typing import Final

import click

from smi_xds.cli import asking, options
from smi_xds.cli.graph_text import to_dot, to_mermaid, to_tree

_FORMS: Final = {
    "text": to_tree,
    "json": lambda found: json.dumps(found, indent=2),
    "dot": to_dot,
    "mermaid": to_mermaid,
}


@click.command(short_help="Draw who may talk to whom.")
@click.option(
    "--namespace",
    "-n",
    default="",
    metavar="NAMESPACE",
    help="Only what concerns it: its callers and its services.",
)
@options.output(*_FORMS, about="A tree, JSON, Graphviz or Mermaid.")
@asking.where
def graph(where: asking.Where, namespace: str, output: str, **mesh: str) -> int:
    """Draw who may talk to whom: callers, the services that they may call, and how these split.

    From folders of objects (--files), from a running server (--server) or from one in a cluster
    (--kubernetes), by the rules that they tell Envoy. `explain` answers for one call, and says why.

    \b
    Examples:
      smi-xds graph --files my-objects
      smi-xds graph --server 127.0.0.1:15010 --namespace shop
      smi-xds graph --kubernetes --context staging
      smi-xds graph --files my-objects --output dot | dot -Tsvg > mesh.svg
      smi-xds graph --files my-objects --output mermaid

    \b
    JSON, every field always there:
      services[]  service, ports[] (number, protocol, identities[])
      allows[]    source, service, port, protocol, target (the TrafficTarget; empty for none),
                  requests[] (empty for everything), why
      splits[]    split, service, port, requests[], backends[] (service, share in percent)

    Exit code: 0, or 2 where the folders could not be read or the server not be asked.
    """
    if where.servers is None:
        found = _offline(where, namespace, mesh)
    else:
        from smi_xds.debug import client

        with where.servers.one() as address:
            found = client.graph(address, namespace)
    click.echo(_FORMS[output](found))
    return 0


def _offline(where: asking.Where, namespace: str, mesh: dict[str, str]) -> asking.Json:
    from smi_xds.mesh import graph as graphs
    from smi_xds.mesh.plain import complete

    found = complete(graphs.graph(where.mesh(mesh), namespace=namespace))
    assert isinstance(found, dict)
    return found
