"""`smi-xds install`: the control plane into a cluster."""

import asyncio
import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

import click

from smi_xds.cli import options
from smi_xds.cli.serve import configured, serve
from smi_xds.config import KubernetesConfig, parse_kubernetes, parse_mesh
from smi_xds.problems import AskError

if TYPE_CHECKING:
    from smi_xds.install.apply import Applied
    from smi_xds.install.manifests import Installation
    from smi_xds.install.workload import Choices

_NOT_READY = 1
_DEFAULT_TIMEOUT = 180

# What the kubelet's container has, as far as `serve` reads it.
_POD_ENVIRON: Final = {"HOME": "/"}
_FILES: Final = ("files", "ca_cert", "ca_key", "ca_root", "cert_manager_ca")


def _image(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and value.split() != [value]:  # of a variable that is not set, say
        raise click.BadParameter(f"{value!r} is no image, such as registry.example/smi-xds:0.1.0.")
    return value


@click.command(short_help="Install the control plane into a cluster.")
@options.api_server
@click.option("--dry-run", is_flag=True, help="Print the manifests, and ask nobody.")
@click.option(
    "--image",
    metavar="IMAGE",
    callback=_image,
    help="Of the control plane, from a registry that the nodes reach.  [default: smi-xds:VERSION]",
)
@click.option(
    "--replicas", type=click.IntRange(min=1), default=2, show_default=True, metavar="NUMBER"
)
@click.option(
    "--force",
    is_flag=True,
    help="Take over what somebody else has set, and let go of flags that are not given again, "
    "rather than stop there.",
)
@click.option("--wait", is_flag=True, help="Until all replicas are ready.")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    default=_DEFAULT_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for them.",
)
@options.output("text", "json", about="How what was done is printed.")
@options.mesh
@click.argument("flags", nargs=-1, metavar="[-- FLAGS]")
def install(
    kubeconfig: str | None,
    context: str | None,
    dry_run: bool,
    image: str | None,
    replicas: int,
    force: bool,
    wait: bool,
    timeout: int,
    output: str,
    flags: tuple[str, ...],
    **mesh: str,
) -> int:
    """Install the control plane into a cluster, or bring an installation up to date.

    In this order: the CRDs (which are waited for), the namespace smi-xds with its rights and
    Services, the webhooks, the Deployment. Each object is applied on the server's side, as
    smi-xds-install: what others set beside it stays, and what they changed in it is an error that
    names it. So are flags of the last time that are not given again. Doing it again changes
    nothing. `smi-xds verify` tells whether it works.

    What follows `--` are further flags of `smi-xds serve`, for the pods.

    \b
    Examples:
      smi-xds install --image registry.example/smi-xds:0.1.0 --wait
      smi-xds install --context staging --access-mode shadow --mtls-mode permissive
      smi-xds install --image registry.example/smi-xds:0.1.0 -- --leaf-lifetime 12h
      smi-xds install --dry-run > smi-xds.yaml
      smi-xds install --dry-run --image registry.example/smi-xds:0.1.0 | kubectl diff -f -

    \b
    JSON:
      objects[]  kind, namespace, name, outcome (created, configured or unchanged)
      ready      true or false with --wait, else null

    Exit code: 0 done, 1 applied but not ready in time (--wait), 2 where something was refused.
    """
    from smi_xds.install.manifests import installation
    from smi_xds.install.workload import DEFAULT_IMAGE, Choices

    if dry_run:
        left = {"--wait": wait, "--output": output == "json", "--force": force}
        options.refuse(left, "is about applying, which --dry-run does not: leave one of them out.")
    choices = Choices(
        image=image or DEFAULT_IMAGE, replicas=replicas, mesh=parse_mesh(**mesh), more=flags
    )
    _check(choices)
    wanted = installation(choices)
    if dry_run:
        _print(wanted)
        return 0
    config = parse_kubernetes(kubeconfig=kubeconfig, context=context)
    run = _Run(as_json=output == "json", given=_given(flags))
    ready = asyncio.run(run(config, wanted, force=force, seconds=timeout if wait else None))
    if output == "json":
        click.echo(json.dumps({"objects": run.objects, "ready": ready}, indent=2))
    return _NOT_READY if ready is False else 0


def _check(choices: "Choices") -> None:
    """Say here, rather than in a pod that does not start, what `serve` has against its flags."""
    from smi_xds.install.workload import arguments

    context = click.Context(serve, info_name="serve")
    _serve, *whole = arguments(choices)
    try:
        given, *_ = serve.make_parser(context).parse_args(list(choices.more))
        # First: that one of them is not on this machine says nothing.
        _refuse_files(given)
        taken = serve.make_context("smi-xds serve", whole).params
    except click.UsageError as error:
        raise click.UsageError(f"{error.format_message()} See smi-xds serve --help.") from None
    configured(**taken, environ=_POD_ENVIRON)


def _refuse_files(given: Mapping[str, object]) -> None:
    for name in _FILES:
        if name in given:
            raise click.UsageError(
                f"--{name.replace('_', '-')} names a file, and none is mounted into the pods that "
                "this makes: add it by kustomize (docs/install.md, Files in the pods)."
            )


def _given(flags: tuple[str, ...]) -> list[str]:
    """Flags that are meant to be as they are now, whatever they were."""
    from smi_xds.install.former import OWN_FLAGS, joined

    return [*filter(options.is_given, OWN_FLAGS), *joined(flags)]


def _print(wanted: "Installation") -> None:
    from smi_xds.crds.manifests import plain

    click.echo("---\n".join(plain(manifest) for manifest in wanted.all), nl=False)


class _Run:
    """One installation, and what it tells."""

    def __init__(self, *, as_json: bool, given: Collection[str]) -> None:
        self._as_json = as_json
        self._given = given
        self.objects: list[dict[str, str]] = []

    async def __call__(
        self,
        config: KubernetesConfig,
        wanted: "Installation",
        *,
        force: bool,
        seconds: float | None,
    ) -> bool | None:
        """Do it; whether it is ready, None where nobody waits."""
        from smi_xds.install.apply import install as applying
        from smi_xds.install.apply import rolled_out
        from smi_xds.install.cluster import connected
        from smi_xds.install.former import refuse_loss

        async with connected(config) as cluster:
            if not force:
                await refuse_loss(cluster, wanted.deployment, given=self._given)
            try:
                async for applied in applying(cluster, wanted, force=force):
                    self._tell(applied)
            except TimeoutError:
                raise AskError(
                    "the API server does not serve the CRDs: see what "
                    "`kubectl describe crd -l app.kubernetes.io/part-of=smi-xds` says"
                ) from None
            if seconds is None:
                return None
            ready = await rolled_out(cluster, wanted.deployment, seconds=seconds, told=self._say)
        if not ready:
            self._say("not ready: see `kubectl describe pods --namespace smi-xds`")
        return ready

    def _tell(self, applied: "Applied") -> None:
        name = f"{applied.namespace}/{applied.name}".removeprefix("/")
        self._say(f"{applied.kind} {name} {applied.outcome.value}")
        self.objects.append(
            {
                "kind": applied.kind,
                "namespace": applied.namespace,
                "name": applied.name,
                "outcome": applied.outcome.value,
            }
        )

    def _say(self, line: str) -> None:
        # Beside JSON it is for people who wait, and no part of the answer.
        click.echo(line, err=self._as_json)
