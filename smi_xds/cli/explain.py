"""`smi-xds explain`: may it call that, by what, or why not?"""

import json
from typing import Any

import click

from smi_xds.cli import asking, options
from smi_xds.cli.explain_text import to_text

ALLOWED, NOT_ALLOWED = 0, 1


@click.command(short_help="Say whether a call is allowed, and why.")
@click.option(
    "--from",
    "source",
    required=True,
    metavar="NAMESPACE/ACCOUNT",
    help="Who calls: a ServiceAccount, a SPIFFE id, or: outside (a caller without a sidecar).",
)
@click.option(
    "--to",
    "destination",
    required=True,
    metavar="NAMESPACE/SERVICE:PORT",
    help="What is called, by the Service's port; NAMESPACE/SERVICE/POD:PORT for one pod of a "
    "headless Service.",
)
@click.option("--method", "-X", metavar="METHOD", help="Of the request.  [default: GET]")
@click.option("--path", metavar="PATH", help="Of the request, with its query.  [default: /]")
@click.option(
    "--header",
    "-H",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of the request; may be given several times. Without host it is SERVICE.NAMESPACE, with "
    "the port unless that is 80.",
)
@click.option("--tcp", "kind", flag_value="tcp", help="Judge a connection.")
@click.option("--udp", "kind", flag_value="udp", help="Judge datagrams.")
@click.option(
    "--address",
    metavar="IP",
    help="Where it calls from, where an IdentityBinding selects pods by labels.  "
    "[default: every pod of the source has to be allowed]",
)
@options.output("text", "json", about="How the answer is printed.")
@asking.where
def explain(where: asking.Where, output: str, **given: Any) -> int:
    """Say whether a call is allowed or denied, by what, or what came nearest and why it failed.

    The question is put to folders of objects (--files), to a running server (--server) or to one
    in a cluster (--kubernetes), which judge by the same rules that they tell Envoy: paths are
    normalised first, expressions are those of RE2, splits decide where it is sent and each
    destination whether it is taken.

    Without --method, --path, --header, --tcp or --udp it is a GET of / where the port speaks HTTP,
    else a connection, else datagrams.

    \b
    Examples:
      smi-xds explain --from shop/frontend --to shop/cart:8080 --path /items --files my-objects
      smi-xds explain --from shop/frontend --to shop/cart:8080 -X POST -H x-user=alice
      smi-xds explain --from shop/frontend --to shop/db:5432 --tcp --server 127.0.0.1:15010
      smi-xds explain --from shop/frontend --to shop/cart:8080 --kubernetes --context staging
      smi-xds explain --from outside --to shop/cart:8080 --output json | jq -r .verdict

    \b
    JSON, every field always there (request only where requests are judged):
      verdict        allowed, denied, partly (it depends on where it is sent), nowhere (503)
      why            the reason in a sentence
      source, service, port, protocol
      request        method, path, routed_path, judged_path, redirect, host, headers
      split          name, group, match: the TrafficSplit that decides; empty for none
      branches[]     service, weight, share (percent), verdict, destinations[]
      destinations[] identity, port, protocol, access, mtls, workloads, ready, share,
                     verdict, why, shadow, allowed_by[] (target, rule, match, port_rule),
                     nearest[] (target, reasons[], rule, match)
      passed_splits[] name, why
      notes[]        what else to know

    Exit code: 0 allowed, 1 not (denied, partly or nowhere), 2 where the question has no answer.
    """
    question = {name: given.pop(name) or "" for name in _QUESTION} | {
        "headers": list(given.pop("headers"))
    }
    _check(question)
    answer = _online(where.servers, question) if where.servers else _offline(where, question, given)
    click.echo(json.dumps(answer, indent=2) if output == "json" else to_text(answer))
    return ALLOWED if answer["verdict"] == "allowed" else NOT_ALLOWED


_QUESTION = ("source", "destination", "kind", "method", "path", "address")


def _check(question: dict[str, Any]) -> None:
    request = [name for name in ("method", "path", "headers") if question[name]]
    if question["kind"] and request:
        raise click.UsageError(
            f"--{request[0].removesuffix('s')} is of a request: leave out --{question['kind']}."
        )
    if request:
        question["kind"] = "http"


def _online(servers: asking.Servers, question: dict[str, Any]) -> asking.Json:
    from smi_xds.debug import client

    with servers.one() as address:
        return client.explain(address, question)


def _offline(where: asking.Where, question: dict[str, Any], mesh: dict[str, str]) -> asking.Json:
    from smi_xds.mesh.explain import explain as explained
    from smi_xds.mesh.explain_parse import parse_question
    from smi_xds.mesh.plain import complete

    parsed = parse_question(**question)
    answer = complete(explained(where.mesh(mesh), parsed))
    assert isinstance(answer, dict)
    return answer
