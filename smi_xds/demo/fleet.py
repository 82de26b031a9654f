"""All applications of the demo: started, given their orders, and their counts added up."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field

from smi_xds.demo import processes
from smi_xds.demo.apps import Orders, Spec
from smi_xds.demo.tally import Tally
from smi_xds.problems import ServeError

# An application answers an order at once; on a machine under load, later.
_TIME_TO_OBEY = 10.0


@dataclass(frozen=True, slots=True)
class Counted:
    """What the applications counted in one epoch.

    `strays` are requests that ended in it and began before. By application: how many connections
    it had to `open`, and for how many `seconds` it counted.
    """

    tally: Tally = field(default_factory=Tally)
    strays: Tally = field(default_factory=Tally)
    opened: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def sum(cls, parts: Iterable["Counted"]) -> "Counted":
        """All of them together."""
        tally, strays = Tally(), Tally()
        opened: Counter[str] = Counter()
        seconds: dict[str, float] = {}
        for part in parts:
            tally.add(part.tally)
            strays.add(part.strays)
            opened.update(part.opened)
            for name, duration in part.seconds.items():
                seconds[name] = seconds.get(name, 0.0) + duration
        return cls(tally, strays, opened, seconds)


class _Application:
    """One application process, seen from here."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.current = Counted()
        self._epoch = 0
        self._finals: dict[int, asyncio.Future[Counted]] = {}

    async def order(self, orders: Orders) -> Counted:
        """Hand over orders; return what it counted until it obeyed."""
        final: asyncio.Future[Counted] = asyncio.get_running_loop().create_future()
        self._finals[self._epoch] = final
        self._epoch = orders.epoch
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(orders)).encode() + b"\n")
        try:
            async with asyncio.timeout(_TIME_TO_OBEY):
                return await final
        except TimeoutError:
            raise ServeError(f"the application {self.name} does not answer") from None

    async def listen(self) -> None:
        """Take its reports until it ends, which it must not."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self._take(json.loads(line))
        await processes.must_not_end(self.process, what=f"the application {self.name}")

    def _take(self, report: dict[str, object]) -> None:
        counted = _counted(self.name, report)
        if report["final"]:
            self._finals.pop(int(str(report["epoch"]))).set_result(counted)
            self.current = Counted()
        else:
            self.current = counted


def _counted(name: str, report: Mapping[str, object]) -> Counted:
    edges, strays = report["edges"], report["strays"]
    opened, seconds = report["opened"], report["seconds"]
    assert isinstance(edges, list)
    assert isinstance(strays, list)
    assert isinstance(opened, int)
    assert isinstance(seconds, float)
    return Counted(Tally.from_json(edges), Tally.from_json(strays), {name: opened}, {name: seconds})


class Fleet:
    """The applications together."""

    def __init__(self, applications: list[_Application]) -> None:
        self._applications = applications
        self._epoch = 0

    @property
    def processes(self) -> Mapping[str, int]:
        """Process ids by name."""
        return {application.name: application.process.pid for application in self._applications}

    def now(self) -> Counted:
        """What has been counted in this epoch, as far as it has been reported."""
        return Counted.sum(application.current for application in self._applications)

    async def turn(self, rates: Mapping[str, float], *, beta: Collection[str] = ()) -> Counted:
        """Begin an epoch with these rates; return what was counted in the one that ends.

        Of those in `beta` every second request says that it comes from a reader of the beta.
        """
        self._epoch += 1
        async with asyncio.TaskGroup() as tasks:
            finals = []
            for application in self._applications:
                orders = Orders(
                    epoch=self._epoch,
                    rate=rates.get(application.name, 0),
                    beta=application.name in beta,
                )
                finals.append(tasks.create_task(application.order(orders)))
        return Counted.sum(final.result() for final in finals)


@asynccontextmanager
async def running_fleet(specs: Iterable[Spec], *, tasks: asyncio.TaskGroup) -> AsyncIterator[Fleet]:
    """Start all applications; they do nothing yet. One that ends by itself ends `tasks`."""
    async with AsyncExitStack() as stack:
        applications = []
        for spec in specs:
            command = [
                sys.executable, "-m", "smi_xds.demo.apps", str(os.getpid()), spec.to_json()
            ]  # fmt: skip
            process = await stack.enter_async_context(
                processes.running(command, stdin=PIPE, stdout=PIPE)
            )
            application = _Application(spec.name, process)
            applications.append(application)
            listener = tasks.create_task(application.listen(), name=spec.name)
            # Before the process is ended, which it would take for a failure.
            stack.callback(listener.cancel)
        fleet = Fleet(applications)
        # Who obeys is listening: nobody calls before all of them are.
        await fleet.turn({})
        yield fleet
