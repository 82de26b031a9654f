"""5,000 identities: certificates a second, all of them at once, and who is served meanwhile.

`python -m benchmarks.identities [--services 1000] [--turns 3] [--json]`

A thousand services of five pods, each pod with an account of its own, and 100 of the sidecars,
which a Go client plays. The weights of a split that all of these route by change again and again:
first while nothing else happens, then while all 5,000 leaves are replaced (a new root), and while
all are missing (a laptop that slept for longer than they last). Bar: p99 within 1.5 of idle.
"""

import argparse
import asyncio
import itertools
import os
import sys
import threading
import time
from typing import Final

from benchmarks.ads import issuing
from benchmarks.ads.programs import ENVOY_EXTENSIONS, Fleet, Program, fleet
from benchmarks.ads.tables import Table, quantiles, run
from benchmarks.measure import Bar
from benchmarks.translation import PODS
from smi_xds.identity.ca import Authority
from smi_xds.identity.issuer import wall_clock
from smi_xds.values import SpiffeId
from tests.support.identity import mk_authority

# Seconds between changes, longer than any hold-off.
_PAUSE: Final = 0.02
_WARM_UP: Final = 10
_SIGNED: Final = 1000
_BAR: Final = 1.5


def main() -> int:
    """Print the tables; 1 if a bar was missed."""
    return run("identities", __doc__, _measured, services=1000, turns=3)


def _measured(given: argparse.Namespace) -> list[Table]:
    return [signing(_SIGNED), asyncio.run(meanwhile(given.services, turns=given.turns))]


# ------------------------------------------------------------------ signatures alone


def signing(count: int) -> Table:
    """Certificates a second, in one thread and in two: does signing let others run?"""
    authority = mk_authority(now=wall_clock())
    rows = tuple(
        (f"{threads} threads", threads * count / _seconds(authority, count, threads))
        for threads in (1, 2)
    )
    return Table(
        title=f"{count:,} certificates signed by each thread ({os.cpu_count()} CPUs)",
        columns=("", "a second"),
        rows=rows,
    )


def _seconds(authority: Authority, count: int, threads: int) -> float:
    def sign() -> None:
        for number in range(count):
            identity = SpiffeId.parse(f"spiffe://cluster.local/ns/shop/sa/account-{number}")
            authority.issue(identity, now=wall_clock())

    workers = [threading.Thread(target=sign) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


# ------------------------------------------------------------------ beside the serving


async def meanwhile(services: int, *, turns: int) -> Table:
    """What others wait for while all identities are issued, and while none is."""
    server = Program("issuing", issuing.PROGRAM)
    try:
        started = server("start", services=services)
        first = await _until_none_is_left(server)
        with fleet(cpus=set()) as clients:
            _connect(clients, started["address"], started["nodes"])
            bench = _Bench(server, clients)
            await bench.warm_up()
            found: dict[str, list[float]] = {"nothing else": [], "rotate": [], "expire": []}
            took: dict[str, list[float]] = {"rotate": [], "expire": []}
            for _ in range(turns):
                for kind in ("rotate", "expire"):
                    samples, seconds = await bench.while_issuing(kind)
                    found[kind] += samples
                    took[kind].append(seconds)
                    print(f"{kind}: {len(samples)} changes, {seconds:.1f} s", file=sys.stderr)
                    found["nothing else"] += await bench.idle(len(samples))
    finally:
        server.end()
    return _table(found, took, identities=services * PODS, first=(started["seconds"], first))


class _Bench:
    def __init__(self, server: Program, clients: Fleet) -> None:
        self._server = server
        self._clients = clients
        self._numbers = itertools.count(1)

    async def warm_up(self) -> None:
        await asyncio.sleep(1)  # the last of what sidecars ask for at first
        await self.idle(_WARM_UP)

    async def idle(self, count: int) -> list[float]:
        return [await self._change() for _ in range(count)]

    async def while_issuing(self, kind: str) -> tuple[list[float], float]:
        """Milliseconds of each change until all is issued, and how many seconds that took."""
        self._server(kind)
        samples = [await self._change()]
        while not (standing := self._server("standing"))["done"]:
            samples.append(await self._change())
        return samples, float(standing["seconds"])

    async def _change(self) -> float:
        """Milliseconds from a change in the store to the last ACK."""
        number = next(self._numbers)
        self._clients("expect", marker=number)
        began = self._server("change", weight=number % 99 + 1)["at"]
        reply = self._clients("wait", within=60.0)
        assert reply["reached"] == issuing.PROBES, reply
        await asyncio.sleep(_PAUSE)
        return float(reply["last_answer"] - began) / 1e6


def _connect(clients: Fleet, address: str, nodes: list[str]) -> None:
    arguments = {"mode": "delta", "follow": True, "extensions": ENVOY_EXTENSIONS, "within": 120}
    opened = clients("open", address=address, nodes=nodes, **arguments)
    assert opened["synced"] == len(nodes), opened


async def _until_none_is_left(server: Program) -> float:
    while not (standing := server("standing"))["done"]:  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.1)
    return float(standing["seconds"])


def _table(
    found: dict[str, list[float]],
    took: dict[str, list[float]],
    *,
    identities: int,
    first: tuple[float, float],
) -> Table:
    idle = quantiles(found["nothing else"])
    names = {"rotate": "all replaced", "expire": "all missing"}
    rows, bars = [("nothing else", 0.0, len(found["nothing else"]), *idle, 1.0)], []
    for kind, seconds in took.items():
        p50, p99, most = quantiles(found[kind])
        mean = sum(seconds) / len(seconds)
        rows.append((names[kind], mean, len(found[kind]), p50, p99, most, p99 / idle[1]))
        name = f"p99 while {names[kind]}, to idle"
        bars.append(Bar(name=name, value=p99 / idle[1], limit=_BAR, unit="x"))
    return Table(
        title=f"one weight to the last ACK of {issuing.PROBES} sidecars, in ms, while "
        f"{identities:,} identities are issued; at the start they took {first[1]:.1f} s, "
        f"and the first round was published after {first[0]:.1f} s",
        columns=("meanwhile", "s", "changes", "p50", "p99", "most", "p99 to idle"),
        rows=tuple(rows),
        bars=tuple(bars),
    )


if __name__ == "__main__":
    sys.exit(main())
