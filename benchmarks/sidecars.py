"""From an object that is written to the API server to the last ACK of 100 sidecars.

`python -m benchmarks.sidecars [--changes 300] [--json]`

A real API server, `smi-xds serve --kubernetes` as a process, and 100 intercepted sidecars that a Go
client plays (100 real Envoys do not fit beside an API server on two cores; `benchmarks.kubernetes`
has five). Each change moves the weights of a split that all of them route by. A bare watcher of the
same objects, in the same run, tells how much of the time is the API server's own.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from benchmarks.ads.programs import ENVOY_EXTENSIONS, Fleet, fleet
from benchmarks.ads.tables import Table, quantiles, run
from benchmarks.cluster import world as made
from benchmarks.cluster.loader import Api, fill, path_of, session
from benchmarks.cluster.serving import Served, served
from benchmarks.cluster.world import World
from benchmarks.measure import Bar
from tests.kube.cluster import KubeCluster
from tests.kube.plugin import CRDS

WORLD: Final = World(services=20, pods_each=5)
# Seconds between changes, longer than any hold-off: a user's change comes alone.
_PAUSE: Final = 0.05
# The first changes meet cold code.
_WARM_UP: Final = 5


# The same clock as the clients'.
_now: Final = time.monotonic_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Nanoseconds from the moment in which a patch was sent."""

    answered: float
    watched: float
    received: float
    acked: float


def main() -> int:
    """Print the table; 1 if a bar was missed."""
    return run("sidecars", __doc__, _measured, changes=300)


def _measured(given: argparse.Namespace) -> list[Table]:
    return [asyncio.run(measure(changes=given.changes))]


async def measure(*, changes: int, world: World = WORLD) -> Table:
    """So many changes, one after another."""
    with KubeCluster() as kube:
        kube.apply_crds(CRDS)
        kube.stop_controllers()
        async with session(kube) as api:
            await fill(api, world)
            await _let_all_call(api, world)
            with fleet(cpus=set()) as clients:
                async with served(kube.kubeconfig) as server, watching(api) as watcher:
                    _connect(clients, server, world)
                    return await _measure(api, clients, server, watcher, changes, world)


async def _measure(
    api: Api, clients: Fleet, server: Served, watcher: "Watcher", changes: int, world: World
) -> Table:
    await asyncio.sleep(1)  # the last of what they ask for at first
    for number in range(_WARM_UP):
        await _change(api, clients, watcher, number, world)
    told, cpu = _told(clients), server.cpu
    taken = [
        await _change(api, clients, watcher, number, world)
        for number in range(_WARM_UP, _WARM_UP + changes)
    ]
    cpu, told = server.cpu - cpu, _told(clients) - told
    assert told == changes * world.pods, f"each sidecar once for each change: {told}"
    return _table(taken, pods=world.pods, cpu=cpu / changes)


def _told(clients: Fleet) -> int:
    return int(clients("counts")["responses"]["routes"])


async def _let_all_call(api: Api, world: World) -> None:
    target = made.target(0, world, callers=world.services)
    await api.patch(path_of(target), {"spec": target["spec"]})


def _connect(clients: Fleet, server: Served, world: World) -> None:
    nodes = [
        f"{made.names(index)[0]}/{made.pod_name(index, number)}"
        for index in range(world.services)
        for number in range(world.pods_each)
    ]
    arguments = {"mode": "delta", "follow": True, "extensions": ENVOY_EXTENSIONS, "within": 120}
    opened = clients("open", address=server.xds, nodes=nodes, **arguments)
    assert opened["synced"] == len(nodes), opened


async def _change(
    api: Api, clients: Fleet, watcher: "Watcher", number: int, world: World
) -> Change:
    split = made.split(0, world, weight=number % 99 + 1)
    await asyncio.to_thread(clients, "expect", marker=number + 1)
    began = _now()
    async with asyncio.TaskGroup() as tasks:
        # The watch may be faster than the answer.
        told = tasks.create_task(asyncio.to_thread(clients, "wait", within=60.0))
        version = await api.patch(path_of(split), {"spec": split["spec"]})
        answered = _now()
        watched = await watcher.told(version)
    reply = told.result()
    assert reply["reached"] == world.pods, reply
    await asyncio.sleep(_PAUSE)
    return Change(
        answered=answered - began,
        watched=watched - began,
        received=reply["last_receipt"] - began,
        acked=reply["last_answer"] - began,
    )


class Watcher:
    """When a bare watch told of each version."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}
        self._more = asyncio.Event()

    async def run(self, api: Api, started: asyncio.Event) -> None:
        """Watch for ever, and do nothing with it."""
        path = "/apis/split.smi-spec.io/v1alpha4/trafficsplits?watch=1"
        async with api.http.get(path, timeout=aiohttp.ClientTimeout(None)) as answer:
            started.set()
            async for line in answer.content:
                at = _now()
                version = json.loads(line)["object"]["metadata"]["resourceVersion"]
                self._times[int(version)] = at
                self._more.set()

    async def told(self, version: int) -> int:
        """When it told of that version; waits for it."""
        while version not in self._times:
            self._more.clear()
            await self._more.wait()
        return self._times[version]


@asynccontextmanager
async def watching(api: Api) -> AsyncIterator[Watcher]:
    """Watch the splits while the block runs."""
    watcher, started = Watcher(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watcher.run(api, started))
        await started.wait()
        try:
            yield watcher
        finally:
            task.cancel()


def _table(taken: Sequence[Change], *, pods: int, cpu: float) -> Table:
    acked = [change.acked / 1e6 for change in taken]
    parts = {
        f"patch sent to last ACK of {pods} sidecars": acked,
        "patch sent to its answer": [change.answered / 1e6 for change in taken],
        "patch sent to a bare watcher's line": [change.watched / 1e6 for change in taken],
        "that line to the last ACK": [(it.acked - it.watched) / 1e6 for it in taken],
        "of which from the last receipt on": [(it.acked - it.received) / 1e6 for it in taken],
    }
    rows = tuple((name, *quantiles(samples)) for name, samples in parts.items())
    p50, p99, _ = quantiles(acked)
    return Table(
        title=f"{len(taken)} changes of one split; the server takes {1e3 * cpu:.1f} ms of CPU each",
        columns=("ms", "p50", "p99", "most"),
        rows=rows,
        bars=(
            Bar(name="p50 to the last ACK", value=p50, limit=50, unit="ms"),
            Bar(name="p99 to the last ACK", value=p99, limit=200, unit="ms"),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
