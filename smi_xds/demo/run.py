"""Runs the story: sidecars and applications around a control plane, one change after another."""

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from smi_xds.demo import processes
from smi_xds.demo.envoy import Sidecar, running_sidecar
from smi_xds.demo.fleet import Counted, Fleet, running_fleet
from smi_xds.demo.report import StepResult
from smi_xds.demo.story import BETA_BUYER, BUYER, MEMBERS, STEPS, THIEF, Member, Step, WorkFolder
from smi_xds.mesh.model import Mesh
from smi_xds.problems import ServeError
from smi_xds.xds.bootstrap import sidecar as sidecar_bootstrap
from smi_xds.xds.dump import to_json as message_to_json

# Enough that 5 standard deviations of a 90/10 split are 3 percent points.
_ENOUGH_REQUESTS = 2000
# Every connection has been used by then.
_ENOUGH_TO_BEGIN = 50
# The thief's codes are judged, not its shares.
_ENOUGH_OF_THE_THIEF = 500
# An ACK says that an Envoy's main thread has accepted; its worker follows within a turn of its
# own loop, which on a machine under load may take some milliseconds. What is asked meanwhile
# counts as asked during the change.
_SETTLE = 0.05
# Nothing takes this long unless something is broken.
_TIME_TO_CONVERGE = 30.0
_TIME_TO_COUNT = 120.0

# While it stays: shares over the last seconds, so that an edit shows soon.
_WINDOW_TURNS = 5
_WINDOW_TURN = 1.0


class ControlPlane(Protocol):
    """What the demo needs of a running server."""

    xds_host: str
    xds_port: int

    @property
    def mesh(self) -> Mesh: ...
    @property
    def round(self) -> int:
        """How many times something new has been published."""

    async def next_round(self, after: int) -> float:
        """Wait for a round later than that one; return when its first change was seen."""

    async def converged(self, proxies: Collection[str]) -> None:
        """Wait until these have ACKed all that has been published for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the story goes: requests a second of those who call all the time."""

    buyer: float
    thief: float

    @property
    def rates(self) -> Mapping[str, float]:
        """By application."""
        return {BUYER: self.buyer, THIEF: self.thief}


QUICK = Pace(buyer=700, thief=250)
"""For `--once`: half of what two cores can do; a step lasts some three seconds."""
TO_WATCH = Pace(buyer=400, thief=150)
"""For the eye: a step lasts some five seconds."""
TO_STAY = Pace(buyer=100, thief=40)
"""Hardly heard on a laptop."""


@dataclass(frozen=True, slots=True)
class Began:
    """A step's file has been changed."""

    step: Step
    diff: str


@dataclass(frozen=True, slots=True)
class Converged:
    """The last Envoy has it."""

    milliseconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Enough has been measured."""

    result: StepResult


@dataclass(frozen=True, slots=True)
class Stays:
    """The story is over; the files are the user's now."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The user has changed something, and the last Envoy has it; None: not all took it."""

    milliseconds: float | None


Event: TypeAlias = Began | Converged | Ended | Stays | Edited
Audience: TypeAlias = Callable[[Event], None]


@dataclass(slots=True)
class Stage:
    """Everything that runs: the server, the sidecars, the applications."""

    plane: ControlPlane
    folder: WorkFolder
    sidecars: Sequence[Sidecar]
    fleet: Fleet
    window: deque[Counted] = field(default_factory=lambda: deque(maxlen=_WINDOW_TURNS))
    _retries: dict[tuple[str, str], int] = field(default_factory=dict)

    def counted(self) -> Counted:
        """What the live view shows: this epoch, or the last seconds while the demo stays."""
        return Counted.sum(self.window) if self.window else self.fleet.now()

    async def new_retries(self) -> int:
        """Retries of all sidecars since the last call."""
        new = 0
        for sidecar in self.sidecars:
            for name, value in (await sidecar.retries()).items():
                before = self._retries.get((sidecar.name, name), 0)
                # A smaller number is that of a cluster that has been made anew.
                new += value - before if value >= before else value
                self._retries[sidecar.name, name] = value
        return new

    async def converged(self) -> None:
        """Wait until every sidecar has ACKed everything."""
        try:
            async with asyncio.timeout(_TIME_TO_CONVERGE):
                await self.plane.converged([str(member.proxy) for member in MEMBERS])
        except TimeoutError:
            raise ServeError(
                f"not every Envoy took the change within {_TIME_TO_CONVERGE:g} s"
            ) from None


@asynccontextmanager
async def running_stage(
    plane: ControlPlane, folder: WorkFolder, *, binary: Path, scratch: Path
) -> AsyncIterator[Stage]:
    """Start a sidecar and an application for each member, and wait until all are ready."""
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        sidecars = []
        for member in MEMBERS:
            sidecar, process = await stack.enter_async_context(
                running_sidecar(
                    name=member.name,
                    binary=binary,
                    bootstrap=_write_bootstrap(plane, member, scratch),
                    admin_host=member.spec(folder.prefix).address,
                    logs=scratch,
                    # Hundreds of lines a second, for hours.
                    access_log=Path(os.devnull),
                )
            )
            sidecars.append(sidecar)
            watch = processes.must_not_end(
                process, what=f"the Envoy of {member.name}", log=sidecar.log
            )
            watcher = tasks.create_task(watch, name=f"envoy-{member.name}")
            # Before the process is ended, which it would take for a failure.
            stack.callback(watcher.cancel)
        specs = [member.spec(folder.prefix) for member in MEMBERS]
        fleet = await stack.enter_async_context(running_fleet(specs, tasks=tasks))
        stage = Stage(plane, folder, sidecars, fleet)
        for sidecar in sidecars:
            await sidecar.wait_until_ready()
        await stage.converged()
        yield stage


def _write_bootstrap(plane: ControlPlane, member: Member, scratch: Path) -> Path:
    workload = plane.mesh.workloads[member.proxy]
    message = sidecar_bootstrap(workload, server_host=plane.xds_host, server_port=plane.xds_port)
    path = scratch / f"{member.name}.json"
    path.write_text(json.dumps(message_to_json(message), indent=2), encoding="utf-8")
    return path


async def tell(stage: Stage, audience: Audience, *, pace: Pace) -> list[StepResult]:
    """Go through the story once."""
    results: list[StepResult] = []
    await stage.fleet.turn(pace.rates)
    await _enough(stage.fleet, {BUYER: _ENOUGH_TO_BEGIN, THIEF: _ENOUGH_TO_BEGIN})
    for step in STEPS:
        result = await _play(stage, step, audience, pace=pace)
        if not results:
            # Everyone had to connect once, before the first change.
            result = replace(result, during=replace(result.during, opened={}))
        results.append(result)
        audience(Ended(result))
    return results


async def _play(stage: Stage, step: Step, audience: Audience, *, pace: Pace) -> StepResult:
    # Every order begins an epoch: what is asked from here on is asked during the change. What
    # was still in flight when the last measurement ended is told with it.
    before = await stage.fleet.turn(pace.rates, beta=step.beta_readers)
    last_round = stage.plane.round
    diff = stage.folder.edit(step.file, step.edit)
    began = time.perf_counter()
    audience(Began(step, diff))
    try:
        async with asyncio.timeout(_TIME_TO_CONVERGE):
            await stage.plane.next_round(last_round)
    except TimeoutError:
        raise ServeError(f"the change of {step.file} in {stage.folder.path} was not seen") from None
    await stage.converged()
    converged_ms = (time.perf_counter() - began) * 1000
    audience(Converged(converged_ms))
    await asyncio.sleep(_SETTLE)
    during = await stage.fleet.turn(pace.rates, beta=step.beta_readers)
    wanted = {BUYER: _ENOUGH_REQUESTS, THIEF: _ENOUGH_OF_THE_THIEF}
    await _enough(
        stage.fleet, wanted | ({BETA_BUYER: _ENOUGH_REQUESTS} if step.beta_readers else {})
    )
    return StepResult(
        step=step,
        converged_ms=converged_ms,
        retries=await stage.new_retries(),
        during=Counted.sum((before, during)),
        measured=await stage.fleet.turn(pace.rates, beta=step.beta_readers),
    )


async def _enough(fleet: Fleet, wanted: Mapping[str, int]) -> None:
    """Wait until each source has made so many requests in this epoch."""
    try:
        async with asyncio.timeout(_TIME_TO_COUNT):
            while True:
                tally = fleet.now().tally
                if all(tally.requests(source) >= enough for source, enough in wanted.items()):
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise ServeError(f"the applications get no answers: {wanted} not reached") from None


async def stay(stage: Stage, audience: Audience) -> None:
    """Keep the traffic going and tell of every edit, until cancelled."""
    audience(Stays())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_keep_window(stage), name="window")
        tasks.create_task(_follow_edits(stage, audience), name="edits")


async def _keep_window(stage: Stage) -> None:
    await stage.fleet.turn(TO_STAY.rates, beta=[BUYER])
    while True:
        await asyncio.sleep(_WINDOW_TURN)
        stage.window.append(await stage.fleet.turn(TO_STAY.rates, beta=[BUYER]))


async def _follow_edits(stage: Stage, audience: Audience) -> None:
    last_round = stage.plane.round
    while True:
        began = await stage.plane.next_round(last_round)
        last_round = stage.plane.round
        try:
            await stage.converged()
        except ServeError:
            audience(Edited(None))
        else:
            audience(Edited((time.perf_counter() - began) * 1000))
