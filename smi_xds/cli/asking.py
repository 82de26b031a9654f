"""What commands share that ask a folder or a running server the same question."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from smi_xds.cli import options
from smi_xds.config import DEFAULT_XDS_ADDRESS, Address, parse_address, parse_mesh

if TYPE_CHECKING:
    from smi_xds.mesh.model import Mesh

Json: TypeAlias = Mapping[str, Any]


def where(command: options.Command) -> options.Command:
    """`--files DIR` or `--server ADDRESS`, and how files are understood."""
    server = click.option(
        "--server",
        metavar="HOST:PORT",
        help=f"Ask a running server, without --files that at {DEFAULT_XDS_ADDRESS}.",
    )
    return options.files(required=False)(server(options.mesh(command)))


def server_address(files: Sequence[Path], server: str | None) -> Address | None:
    """The server to ask, None where there are files to read."""
    if files and server is not None:
        raise click.UsageError("Give --files or --server, not both.")
    if files:
        return None
    return parse_address(server or DEFAULT_XDS_ADDRESS, flag="--server")


def mesh_of(files: Sequence[Path], mesh: Mapping[str, str]) -> "Mesh":
    """The mesh of some folders, as the options say."""
    from smi_xds.cli.offline import read_mesh

    return read_mesh(files, parse_mesh(**mesh))
