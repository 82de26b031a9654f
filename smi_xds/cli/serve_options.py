"""Options of `smi-xds serve`, in groups."""

import click

from smi_xds.cli.options import Command
from smi_xds.config_xds import DEFAULT_XDS_SERVICE


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
