"""`smi-xds ca`: who signs, how far a rotation is, and how to begin one."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smi_xds.cli import options
from smi_xds.config import default_state_folder, parse_kubernetes, parse_secret
from smi_xds.problems import ConfigError
from smi_xds.values import is_trust_domain

if TYPE_CHECKING:
    from smi_xds.cli.ca_work import Kept


@click.group()
def ca() -> None:
    """Look at the certificate authority, and replace its root.

    \b
    Examples:
      smi-xds ca status
      smi-xds ca status --state-secret smi-xds/smi-xds-ca --context staging
      smi-xds ca rotate --wait
      smi-xds ca rotate --trust-domain example.org

    Exit code: 0, but where a subcommand says otherwise.
    """


def _kept(command: options.Command) -> options.Command:
    for option in (
        options.in_cluster,
        options.api_server,
        click.option(
            "--state-secret",
            metavar="NAMESPACE/NAME",
            help="The Secret, where servers keep the authority in one; usually smi-xds/smi-xds-ca.",
        ),
        click.option(
            "--state-folder",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where servers keep the authority.  "
            "[default: smi-xds in $XDG_STATE_HOME or ~/.local/state]",
        ),
    ):
        command = option(command)
    return command


@ca.command()
@_kept
@options.output("table", "json", about="json: for programs; times are UTC.")
def status(
    state_folder: Path | None,
    state_secret: str | None,
    kubeconfig: str | None,
    context: str | None,
    in_cluster: bool,
    output: str,
) -> int:
    """Show the roots, and what a rotation waits for.

    Reads what the servers write down; they need not be reachable from here.

    \b
    signs      leaves are signed by it, or below it
    next       proxies trust it already; it signs in the next phase
    former     trusted until all that was signed by it is gone

    Exit code: 0 where nothing is being rotated, 1 during a rotation, 2 where it cannot be read.
    """
    kept = _parsed(state_folder, state_secret, kubeconfig, context, in_cluster=in_cluster)
    from smi_xds.cli.ca_text import as_json, as_text
    from smi_xds.cli.ca_work import read
    from smi_xds.identity.document import Phase
    from smi_xds.identity.issuer import wall_clock

    state, now = asyncio.run(read(kept)), wall_clock()
    if output == "json":
        click.echo(json.dumps(as_json(state, now=now), indent=2))
    else:
        for line in as_text(state, now=now):
            click.echo(line)
    return 0 if state.phase is Phase.STEADY else 1


@ca.command()
@_kept
@click.option(
    "--trust-domain",
    metavar="NAME",
    help="Sign identities of this trust domain, too; those of the old one are accepted until all "
    "have changed.",
)
@click.option(
    "--embedded",
    is_flag=True,
    help="Let a root of our own take the place of one that was brought by --ca-cert.",
)
@click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="Let the rotation under way go on without proxies that refuse, or do not answer.",
)
@click.option(
    "--abort", "is_aborted", is_flag=True, help="Give the rotation up, while nothing is signed."
)
@click.option("--wait", is_flag=True, help="Follow it to its end.")
def rotate(
    state_folder: Path | None,
    state_secret: str | None,
    kubeconfig: str | None,
    context: str | None,
    in_cluster: bool,
    trust_domain: str | None,
    embedded: bool,
    is_forced: bool,
    is_aborted: bool,
    wait: bool,
) -> int:
    """Replace the root, in phases in which nobody is refused.

    A new root is trusted everywhere; then it signs; then the old one is gone. Running servers go
    from one phase to the next, each when every connected proxy has acknowledged and whatever was
    signed before has ended: with leaves of a day it takes a little more than two. Nothing has to be
    restarted, and whatever is restarted goes on.

    \b
    Examples:
      smi-xds ca rotate --wait
      smi-xds ca rotate --trust-domain example.org --state-secret smi-xds/smi-xds-ca
      smi-xds ca rotate --force            some proxies refuse, see: smi-xds ca status

    Exit code: 0 where it began (with --wait: where it is over), 2 where it could not.
    """
    if sum((is_forced, is_aborted, bool(trust_domain or embedded))) > 1:
        raise click.UsageError(
            "--force and --abort are for the rotation under way: give one of them alone."
        )
    if trust_domain is not None and not is_trust_domain(trust_domain):
        raise ConfigError(
            f"--trust-domain {trust_domain!r} cannot be a trust domain: use lower case letters, "
            "digits, '.', '-' and '_', at most 255, without spiffe:// and path"
        )
    kept = _parsed(state_folder, state_secret, kubeconfig, context, in_cluster=in_cluster)

    from smi_xds.cli.ca_text import in_a_line
    from smi_xds.cli.ca_work import begun, change
    from smi_xds.cli.ca_work import wait as wait_for
    from smi_xds.identity.issuer import wall_clock
    from smi_xds.identity.rotation import abort, force

    if is_forced:
        state = asyncio.run(change(kept, lambda it, _: force(it)))
    elif is_aborted:
        state = asyncio.run(change(kept, lambda it, now: abort(it, now=now)))
    else:
        state = asyncio.run(
            change(
                kept,
                lambda it, now: begun(it, trust_domain=trust_domain, embedded=embedded, now=now),
            )
        )
    click.echo(in_a_line(state, now=wall_clock()))
    if wait:
        asyncio.run(wait_for(kept, state))
    return 0


def _parsed(
    folder: Path | None,
    secret: str | None,
    kubeconfig: str | None,
    context: str | None,
    *,
    in_cluster: bool,
) -> "Kept":
    # Cryptography takes a tenth of a second to import, and other commands do without.
    from smi_xds.cli.ca_work import Kept

    if secret is None:
        given = {"--kubeconfig": kubeconfig, "--context": context, "--in-cluster": in_cluster}
        options.refuse(given, "says where --state-secret is: add that.")
        return Kept(folder or default_state_folder(), None, None)
    if folder is not None:
        raise ConfigError("--state-secret and --state-folder exclude each other: choose one")
    api = parse_kubernetes(kubeconfig=kubeconfig, context=context, in_cluster=in_cluster)
    return Kept(Path(), parse_secret(secret), api)
