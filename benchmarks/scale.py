"""5,000 pods and 1,000 services in a real API server: start, memory, a quiet hour, a storm.

`python -m benchmarks.scale [--services 1000] [--json]`

The API server is filled by parallel requests, without controllers; `smi-xds serve --kubernetes` is
a process. Beside it: the same lists in the models of kubernetes-asyncio, held in memory.
"""

import argparse
import asyncio
import json
import ssl
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.ads.tables import Table, run
from benchmarks.cluster import world as made
from benchmarks.cluster.loader import Api, at_once, fill, path_of, session
from benchmarks.cluster.serving import Served, served
from benchmarks.cluster.world import Document, World
from benchmarks.measure import Bar
from tests.kube.cluster import KubeCluster
from tests.kube.plugin import CRDS

# Seconds in which nothing is done to it.
_QUIET: Final = 20.0
_BEATS: Final = 2_000
_STORM: Final = 1_000
_REVIEWS: Final = 5
# A server is at rest when for so many seconds there was no round, and it took less than that part
# of a processor.
_CALM, _IDLE = 1.0, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What something took of a server."""

    what: str
    seconds: float
    cpu: float
    rounds: float
    memory: float
    """Resident afterwards, in MB."""


def main() -> int:
    """Print the tables; 1 if a bar was missed."""
    return run("scale", __doc__, _measured, services=1000)


def _measured(given: argparse.Namespace) -> list[Table]:
    return asyncio.run(measure(World(services=given.services, pods_each=5)))


async def measure(world: World, *, quiet: float = _QUIET) -> list[Table]:
    """Fill an API server, and start servers beside it, one after another."""
    with KubeCluster() as kube:
        kube.apply_crds(CRDS)
        kube.stop_controllers()
        async with session(kube) as api:
            began = time.perf_counter()
            await fill(api, world)
            _say(f"filled in {time.perf_counter() - began:.0f} s")
            tables = [await _starts(kube.kubeconfig, world)]
            async with served(kube.kubeconfig) as server:
                spent = [
                    await _spent("the certificates of the start", server, asyncio.sleep(0)),
                    await _spent("nothing", server, asyncio.sleep(quiet)),
                    await _spent(_beat_name(world), server, _beat(api, world)),
                    await _spent(_storm_name(world), server, _storm(api, world)),
                ]
    return [*tables, _spent_table(spent, quiet=quiet)]


# ------------------------------------------------------------------ starts


async def _starts(kubeconfig: Path, world: World) -> Table:
    async with served(kubeconfig) as plain:
        rows = [_start_row("serve --kubernetes", plain)]
    _say("started")
    async with served(kubeconfig, "--webhook-address", "127.0.0.1:0") as server:
        rows.append(_start_row("the same with webhooks", server))
        await _rest(server)
        first, later = await _reviews(server, world)
        cells = ("", "", server.cpu, server.memory, server.most_memory)
        rows.append((f"… after reviews: {first:.0f} ms, then {later:.1f} ms", *cells))
    _say("reviewed")
    models = await _models(kubeconfig)
    rows.append(("models of kubernetes-asyncio", "", models["seconds"], "", models["memory"], ""))
    return Table(
        title=f"{world.pods:,} pods, {world.services:,} services: from the start to ready",
        columns=("", "s to a round", "s to ready", "s of CPU", "MB", "MB at most"),
        rows=tuple(rows),
        bars=(
            Bar(name="start to ready", value=plain.started, limit=15, unit="s"),
            Bar(name="memory", value=float(str(rows[0][4])), limit=500, unit="MB"),
            Bar(name="memory with webhooks", value=float(str(rows[2][4])), limit=500, unit="MB"),
        ),
    )


def _start_row(name: str, server: Served) -> tuple[str | float, ...]:
    return (
        *(name, server.synced, server.started),
        *(server.cpu, server.memory, server.most_memory),
    )


async def _reviews(server: Served, world: World) -> tuple[float, float]:
    """Milliseconds of the first review, and the median of those after it."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    taken = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as http:
        for number in range(_REVIEWS + 1):
            review = _review(made.target(0, world, callers=number + 1))
            began = time.perf_counter()
            async with http.post(f"https://{server.webhooks}/validate", json=review) as answer:
                said = await answer.json()
            assert said["response"]["allowed"], said
            taken.append(1e3 * (time.perf_counter() - began))
    return taken[0], sorted(taken[1:])[_REVIEWS // 2]


def _review(target: Document) -> Document:
    request = {
        "uid": "1",
        "kind": {"group": "access.smi-spec.io", "version": "v1alpha3", "kind": "TrafficTarget"},
        "operation": "UPDATE",
        "object": target,
        "oldObject": target,
        **target["metadata"],
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


async def _models(kubeconfig: Path) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.cluster.models", str(kubeconfig)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out)
    return found


# ------------------------------------------------------------------ what happens to it


def _beat_name(world: World) -> str:
    return f"{min(_BEATS, world.pods):,} statuses of pods in which nothing is new to us"


async def _beat(api: Api, world: World) -> None:
    """What kubelets write: when they last looked."""

    async def one(both: tuple[int, int]) -> None:
        index, number = both
        beat = "2026-01-01T00:00:10Z"
        path = path_of(made.pod(index, number))
        await api.patch(f"{path}/status", made.status(index, number, beat=beat))

    pods = ((it, number) for it in range(world.services) for number in range(world.pods_each))
    await at_once(_first(_BEATS, pods), one)


def _storm_name(world: World) -> str:
    return f"{min(_STORM, world.services):,} EndpointSlices that lose an endpoint"


async def _storm(api: Api, world: World) -> None:
    async def one(index: int) -> None:
        slice_ = made.slice_of(index, world.pods_each - 1)
        await api.patch(path_of(slice_), {"endpoints": slice_["endpoints"]})

    await at_once(range(min(_STORM, world.services)), one)


def _first(count: int, items: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    return (item for item, _ in zip(items, range(count), strict=False))


async def _spent(what: str, server: Served, act: Any) -> Spent:
    """Do it, wait until the server has nothing more to do, and say what that took."""
    cpu, rounds = server.cpu, await _rounds(server)
    began = time.perf_counter()
    await act
    seconds = time.perf_counter() - began
    last = await _rest(server)
    _say(what)
    return Spent(
        what=what,
        seconds=seconds,
        cpu=server.cpu - cpu,
        rounds=last - rounds,
        memory=server.memory,
    )


async def _rest(server: Served) -> float:
    """Wait until neither rounds nor anything else take processor time; how many rounds it were."""
    before: tuple[float, float] | None = None
    while True:
        rounds, cpu = await _rounds(server), server.cpu
        if before is not None and rounds == before[0] and cpu - before[1] < _IDLE * _CALM:
            return rounds
        before = rounds, cpu
        await asyncio.sleep(_CALM)


async def _rounds(server: Served) -> float:
    return await asyncio.to_thread(server.metric, "smi_xds_rounds_total")


def _spent_table(spent: list[Spent], *, quiet: float) -> Table:
    return Table(
        title=f"what the server spends; a quiet minute takes {60 * spent[1].cpu / quiet:.2f} s",
        columns=("on", "s", "s of CPU", "rounds", "MB after it"),
        rows=tuple((it.what, it.seconds, it.cpu, it.rounds, it.memory) for it in spent),
        # Below one: none.
        bars=(Bar(name="rounds for statuses", value=spent[2].rounds, limit=1, unit="rounds"),),
    )


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
