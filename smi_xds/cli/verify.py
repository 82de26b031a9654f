"""`smi-xds verify`: does the installation of a cluster work?"""

import asyncio
import json
from typing import TYPE_CHECKING

import click

from smi_xds.cli import options
from smi_xds.config import KubernetesConfig, parse_kubernetes

if TYPE_CHECKING:
    from smi_xds.install.findings import Finding

_ALL_WELL, _NOT_WELL = 0, 1
_WORKS = frozenset({"ok", "warning"})


@click.command(short_help="Look at the control plane in a cluster.")
@options.api_server
@options.output("table", "json", about="How findings are printed.")
def verify(kubeconfig: str | None, context: str | None, output: str) -> int:
    """Look at the control plane in a cluster: is everything there, and does it answer?

    In turn: the CRDs with their versions and conversion; the rights of the account smi-xds, right
    by right; the Deployment; the leader, who renews its lease; the trust bundle; the webhooks,
    which have to convert and to judge objects that nobody keeps (server-side dry runs); the xDS
    port of each replica, by its certificate; the proxies. What fails comes with a cure.

    It asks with your rights, and reaches the replicas by kubectl port-forward. What you may not
    see is `unknown`. A `warning` is of what works, and should be seen to.

    \b
    Examples:
      smi-xds verify
      smi-xds verify --context staging
      smi-xds verify --output json | jq -r '.findings[] | select(.state != "ok") | .cure'

    \b
    JSON:
      findings[]  what, state (ok, warning, failed or unknown), detail, cure (empty where ok)

    Exit code: 0 where all works, 1 where something failed or is unknown, 2 where the API server
    could not be asked.
    """
    config = parse_kubernetes(kubeconfig=kubeconfig, context=context)
    findings = asyncio.run(_verify(config))
    if output == "json":
        click.echo(json.dumps({"findings": [_to_json(it) for it in findings]}, indent=2))
    else:
        _print(findings)
    return _ALL_WELL if all(it.state in _WORKS for it in findings) else _NOT_WELL


async def _verify(config: KubernetesConfig) -> "list[Finding]":
    from smi_xds.install.cluster import connected
    from smi_xds.install.verify import verify as verifying

    async with connected(config) as cluster:
        return [it async for it in verifying(cluster, config)]


def _to_json(it: "Finding") -> dict[str, str]:
    return {"what": it.what, "state": it.state.value, "detail": it.detail, "cure": it.cure}


def _print(findings: "list[Finding]") -> None:
    from smi_xds.cli.output import to_table

    lines = to_table([("STATE", "WHAT", ""), *((it.state, it.what, it.detail) for it in findings)])
    click.echo(next(lines))
    for line, finding in zip(lines, findings, strict=True):
        click.echo(line)
        if finding.cure:
            click.echo(f"         {finding.cure}")
    bad = sum(it.state != "ok" for it in findings)
    click.echo("all is well" if not bad else f"{bad} of {len(findings)} need a look")
