"""Options that several commands share, as one decorator each; `config` judges their values."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import click
from click.core import ParameterSource

from smi_xds.config import DEFAULT_TRUST_DOMAIN
from smi_xds.values import AccessMode, Mode, ProxyId

# A command takes whatever options the decorators above it name.
Command: TypeAlias = Callable[..., Any]
Decorator: TypeAlias = Callable[[Command], Command]

MESH = ("--trust-domain", "--access-mode", "--mtls-mode")
"""The flags of `mesh`."""

_MODES = click.Choice([mode.value for mode in Mode])
_ACCESS_MODES = click.Choice([mode.value for mode in AccessMode])


def _proxy(text: str) -> ProxyId:
    try:
        return ProxyId.parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def files(*, required: bool) -> Decorator:
    """`--files DIR`, repeatable."""
    return click.option(
        "--files",
        "-f",
        type=click.Path(path_type=Path),
        multiple=True,
        required=required,
        metavar="DIR",
        help="Folder of objects in YAML or JSON; may be given several times.",
    )


def proxy(command: Command) -> Command:
    """`--proxy NAMESPACE/POD`."""
    return _proxy_option(command, required=True)


def proxy_or_none(command: Command) -> Command:
    """The same, where there may be none."""
    return _proxy_option(command, required=False)


def _proxy_option(command: Command, *, required: bool) -> Command:
    return click.option(
        "--proxy",
        "-p",
        type=_proxy,
        required=required,
        metavar="NAMESPACE/POD",
        help="The proxy, named by its pod.",
    )(command)


def refuse(given: Mapping[str, object], why: str) -> None:
    """End with what is wrong about the first of these flags that was given."""
    for flag, value in given.items():
        if value:
            raise click.UsageError(f"{flag} {why}")


def is_given(flag: str) -> bool:
    """Whether the user wrote it, rather than left it at its default."""
    name = flag.removeprefix("--").replace("-", "_")
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def api_server(command: Command) -> Command:
    """`--kubeconfig FILE` and `--context NAME`: which API server; `config.parse_kubernetes`."""
    context = click.option(
        "--context", metavar="NAME", help="Context of the kubeconfig, instead of its current one."
    )
    kubeconfig = click.option(
        "--kubeconfig", metavar="FILE", help="Instead of $KUBECONFIG or ~/.kube/config."
    )
    return kubeconfig(context(command))


def in_cluster(command: Command) -> Command:
    """`--in-cluster`, instead of these two."""
    return click.option(
        "--in-cluster",
        is_flag=True,
        help="Use the service account of the pod this runs in, not a kubeconfig.",
    )(command)


def namespaces(command: Command) -> Command:
    """`--namespace NAME`, repeatable."""
    return click.option(
        "--namespace",
        "namespaces",
        multiple=True,
        metavar="NAME",
        help="Only this namespace; may be given several times.  [default: all]",
    )(command)


def output(*forms: str, about: str) -> Decorator:
    """`--output`: one of these forms, the first unless another is asked for."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help=about,
    )


def mesh(command: Command) -> Command:
    """The options that decide how objects are understood; `config.parse_mesh` takes them."""
    for option in (
        click.option(
            "--mtls-mode",
            type=_MODES,
            default=Mode.STRICT.value,
            show_default=True,
            help="Callers without a sidecar: strict refuses them; permissive lets them in, in "
            "plaintext.",
        ),
        click.option(
            "--access-mode",
            type=_ACCESS_MODES,
            default=AccessMode.STRICT.value,
            show_default=True,
            help="What no TrafficTarget allows: strict denies it; permissive lets it in; "
            "shadow, too, but counts and logs it.",
        ),
        click.option(
            "--trust-domain",
            default=DEFAULT_TRUST_DOMAIN,
            show_default=True,
            metavar="NAME",
            help="First part of every identity: spiffe://NAME/ns/NAMESPACE/sa/ACCOUNT.",
        ),
    ):
        command = option(command)
    return command
