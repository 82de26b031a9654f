"""What the terminal shows, as text."""

from pathlib import Path

import pytest
from rich.console import Console

from smi_xds.demo.fleet import Counted
from smi_xds.demo.lines import line_audience
from smi_xds.demo.report import StepResult
from smi_xds.demo.run import Began, Converged, Edited, Ended, Event, Stays
from smi_xds.demo.story import STEPS
from smi_xds.demo.tally import EdgeKey, Tally
from smi_xds.demo.view import Picture, render
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef


def mk_counted(v1: int = 90, v2: int = 10, *, bad: int = 0) -> Counted:
    tally = Tally()
    for key, code, times in (
        (EdgeKey("bookbuyer", "bookstore", "bookstore-v1"), "200", v1),
        (EdgeKey("bookbuyer", "bookstore", "bookstore-v2"), "200", v2),
        (EdgeKey("bookbuyer", "bookstore", ""), "503", bad),
        (EdgeKey("bookthief", "bookstore", ""), "403", 40),
    ):
        for _ in range(times):
            tally.count(key, code, 0.002)
    return Counted(tally, seconds={"bookbuyer": 2.0, "bookthief": 2.0})


def mk_result(index: int, *, bad: int = 0) -> StepResult:
    return StepResult(
        step=STEPS[index],
        converged_ms=12,
        retries=0,
        during=Counted(),
        measured=mk_counted(2000, 0, bad=bad),
    )


def show(*events: Event, counted: Counted | None = None, problems: tuple[Problem, ...] = ()) -> str:
    picture = Picture(
        folder=Path("/work"),
        server="127.0.0.1:15010",
        counted=lambda: counted or Counted(),
        problems=lambda: problems,
    )
    for event in events:
        picture.note(event)
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(render(picture))
    return capture.get()


def line_with(text: str, *words: str) -> str:
    return next(line for line in text.splitlines() if all(word in line for word in words))


def test_the_first_picture_has_the_whole_story() -> None:
    """Every step is there before anything has happened, and so is the server's address."""
    shown = show()

    assert all(step.name in shown for step in STEPS)
    assert "127.0.0.1:15010" in shown
    assert "no traffic yet" in shown


def test_a_step_shows_what_changed_and_how_long_it_took() -> None:
    """The lines of the file that changed, and the time to the last ACK."""
    shown = show(Began(STEPS[1], "-  weight: 100\n+  weight: 90"), Converged(23.4))

    assert "now" in line_with(shown, "canary")
    assert "23 ms to the last ACK" in line_with(shown, "canary")
    assert "+  weight: 90" in shown


def test_a_long_change_is_cut() -> None:
    """The traffic stays on the screen."""
    shown = show(Began(STEPS[0], "\n".join(f"+line {n}" for n in range(40))))

    assert "+line 11" in shown
    assert "+line 12" not in shown
    assert "and 28 lines more" in shown


def test_traffic_is_told_per_edge() -> None:
    """Share, rate, latency and status codes of each edge."""
    shown = show(counted=mk_counted())

    row = line_with(shown, "bookbuyer", "bookstore-v1", "200")
    assert "90.0%" in row
    assert "200 x90" in row
    assert " 45 " in row
    assert "2.0" in row
    assert "403 x40" in line_with(shown, "bookthief", "sidecar")


@pytest.mark.parametrize("bad, mark", [(0, "held"), (1, "failed")])
def test_a_step_that_is_over_has_its_verdict(bad: int, mark: str) -> None:
    """A 503 anywhere makes the step fail."""
    assert mark in line_with(show(Ended(mk_result(0, bad=bad))), STEPS[0].name)


def test_when_it_stays_it_says_what_to_edit_and_tells_of_edits() -> None:
    """The files are named, and each edit has its time."""
    shown = show(Stays(), Edited(31))

    assert "/work/split.yaml" in shown
    assert "/work/access.yaml" in shown
    assert "Edit 1: the last Envoy had it after 31 ms" in shown
    assert "Edit 1: not every Envoy took it" in show(Stays(), Edited(None))


def test_problems_are_shown_with_their_cure() -> None:
    """What is wrong in an edited file is in the picture; a flood of it is cut."""
    problems = tuple(
        Problem(
            ref=ObjectRef("TrafficSplit", "bookstore", f"split-{number}"),
            field="spec.backends[0].weight",
            code=ProblemCode.INVALID_OBJECT,
            message="It is no number.",
            cure="Write a number.",
        )
        for number in range(7)
    )
    shown = show(problems=problems)

    assert "error TrafficSplit bookstore/split-0 spec.backends[0].weight" in shown
    assert "Write a number." in shown
    assert "split-5" not in shown
    assert "and 2 problems more" in shown


def test_lines_tell_the_same_story() -> None:
    """Without a terminal every event is a line or some."""
    lines: list[str] = []
    note = line_audience(lines.append, folder=Path("/work"))
    for event in (
        Began(STEPS[0], "+weight: 90"),
        Converged(12.3),
        Ended(mk_result(0, bad=1)),
        Stays(),
        Edited(None),
        Edited(7.0),
    ):
        note(event)
    text = "\n".join(lines)

    for said in (
        f"{STEPS[0].name}: {STEPS[0].change}",
        "    +weight: 90",
        "the last Envoy had it after 12 ms",
        "bookbuyer -> bookstore -> bookstore-v1: 200 x2000",
        "bookthief -> bookstore -> denied: 403 x40",
        "retries of the sidecars: 0",
        "FAILED v1 only: bookbuyer saw 503",
        "edit /work/split.yaml",
        "edited: not every Envoy took it",
        "edited: the last Envoy had it after 7 ms",
    ):
        assert said in text
