"""The trials of the stream benchmark: what is done to servers, and what is measured meanwhile.

Servers that are compared run at the same time, each with its own clients, and take turns: at any
moment all but one are idle, and whatever else the machine does hits all of them alike.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.ads.programs import ENVOY_EXTENSIONS, Fleet, ProgramError, Server, fleet, server
from benchmarks.ads.resources import build, write

ROUTE_BYTES: Final = 5_000
BIG_ROUTE_BYTES: Final = 500_000

# The first changes meet cold code and growing heaps.
_WARM_UP: Final = 2

# A server has calmed down if it uses less than this share of one CPU between two looks.
_LOOK_S: Final = 0.02
_CALM: Final = 0.05
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all trials of a run have in common."""

    servers: tuple[str, ...]
    changes: int = 15
    pin: bool = False
    extensions: int = ENVOY_EXTENSIONS

    @property
    def server_cpus(self) -> set[int]:
        """Where servers run; empty: anywhere."""
        return {0} if self.pin else set()

    @property
    def client_cpus(self) -> set[int]:
        """Where clients run."""
        return {1} if self.pin else set()


@dataclass(slots=True)
class Pushes:
    """What changes cost one server: a sample each, in seconds."""

    to_last_receipt: list[float] = field(default_factory=list)
    to_last_answer: list[float] = field(default_factory=list)
    publishing: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Per proxy."""
    client_cpu: list[float] = field(default_factory=list)
    """Per proxy."""


class Pair:
    """A server and its proxies."""

    def __init__(self, server: Server, fleet: Fleet, plan: Plan) -> None:
        self.server = server
        self.fleet = fleet
        self.size = 0
        self._plan = plan
        self._numbers = count(1)

    @property
    def name(self) -> str:
        """The server's."""
        return self.server.name

    def open(self, n: int, *, mode: str, **how: object) -> Mapping[str, float]:
        """Connect that many proxies and wait until all are synced."""
        settings = {"extensions": self._plan.extensions, **how}
        reply = self.fleet.open(self.server, n, mode=mode, **settings)
        if reply["synced"] != n:
            raise ProgramError(f"{self.name}: {reply['synced']} of {n} are synced: {reply}")
        self.size = n
        return reply

    def close(self) -> None:
        """Let all proxies leave, and the server notice."""
        self.fleet("close")
        calm(self.server)

    def change(self, *, silent: int = 0) -> tuple[int, Mapping[str, float]]:
        """Change the routes; when that was published, and what the clients saw of it.

        `silent` is how many proxies do not read.
        """
        number = next(self._numbers)
        self.server("prepare", marker=number)
        self.fleet("expect", marker=number)
        pushed = self.server("push")
        seen = self.fleet("wait", within=60)
        if seen["reached"] != self.size - silent:
            raise ProgramError(f"{self.name}: {seen['reached']} of {self.size} have the change")
        return pushed["at"], {**seen, "done": pushed["done"]}

    def measure(self, into: Pushes, *, silent: int = 0) -> None:
        """Take one sample of a change."""
        cpu, client_cpu = self.server.cpu, self.fleet.cpu
        at, seen = self.change(silent=silent)
        calm(self.server)
        readers = self.size - silent
        into.to_last_receipt.append((seen["last_receipt"] - at) / 1e9)
        into.to_last_answer.append((seen["last_answer"] - at) / 1e9)
        into.publishing.append((seen["done"] - at) / 1e9)
        into.cpu.append((self.server.cpu - cpu) / readers)
        into.client_cpu.append((self.fleet.cpu - client_cpu) / readers)


def calm(server: Server) -> None:
    """Wait until a server has nothing to do."""
    end = time.monotonic() + _PATIENCE_S
    before, at = server.cpu, time.monotonic()
    while time.monotonic() < end:
        pause(_LOOK_S)
        after, now = server.cpu, time.monotonic()
        if after - before < _CALM * (now - at):
            return
        before, at = after, now


def pause(seconds: float) -> None:
    """Let that much time pass."""
    time.sleep(seconds)  # noqa: TID251 - between two looks, or because time itself is measured


@contextmanager
def pairs(plan: Plan, *, n: int, route_bytes: int = ROUTE_BYTES) -> Iterator[Sequence[Pair]]:
    """Every server of the plan, each with a fleet that is not yet connected."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "resources.json"
        write(build(route_bytes=route_bytes), path)
        made = [
            Pair(
                stack.enter_context(server(kind, path, nodes=n, cpus=plan.server_cpus)),
                stack.enter_context(fleet(cpus=plan.client_cpus)),
                plan,
            )
            for kind in plan.servers
        ]
        yield made
        for pair in made:
            pair.close()


# ------------------------------------------------------------------ pushes


@dataclass(slots=True)
class Pushed:
    """What one server took."""

    pushes: Pushes = field(default_factory=Pushes)
    connected: float = 0.0
    """Seconds until all proxies were synced."""
    memory: float = 0.0
    """Bytes per synced proxy."""
    memory_after: float = 0.0
    """Bytes per proxy after all changes."""


def push(plan: Plan, *, n: int, mode: str, route_bytes: int = ROUTE_BYTES) -> Mapping[str, Pushed]:
    """One route configuration changes for all, again and again."""
    results = {kind: Pushed() for kind in plan.servers}
    with pairs(plan, n=n, route_bytes=route_bytes) as all_pairs:
        empty = {pair.name: pair.server.memory for pair in all_pairs}
        for pair in all_pairs:
            result = results[pair.name]
            result.connected = pair.open(n, mode=mode)["seconds"]
            calm(pair.server)
            result.memory = (pair.server.memory - empty[pair.name]) / n
        for _ in range(_WARM_UP):
            for pair in all_pairs:
                pair.measure(Pushes())
        for turn in range(plan.changes):
            for pair in _from(all_pairs, turn):
                pair.measure(results[pair.name].pushes)
        for pair in all_pairs:
            grown = pair.server.memory - empty[pair.name]
            results[pair.name].memory_after = grown / n
    return results


def _from(all_pairs: Sequence[Pair], turn: int) -> Sequence[Pair]:
    """In turns that begin with another one each time."""
    first = turn % len(all_pairs)
    return [*all_pairs[first:], *all_pairs[:first]]


@dataclass(slots=True)
class Stalled:
    """What some clients that never read cost the others."""

    before: Pushes = field(default_factory=Pushes)
    during: Pushes = field(default_factory=Pushes)


def stall(
    plan: Plan, *, n: int, mode: str, fraction: float, route_bytes: int = ROUTE_BYTES
) -> Mapping[str, Stalled]:
    """Push as before, then with a part of the clients that never read."""
    results = {kind: Stalled() for kind in plan.servers}
    with pairs(plan, n=n, route_bytes=route_bytes) as all_pairs:
        for pair in all_pairs:
            pair.open(n, mode=mode)
            for _ in range(_WARM_UP):
                pair.change()
        for turn in range(plan.changes):
            for pair in _from(all_pairs, turn):
                pair.measure(results[pair.name].before)
        for pair in all_pairs:
            silent = int(pair.fleet("stall", fraction=fraction)["stalled"])
            for _ in range(_WARM_UP):
                pair.change(silent=silent)
            for _ in range(plan.changes):
                pair.measure(results[pair.name].during, silent=silent)
    return results


# ------------------------------------------------------------------ storms


@dataclass(slots=True)
class Storm:
    """What it took one server that all proxies connected at once; a sample each."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Per proxy."""
    bytes: list[float] = field(default_factory=list)
    """Sent per proxy."""
    failures: int = 0


def storm(plan: Plan, *, n: int, mode: str, resume: bool, rounds: int = 3) -> Mapping[str, Storm]:
    """All proxies connect at once; with `resume` they say what they have already."""
    results = {kind: Storm() for kind in plan.servers}
    with pairs(plan, n=n) as all_pairs:
        for pair in all_pairs:
            pair.open(n, mode=mode)
            pair.close()
        for turn in range(rounds):
            for pair in _from(all_pairs, turn):
                result = results[pair.name]
                cpu = pair.server.cpu
                seen = pair.open(n, mode=mode, resume=resume)
                calm(pair.server)
                result.seconds.append(seen["seconds"])
                result.cpu.append((pair.server.cpu - cpu) / n)
                result.bytes.append(pair.fleet("counts")["bytes"] / n)
                pair.change()  # all of them are really subscribed
                result.failures += int(pair.fleet("counts")["failures"])
                pair.close()
    return results


# ------------------------------------------------------------------ churn


@dataclass(frozen=True, slots=True, kw_only=True)
class Churn:
    """What one server made of a stream of changes; staleness in milliseconds."""

    updates: int
    published: int
    p50: float
    p99: float
    worst: float
    missing: int
    responses: float
    """Per proxy."""
    bytes: float
    """Per proxy."""
    cpus: float
    """Of the server, on average."""


def churn(plan: Plan, *, n: int, mode: str, rate: float, seconds: float) -> Mapping[str, Churn]:
    """Endpoints change at a rate, on one server after the other."""
    with pairs(plan, n=n) as all_pairs:
        return {
            pair.name: _churn(pair, n=n, mode=mode, rate=rate, seconds=seconds)
            for pair in all_pairs
        }


def _churn(pair: Pair, *, n: int, mode: str, rate: float, seconds: float) -> Churn:
    pair.open(n, mode=mode)
    calm(pair.server)
    first = 1
    pair.fleet("record", on=True)
    pair.fleet("expect", marker=first + int(rate * seconds) - 1)
    cpu, sent = pair.server.cpu, pair.fleet("counts")["bytes"]
    pair.server.send("churn", rate=rate, seconds=seconds, marker=first)
    made = pair.server.receive(timeout=4 * seconds + 60)
    pair.fleet("wait", within=60)
    calm(pair.server)
    spent = pair.server.cpu - cpu
    grown = pair.fleet("counts")["bytes"] - sent
    stale = pair.fleet(
        "staleness",
        start=made["start"],
        interval=made["interval"],
        count=made["count"],
        marker=first,
    )
    pair.close()
    return Churn(
        updates=made["count"],
        published=made["published"],
        p50=stale.get("p50", float("nan")),
        p99=stale.get("p99", float("nan")),
        worst=stale.get("max", float("nan")),
        missing=stale["missing"],
        responses=stale["receipts"] / n,
        bytes=grown / n,
        cpus=spent / seconds,
    )


# ------------------------------------------------------------------ idle and refusing proxies


def idle(plan: Plan, *, step: int, steps: int, asks: bool) -> Mapping[str, Sequence[float]]:
    """Memory of each server, in bytes, at every `step` of proxies more.

    They are synced, or only say who they are and ask for nothing.
    """
    results: dict[str, list[float]] = {kind: [] for kind in plan.servers}
    with pairs(plan, n=step * steps) as all_pairs:
        for pair in all_pairs:
            results[pair.name].append(pair.server.memory)
            with ExitStack() as stack:
                for number in range(steps):
                    more = stack.enter_context(fleet(cpus=plan.client_cpus))
                    joined = Pair(pair.server, more, plan)
                    joined.open(step, mode="delta", offset=number * step, idle=not asks)
                    calm(pair.server)
                    results[pair.name].append(pair.server.memory)
                    stack.callback(joined.close)
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What a change that everybody refuses makes of one server."""

    seconds: float
    """Until the last refusal."""
    responses: float
    """Per proxy, until some seconds later: more than one is a loop."""
    cpu: float
    """Per proxy, in these seconds."""
    healed: float
    """Seconds that the next good change took."""


def refuse(plan: Plan, *, n: int, mode: str, watch: float = 3.0) -> Mapping[str, Refused]:
    """A change that every proxy refuses, then a good one."""
    results: dict[str, Refused] = {}
    with pairs(plan, n=n) as all_pairs:
        for pair in all_pairs:
            pair.open(n, mode=mode)
            for _ in range(_WARM_UP):
                pair.change()
            before = pair.fleet("counts")["responses"]["routes"]
            pair.fleet("nack", on=True)
            cpu = pair.server.cpu
            at, seen = pair.change()
            pause(watch)
            cpu = pair.server.cpu - cpu
            responses = pair.fleet("counts")["responses"]["routes"] - before
            pair.fleet("nack", on=False)
            good_at, good = pair.change()
            results[pair.name] = Refused(
                seconds=(seen["last_answer"] - at) / 1e9,
                responses=responses / n,
                cpu=cpu / n,
                healed=(good["last_answer"] - good_at) / 1e9,
            )
    return results
