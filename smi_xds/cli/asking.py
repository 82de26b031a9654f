"""What commands share that ask a folder or a running server the same question."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from smi_xds.cli import options
from smi_xds.config import (
    DEFAULT_XDS_ADDRESS,
    Address,
    KubernetesConfig,
    parse_address,
    parse_kubernetes,
    parse_mesh,
)

if TYPE_CHECKING:
    from smi_xds.mesh.model import Mesh

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Which running servers to ask."""

    address: Address | None
    """That one; None for those in a cluster."""
    cluster: KubernetesConfig | None

    @contextmanager
    def one(self) -> Iterator[Address]:
        """One of them: all replicas serve the same."""
        with self._reached(only_one=True) as (address,):
            yield address

    @contextmanager
    def every(self) -> Iterator[tuple[Address, ...]]:
        """Each of them: a proxy is connected to one."""
        with self._reached(only_one=False) as addresses:
            yield addresses

    @contextmanager
    def _reached(self, *, only_one: bool) -> Iterator[tuple[Address, ...]]:
        if self.address is not None:
            yield (self.address,)
            return
        from smi_xds.install.forward import forwarded, ready_replicas

        assert self.cluster is not None
        pods = ready_replicas(self.cluster)
        with forwarded(self.cluster, pods[:1] if only_one else pods) as addresses:
            yield addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where the answer is: in folders, or at a server."""

    files: tuple[Path, ...]
    servers: Servers | None
    """None where there are files to read."""

    def mesh(self, options: Mapping[str, str]) -> "Mesh":
        """The mesh of the folders, as the options say."""
        from smi_xds.cli.offline import read_mesh

        return read_mesh(self.files, parse_mesh(**options))


def servers(command: options.Command) -> options.Command:
    """`--server ADDRESS` or `--kubernetes`; the command takes them as `servers`."""

    @functools.wraps(command)
    def gathered(
        *,
        server: str | None,
        kubernetes: bool,
        kubeconfig: str | None,
        context: str | None,
        **rest: Any,
    ) -> Any:
        found = _servers(server, kubernetes, kubeconfig=kubeconfig, context=context)
        return command(servers=found, **rest)

    address = click.option(
        "--server",
        metavar="HOST:PORT",
        help=f"Ask a running server; where nothing else is given, that at {DEFAULT_XDS_ADDRESS}.",
    )
    cluster = click.option(
        "--kubernetes",
        is_flag=True,
        help="Ask the servers of a cluster, by kubectl port-forward to the namespace smi-xds.",
    )
    return address(cluster(options.api_server(gathered)))


def where(command: options.Command) -> options.Command:
    """`--files DIR` or servers, and how files are understood; the command takes it as `where`."""

    @functools.wraps(command)
    def gathered(*, files: tuple[Path, ...], servers: Servers, **rest: Any) -> Any:
        given = click.get_current_context().params
        if files and (given["server"] is not None or given["kubernetes"]):
            raise click.UsageError("Give --files, --server or --kubernetes, not two of them.")
        if not files:
            options.refuse(
                {flag: options.is_given(flag) for flag in options.MESH},
                "says how to understand --files; a server has its own: leave it out.",
            )
        return command(where=Where(files=files, servers=None if files else servers), **rest)

    return options.files(required=False)(servers(options.mesh(gathered)))


def _servers(
    server: str | None, kubernetes: bool, *, kubeconfig: str | None, context: str | None
) -> Servers:
    if kubernetes and server is not None:
        raise click.UsageError("Give --server or --kubernetes, not both.")
    if kubernetes:
        config = parse_kubernetes(kubeconfig=kubeconfig, context=context)
        return Servers(address=None, cluster=config)
    given = {"--kubeconfig": kubeconfig, "--context": context}
    options.refuse(given, "says which cluster to ask: add --kubernetes.")
    address = parse_address(server or DEFAULT_XDS_ADDRESS, flag="--server")
    return Servers(address=address, cluster=None)
