"""The demo with real Envoys: the story, what stays behind, and edits of one's own."""

import asyncio
import json
import math
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from smi_xds import app
from smi_xds.config import parse_serve
from smi_xds.demo import run
from smi_xds.demo.addresses import free_block
from smi_xds.demo.envoy import envoy_binary
from smi_xds.demo.run import Edited, Event, Stage, running_stage
from smi_xds.demo.story import SPLIT, WorkFolder, packaged
from tests.support.wait import eventually, eventually_async

pytestmark = pytest.mark.envoy

SMI_XDS = [sys.executable, "-c", "from smi_xds.cli.main import main; main()"]

# What the story promises, written down a second time: weights by source, and the thief's code.
V1, V2 = "bookstore-v1", "bookstore-v2"
PROMISED: Mapping[str, tuple[Mapping[str, Mapping[str, int]], str]] = {
    "v1 only": ({"bookbuyer": {V1: 1}}, "403"),
    "canary": ({"bookbuyer": {V1: 90, V2: 10}}, "403"),
    "half and half": ({"bookbuyer": {V1: 50, V2: 50}}, "403"),
    "v2 only": ({"bookbuyer": {V2: 1}}, "403"),
    "the thief is allowed": ({"bookbuyer": {V2: 1}}, "200"),
    "the thief is denied": ({"bookbuyer": {V2: 1}}, "403"),
    "A/B by header": ({"bookbuyer": {V1: 1}, "bookbuyer (beta)": {V2: 1}}, "403"),
}


@contextmanager
def demo(*arguments: str, scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo as a user starts it, with a folder of its own for temporary files."""
    scratch.mkdir()
    with subprocess.Popen(
        [*SMI_XDS, "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def descendants(parent: int) -> set[int]:
    """All processes that a process has started, directly or not."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found, frontier = set[int](), {parent}
    while frontier := {pid for pid, ppid in parents.items() if ppid in frontier}:
        found |= frontier
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if is_running(pid)}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    assert process.stderr is not None
    raise AssertionError(f"the demo ended without {text!r}: {process.stderr.read()}")


def shares(edges: Sequence[Mapping[str, object]], source: str) -> dict[object, int]:
    return {
        edge["backend"]: int(str(edge["requests"]))
        for edge in edges
        if edge["source"] == source and edge["service"] == "bookstore"
    }


def codes(edges: Sequence[Mapping[str, object]], source: str) -> set[str]:
    seen = [edge["codes"] for edge in edges if edge["source"] == source]
    assert all(isinstance(each, dict) for each in seen)
    return {code for each in seen if isinstance(each, dict) for code in each}


def test_the_story_holds(tmp_path: Path) -> None:
    """Shares by weight, the thief by its rights, no failure for anyone, during any change."""
    with demo("--once", "--json", scratch=tmp_path / "tmp") as process:
        out, err = process.communicate(timeout=200)

    assert (process.returncode, err) == (0, "")
    report = json.loads(out)
    assert [step["name"] for step in report["steps"]] == list(PROMISED)
    for step in report["steps"]:
        assert set(step) == {"name", "change", "converged_ms", "retries", "edges"}
        weights, thief = PROMISED[step["name"]]
        for source, by_backend in weights.items():
            check_shares(shares(step["edges"], source), by_backend, step["name"])
        assert codes(step["edges"], "bookthief") == {thief}
        everyone = {edge["source"] for edge in step["edges"]} - {"bookthief"}
        assert all(codes(step["edges"], source) == {"200"} for source in everyone)
        assert isinstance(step["retries"], int)
        assert 0 < step["converged_ms"] < 10_000


def check_shares(found: Mapping[object, int], weights: Mapping[str, int], step: str) -> None:
    total = sum(found.values())
    assert total >= 2000, step
    assert set(found) <= set(weights), step
    for backend, weight in weights.items():
        share = weight / sum(weights.values())
        deviation = math.sqrt(total * share * (1 - share))
        assert abs(found[backend] - total * share) <= 5 * deviation, (step, found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_behind(number: signal.Signals, tmp_path: Path) -> None:
    """However the demo is ended, its processes and its folder go with it."""
    scratch = tmp_path / "tmp"
    with demo(scratch=scratch) as process:
        wait_for_line(process, "the last Envoy had it")
        started = descendants(process.pid)
        assert len(started) >= 10  # five Envoys, five applications
        assert list(scratch.iterdir())
        process.send_signal(number)
        code = process.wait(20)

    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    eventually(lambda: not alive(started), what="all processes ended")
    eventually(lambda: not list(scratch.iterdir()), what="the folder is gone")


def test_a_terminal_gets_a_live_picture(tmp_path: Path) -> None:
    """Traffic is on the screen soon; at the end the story stays on the first screen."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*SMI_XDS, "demo"],
        stdout=theirs,
        env={**os.environ, "TMPDIR": str(scratch), "TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        os.close(theirs)
        try:
            assert "xDS on 127.0.0.1" in read_until(ours, "bookbuyer > bookstore")
            process.send_signal(signal.SIGINT)
            assert "A/B by header" in read_until(ours, None)
            assert process.wait(20) == 0
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, text: str | None) -> str:
    """What a terminal shows until that text, or its end."""
    shown = ""
    while text is None or text not in shown:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        shown += read.decode(errors="replace")
    return shown


def test_an_interrupted_report_is_no_success(tmp_path: Path) -> None:
    """With --once, Ctrl-C is exit code 130 and no half of a report."""
    with demo("--once", "--json", scratch=tmp_path / "tmp") as process:
        eventually(lambda: len(descendants(process.pid)) >= 10)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)

    assert (process.returncode, out) == (130, "")


def test_an_envoy_that_ends_is_told_in_one_line(tmp_path: Path) -> None:
    """What is no Envoy, or cannot start, ends the demo with its name and its last words."""
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    broken.chmod(0o755)
    with demo("--once", "--json", "--envoy", str(broken), scratch=tmp_path / "tmp") as process:
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (2, "")
    assert "ended with code 3: out of luck" in err
    assert "Traceback" not in err


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    """`--dir` never overwrites what is somebody's."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file.yaml").touch()
    with demo("--dir", str(tmp_path / "mine"), scratch=tmp_path / "tmp") as process:
        _, err = process.communicate(timeout=60)

    assert process.returncode == 2
    assert err == f"smi-xds: {tmp_path}/mine is not empty: give --dir a new folder\n"


@asynccontextmanager
async def stage_in(scratch: Path) -> AsyncIterator[Stage]:
    """Everything that runs, without a story."""
    with free_block() as prefix:
        folder = WorkFolder(scratch / "objects", prefix)
        folder.fill()
        config = parse_serve(
            files=[folder.path], xds_address="127.0.0.1:0", state_folder=scratch / "state"
        )
        async with (
            app.running(config) as plane,
            running_stage(plane, folder, binary=envoy_binary(), scratch=scratch) as stage,
        ):
            yield stage


def backends(stage: Stage) -> set[str]:
    """Who answered the buyer in the last seconds."""
    return set(stage.counted().tally.backends("bookbuyer"))


async def test_while_it_stays_traffic_follows_edits(tmp_path: Path) -> None:
    """A split that a user writes moves the traffic; a file that is broken is shown and harmless."""
    events: list[Event] = []
    async with stage_in(tmp_path) as stage, asyncio.TaskGroup() as tasks:
        staying = tasks.create_task(run.stay(stage, events.append))
        await eventually_async(lambda: backends(stage) == {V1, V2})

        stage.folder.edit(SPLIT, lambda _: packaged(SPLIT))
        await eventually_async(lambda: backends(stage) == {V1})
        edited = [event for event in events if isinstance(event, Edited)]
        assert len(edited) == 1
        assert edited[0].milliseconds is not None

        stage.folder.edit(SPLIT, lambda text: text.replace("weight: 100", "weight: [100"))
        await eventually_async(lambda: stage.plane.mesh.problems)
        assert backends(stage) == {V1}
        staying.cancel()
