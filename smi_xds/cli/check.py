"""`smi-xds check`: what is wrong with these objects?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from smi_xds.cli import options
from smi_xds.config import parse_kubernetes, parse_mesh
from smi_xds.problems import Problem


@click.command(short_help="List what is wrong with objects.")
@options.files(required=False)
@click.option("--kubernetes", is_flag=True, help="Read the objects of an API server, once.")
@options.api_server
@options.namespaces
@options.output("text", "json", about="How problems are printed.")
@options.mesh
def check(
    files: tuple[Path, ...],
    kubernetes: bool,
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    output: str,
    **mesh: str,
) -> int:
    """List what is wrong with the objects in folders, or in a cluster.

    Each problem names its object, the field, its [Code], why it is a problem and how to mend it;
    docs/problems.md has a section for each code. Nothing is started, and with --files nobody is
    asked: this is for a commit hook, or for CI. With --kubernetes the API server is read once, by
    your own rights; no smi-xds has to run there.

    \b
    Examples:
      smi-xds check --files my-objects
      smi-xds check --kubernetes --context staging --namespace shop
      smi-xds check --files base --files overlay --output json | jq '.problems[].message'

    Exit code: 0 without problems, 1 with some, 2 where the folders or the API server
    could not be read.
    """
    if bool(files) == kubernetes:
        raise click.UsageError("Give either --files or --kubernetes.")
    from smi_xds.cli import offline

    if kubernetes:
        config = parse_kubernetes(kubeconfig=kubeconfig, context=context, namespaces=namespaces)
        found = offline.read_cluster_mesh(config, parse_mesh(**mesh))
    else:
        given = {"--kubeconfig": kubeconfig, "--context": context, "--namespace": namespaces}
        options.refuse(given, "says what to read of an API server, not of folders: leave it out.")
        found = offline.read_mesh(files, parse_mesh(**mesh))
    problems = found.problems
    if output == "json":
        click.echo(json.dumps({"problems": [_to_json(problem) for problem in problems]}, indent=2))
    else:
        is_empty = found.objects is None or found.objects.is_empty
        _print(problems, nothing="no problems: no objects" if is_empty else "no problems")
    return 1 if problems else 0


def _to_json(problem: Problem) -> Mapping[str, object]:
    ref = problem.ref
    return {
        "severity": problem.code.severity,
        "code": problem.code,
        "object": {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name},
        "field": problem.field,
        "message": problem.message,
        "cure": problem.cure,
    }


def _print(problems: Sequence[Problem], *, nothing: str) -> None:
    for problem in problems:
        where = f"{problem.ref} {problem.field}".rstrip()
        click.echo(f"{problem.code.severity}: {where} [{problem.code}]")
        click.echo(f"    {problem.message}")
        click.echo(f"    {problem.cure}")
    match len(problems):
        case 0:
            click.echo(nothing)
        case 1:
            click.echo("1 problem")
        case number:
            click.echo(f"{number} problems")
