"""Options of `smi-xds serve`, in groups."""

from pathlib import Path

import click

from smi_xds.cli.options import Command
from smi_xds.config import DEFAULT_LEAF_LIFETIME, DEFAULT_LEASE, DEFAULT_XDS_SERVICE


def xds_tls_options(command: Command) -> Command:
    """Where proxies prove who they are, and by which names they know us."""
    for option in (
        click.option(
            "--xds-name",
            "xds_names",
            multiple=True,
            metavar="NAME",
            help="One more DNS name or IP address by which this server is called; may be given "
            "several times.",
        ),
        click.option(
            "--xds-service",
            default=DEFAULT_XDS_SERVICE,
            show_default=True,
            metavar="NAMESPACE/NAME",
            help="The Service by whose names pods call this server over TLS.",
        ),
        click.option(
            "--xds-mtls-address",
            metavar="HOST:PORT",
            help="Where sidecars outside of Kubernetes (a VM, a laptop) ask, over TLS and proved "
            "by client certificates; usually 0.0.0.0:15013.  [default: nowhere]",
        ),
        click.option(
            "--xds-tls-address",
            metavar="HOST:PORT",
            help="Where sidecars in pods ask, over TLS and proved by tokens for the audience "
            "smi-xds; usually 0.0.0.0:15012. Needs --kubernetes.  [default: nowhere]",
        ),
        click.option(
            "--allow-plaintext-xds",
            is_flag=True,
            help="Let --xds-address be other than loopback: whoever reaches it may then ask for "
            "any identity, with its key.",
        ),
    ):
        command = option(command)
    return command


def authority_options(command: Command) -> Command:
    """Who signs certificates; `config.parse_authority` takes them."""
    file = click.Path(path_type=Path)
    for option in (
        click.option(
            "--leaf-lifetime",
            default=DEFAULT_LEAF_LIFETIME,
            show_default=True,
            metavar="TIME",
            help="How long the certificate of a workload lives, such as 12h; it is renewed at two "
            "thirds. A rotation of the root takes twice as long.",
        ),
        click.option(
            "--ca-root",
            type=file,
            metavar="FILE",
            help="The root, where --ca-cert does not end with it.",
        ),
        click.option("--ca-key", type=file, metavar="FILE", help="The key of --ca-cert, PEM."),
        click.option(
            "--ca-cert",
            type=file,
            metavar="FILE",
            help="Sign by this authority instead of one of our own: its certificate and those that "
            "lead to the root, PEM. Replaced files are followed.",
        ),
        click.option(
            "--state-secret",
            metavar="NAMESPACE/NAME",
            help="Keep the certificate authority in this Secret, which all replicas share, "
            "instead of a folder; usually smi-xds/smi-xds-ca.",
        ),
    ):
        command = option(command)
    return command


def write_back_options(command: Command) -> Command:
    """Who writes to the API server, and whether."""
    for option in (
        click.option(
            "--lease",
            metavar="NAMESPACE/NAME",
            help="The Lease that says which replica writes to the API server; give servers of "
            f"different namespaces different ones.  [default: {DEFAULT_LEASE}]",
        ),
        click.option(
            "--write-back/--no-write-back",
            default=None,
            help="Whether to write what became of objects into their status, and problems as "
            "events.  [default: with --in-cluster]",
        ),
    ):
        command = option(command)
    return command
