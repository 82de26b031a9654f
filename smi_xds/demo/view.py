"""The live view: what the terminal shows of the story and of the traffic.

`Picture` is kept up to date by events of the story; `render` makes of it what rich can print.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from smi_xds.demo.fleet import Counted
from smi_xds.demo.report import StepResult, failures
from smi_xds.demo.run import Began, Converged, Edited, Ended, Event, Stays
from smi_xds.demo.story import ACCESS, SPLIT, STEPS, Step
from smi_xds.demo.tally import RESET, Edge, EdgeKey
from smi_xds.problems import Problem, Severity

# A picture takes some milliseconds, in which the server waits.
_DRAW_EVERY = 0.25
_BAR_WIDTH = 10
_MOST_PROBLEMS = 5
_MOST_DIFF_LINES = 12


@dataclass(slots=True)
class Picture:
    """Everything that is shown."""

    folder: Path
    server: str
    counted: Callable[[], Counted]
    problems: Callable[[], Sequence[Problem]]
    step: Step | None = None
    diff: str = ""
    converged: dict[str, float] = field(default_factory=dict)
    results: list[StepResult] = field(default_factory=list)
    stays: bool = False
    edits: int = 0
    last_edit: str = ""
    _started: float = field(default_factory=time.monotonic)

    def note(self, event: Event) -> None:
        """Take in an event."""
        match event:
            case Began(step, diff):
                self.step, self.diff = step, diff
            case Converged(milliseconds):
                assert self.step is not None
                self.converged[self.step.name] = milliseconds
            case Ended(result):
                self.results.append(result)
            case Stays():
                self.stays, self.step = True, None
            case Edited(None):
                self.edits += 1
                self.last_edit = "not every Envoy took it"
            case Edited(milliseconds):
                self.edits += 1
                self.last_edit = f"the last Envoy had it after {milliseconds:.0f} ms"

    def __rich__(self) -> RenderableType:
        return render(self)


@asynccontextmanager
async def showing(picture: Picture) -> AsyncIterator[None]:
    """Keep the picture on the terminal's second screen; leave the story's table on the first."""
    console = Console()
    # Drawn by our own task: rich's thread would read counts while they change.
    live = Live(picture, console=console, screen=True, auto_refresh=False)
    try:
        with live:
            async with asyncio.TaskGroup() as tasks:
                drawing = tasks.create_task(_draw(live), name="view")
                try:
                    yield
                finally:
                    drawing.cancel()
    finally:
        console.print(_story(picture))


async def _draw(live: Live) -> None:
    while True:
        live.refresh()
        await asyncio.sleep(_DRAW_EVERY)


def render(picture: Picture) -> RenderableType:
    """The whole picture."""
    parts: list[RenderableType] = [_title(picture), _story(picture)]
    if picture.diff and not picture.stays:
        parts.append(Padding(_diff(picture), (0, 0, 0, 2)))
    parts.append(_traffic(picture.counted()))
    if problems := picture.problems():
        parts.append(_problems(problems))
    parts.append(_footer(picture))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts))


def _title(picture: Picture) -> Text:
    return Text.assemble(
        ("smi-xds demo", "bold"),
        f"   the bookstore: 5 applications, 5 Envoys, xDS on {picture.server}",
    )


def _story(picture: Picture) -> Table:
    table = Table.grid(padding=(0, 2))
    done = {result.step.name: result for result in picture.results}
    for step in STEPS:
        converged = picture.converged.get(step.name)
        took = f"{converged:.0f} ms to the last ACK" if converged is not None else ""
        if result := done.get(step.name):
            mark = Text("failed", "bold red") if failures(result) else Text("held", "green")
        elif step is picture.step:
            mark = Text("now", "bold yellow")
        else:
            mark = Text("")
        style = "bold" if step is picture.step else "" if step.name in done else "dim"
        table.add_row(mark, Text(step.name, style), Text(step.change, style), Text(took, "cyan"))
    return table


def _diff(picture: Picture) -> Text:
    lines = picture.diff.splitlines()
    shown = Text()
    for line in lines[:_MOST_DIFF_LINES]:
        shown.append(line + "\n", "green" if line.startswith("+") else "red")
    if len(lines) > _MOST_DIFF_LINES:
        shown.append(f"(and {len(lines) - _MOST_DIFF_LINES} lines more)\n", "dim")
    shown.rstrip()
    return shown


def _traffic(counted: Counted) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for header in ("source > service", "answered by", "share"):
        table.add_column(header, no_wrap=True)
    for header in ("", "req/s", "p50 ms", "p99 ms"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("status codes", no_wrap=True)
    edges = counted.tally.edges
    for key in sorted(edges):
        total = sum(edge.requests for other, edge in edges.items() if other[:2] == key[:2])
        table.add_row(*_row(key, edges[key], total=total, seconds=_seconds(counted, key)))
    if not edges:
        table.add_row(Text("no traffic yet", "dim"))
    return table


def _seconds(counted: Counted, key: EdgeKey) -> float:
    # A source may say more than the application's name: "bookbuyer (x-reader: beta)".
    return counted.seconds.get(key.source.split(" ")[0], 0.0)


def _row(key: EdgeKey, edge: Edge, *, total: int, seconds: float) -> list[RenderableType]:
    share = edge.requests / total
    bar = "█" * round(share * _BAR_WIDTH)
    return [
        f"{key.source} > {key.service}",
        Text(key.backend) if key.backend else Text("a sidecar", "dim"),
        Text(f"{bar:<{_BAR_WIDTH}}", "cyan"),
        f"{share:.1%}",
        f"{edge.requests / seconds:.0f}" if seconds else "",
        f"{edge.percentile_ms(50):.1f}",
        f"{edge.percentile_ms(99):.1f}",
        _codes(edge),
    ]


def _codes(edge: Edge) -> Text:
    text = Text()
    for code, times in sorted(edge.codes.items()):
        style = "green" if code == "200" else "yellow" if code == "403" else "bold red"
        text.append(f"{code}", style)
        text.append(f" x{times}  ", "dim" if code != RESET else style)
    return text


def _problems(problems: Sequence[Problem]) -> Text:
    text = Text()
    for problem in problems[:_MOST_PROBLEMS]:
        style = "bold red" if problem.code.severity is Severity.ERROR else "yellow"
        text.append(f"{problem.code.severity} ", style)
        text.append(f"{problem.ref} {problem.field}: {problem.message} {problem.cure}\n")
    if len(problems) > _MOST_PROBLEMS:
        text.append(f"(and {len(problems) - _MOST_PROBLEMS} problems more)\n", "dim")
    text.rstrip()
    return text


def _footer(picture: Picture) -> Text:
    if not picture.stays:
        return Text(f"It works in {picture.folder}. Ctrl-C ends it.", "dim")
    text = Text.assemble(
        ("Now it is yours. ", "bold"),
        f"Change a weight in {picture.folder / SPLIT}\n"
        f"or who may call in {picture.folder / ACCESS}, save, and watch. Ctrl-C ends it.",
    )
    if picture.edits:
        text.append(f"\nEdit {picture.edits}: {picture.last_edit}.", "cyan")
    return text
