"""The story as plain lines, for logs and pipes."""

from collections.abc import Callable
from pathlib import Path

from smi_xds.demo.report import StepResult, failures
from smi_xds.demo.run import Audience, Began, Converged, Edited, Ended, Event, Stays
from smi_xds.demo.story import SPLIT


def line_audience(write: Callable[[str], object], *, folder: Path) -> Audience:
    """An audience that writes a few lines for each step."""

    def note(event: Event) -> None:
        match event:
            case Began(step, diff):
                write(f"{step.name}: {step.change}")
                for line in diff.splitlines():
                    write(f"    {line}")
            case Converged(milliseconds):
                write(f"  the last Envoy had it after {milliseconds:.0f} ms")
            case Ended(result):
                for line in _summary(result):
                    write(f"  {line}")
            case Stays():
                write(f"the story is over; edit {folder / SPLIT} and watch; Ctrl-C ends it")
            case Edited(None):
                write("edited: not every Envoy took it")
            case Edited(milliseconds):
                write(f"edited: the last Envoy had it after {milliseconds:.0f} ms")

    return note


def _summary(result: StepResult) -> list[str]:
    lines = []
    for key, edge in sorted(result.measured.tally.edges.items()):
        codes = ", ".join(f"{code} x{times}" for code, times in sorted(edge.codes.items()))
        lines.append(
            f"{key.source} -> {key.service} -> {key.backend or 'denied'}: {codes}; "
            f"p50 {edge.percentile_ms(50):.1f} ms, p99 {edge.percentile_ms(99):.1f} ms"
        )
    lines.append(f"retries of the sidecars: {result.retries}")
    return lines + [f"FAILED {failure}" for failure in failures(result)]
