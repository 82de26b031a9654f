"""Our xDS server beside go-control-plane, and above the floor that gRPC itself costs.

`python -m benchmarks.streams [TRIAL...] [--n 100,1000] [--mode sotw,delta] [--pin] [--json]`

Three servers hold the same resources: ours; `peer`, on go-control-plane with ordered ADS and one
shared snapshot per change; `floor`, bare grpc-go that sends ready bytes and knows no protocol. The
same Go client plays the proxies. Trials: push, big, storm, churn, stall, idle, refuse.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.ads import trials
from benchmarks.ads.programs import ENVOY_EXTENSIONS, MODES, SERVERS, raise_file_limit
from benchmarks.ads.tables import Table, Value, as_json, show
from benchmarks.ads.trials import Plan, Pushes
from benchmarks.measure import Bar, machine

# At these sizes ours must not be slower than the peer, and must take 0.4 of its memory.
_BARS_AT: Final = (1000, 2000)
_MEMORY_BAR: Final = 0.4
# Clients that never read may cost the others this much.
_STALL_BAR: Final = 1.1
# A proxy that has everything is sent empty answers only.
_RESUME_BAR: Final = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for."""

    plan: Plan
    sizes: tuple[int, ...]
    modes: tuple[str, ...]
    n: int
    """Where a trial needs one size."""
    seconds: float


# ------------------------------------------------------------------ trials


def push(options: Options, *, route_bytes: int = trials.ROUTE_BYTES) -> Iterator[Table]:
    """One route configuration changes for every proxy."""
    for mode in options.modes:
        for n in options.sizes:
            results = trials.push(options.plan, n=n, mode=mode, route_bytes=route_bytes)
            rows = tuple(_push_row(name, result, results) for name, result in results.items())
            yield Table(
                title=f"push: {route_bytes:,} bytes to each of {n:,} proxies, {mode}",
                columns=_PUSH_COLUMNS,
                rows=rows,
                bars=tuple(_push_bars(results, n=n, mode=mode)) if n in _BARS_AT else (),
            )


_PUSH_COLUMNS: Final = (
    "server",
    "ms to last ACK",
    "low",
    "high",
    "ms to last receipt",
    "ms publishing",
    "us CPU a push",
    "client's",
    "kB a proxy",
    "after all",
    "s to connect",
    "x ACK",
    "x CPU",
    "x memory",
)


def _push_row(
    name: str, result: trials.Pushed, results: Mapping[str, trials.Pushed]
) -> tuple[Value, ...]:
    taken = result.pushes
    low, median, high = _quartiles(taken.to_last_answer)
    return (
        name,
        median * 1e3,
        low * 1e3,
        high * 1e3,
        statistics.median(taken.to_last_receipt) * 1e3,
        statistics.median(taken.publishing) * 1e3,
        statistics.mean(taken.cpu) * 1e6,
        statistics.mean(taken.client_cpu) * 1e6,
        result.memory / 1e3,
        result.memory_after / 1e3,
        result.connected,
        *_push_ratios(result, results.get("peer")),
    )


def _push_ratios(one: trials.Pushed, peer: trials.Pushed | None) -> tuple[float, float, float]:
    if peer is None:
        return (float("nan"),) * 3
    return (
        _median_ratio(one.pushes, peer.pushes),
        statistics.mean(one.pushes.cpu) / statistics.mean(peer.pushes.cpu),
        one.memory / peer.memory,
    )


def _push_bars(results: Mapping[str, trials.Pushed], *, n: int, mode: str) -> Iterator[Bar]:
    if "ours" not in results or "peer" not in results:
        return
    answered, cpu, memory = _push_ratios(results["ours"], results["peer"])
    for what, ratio, limit in (
        ("time to last ACK", answered, 1.0),
        ("CPU a push", cpu, 1.0),
        ("memory a synced proxy", memory, _MEMORY_BAR),
    ):
        yield Bar(name=f"{what}, {mode}, N = {n:,}", value=ratio, limit=limit, unit="of the peer's")


def big(options: Options) -> Iterator[Table]:
    """Half a megabyte for every proxy."""
    for table in push(options, route_bytes=trials.BIG_ROUTE_BYTES):
        yield Table(title=f"big {table.title}", columns=table.columns, rows=table.rows)


def storm(options: Options) -> Iterator[Table]:
    """Every proxy connects at once."""
    for mode in options.modes:
        for resume in (False, True) if mode == "delta" else (False,):
            if resume:
                plan = _without_floor(options.plan)
                how = "with what they have"
            else:
                plan, how = options.plan, "with nothing"
            results = trials.storm(plan, n=options.n, mode=mode, resume=resume)
            bars = [
                Bar(name="bytes to a resumed proxy", value=max(r.bytes), limit=_RESUME_BAR, unit="")
                for name, r in results.items()
                if resume and name == "ours"
            ]
            yield Table(
                title=f"storm: {options.n:,} proxies connect at once {how}, {mode}",
                columns=(
                    "server",
                    "s until all synced",
                    "worst",
                    "us CPU a proxy",
                    "bytes",
                    "failures",
                ),
                rows=tuple(
                    (
                        name,
                        statistics.median(result.seconds),
                        max(result.seconds),
                        statistics.mean(result.cpu) * 1e6,
                        statistics.mean(result.bytes),
                        result.failures,
                    )
                    for name, result in results.items()
                ),
                bars=tuple(bars),
            )


def churn(options: Options) -> Iterator[Table]:
    """Endpoints change many times a second; the floor knows no latest value."""
    for mode in options.modes:
        for rate in (50.0, 500.0):
            results = trials.churn(
                _without_floor(options.plan),
                n=options.n,
                mode=mode,
                rate=rate,
                seconds=options.seconds,
            )
            title = f"churn: {rate:g} endpoint updates a second, {options.seconds:g} s"
            yield Table(
                title=f"{title}, {options.n:,} proxies, {mode}",
                columns=(
                    "server",
                    "ms stale p50",
                    "p99",
                    "worst",
                    "never seen",
                    "updates",
                    "published",
                    "responses a proxy",
                    "kB a proxy",
                    "CPUs",
                ),
                rows=tuple(
                    (
                        name,
                        result.p50,
                        result.p99,
                        result.worst,
                        result.missing,
                        result.updates,
                        result.published,
                        result.responses,
                        result.bytes / 1e3,
                        result.cpus,
                    )
                    for name, result in results.items()
                ),
            )


def stall(options: Options) -> Iterator[Table]:
    """A tenth of the clients never reads."""
    for mode in options.modes:
        for size, n in ((trials.ROUTE_BYTES, options.n), (trials.BIG_ROUTE_BYTES, options.n // 5)):
            results = trials.stall(
                _without_floor(options.plan), n=n, mode=mode, fraction=0.1, route_bytes=size
            )
            what = f"{size:,} bytes to {n:,} proxies of which 10 % never read, {mode}"
            yield Table(
                title=f"stall: {what}",
                columns=("server", "ms to last ACK before", "during", "x", "x CPU a push"),
                rows=tuple(
                    (
                        name,
                        statistics.median(result.before.to_last_answer) * 1e3,
                        statistics.median(result.during.to_last_answer) * 1e3,
                        _median_ratio(result.during, result.before),
                        statistics.mean(result.during.cpu) / statistics.mean(result.before.cpu),
                    )
                    for name, result in results.items()
                ),
                bars=tuple(
                    Bar(
                        name=f"others' time to last ACK, {what}",
                        value=_median_ratio(result.during, result.before),
                        limit=_STALL_BAR,
                        unit="of that without",
                    )
                    for name, result in results.items()
                    if name == "ours"
                ),
            )


def idle(options: Options) -> Iterator[Table]:
    """Memory that one more stream takes."""
    steps = 4
    step = max(1, options.n // steps)
    rows = []
    for asks in (False, True):
        results = trials.idle(options.plan, step=step, steps=steps, asks=asks)
        for name, memory in results.items():
            slope = statistics.linear_regression([step * i for i in range(steps + 1)], memory).slope
            what = "synced" if asks else "asks for nothing"
            rows.append((name, what, slope / 1e3, memory[0] / 1e6, memory[-1] / 1e6))
    yield Table(
        title=f"idle: memory over 0 to {step * steps:,} streams, delta",
        columns=("server", "a stream", "kB a stream", "MB at first", "at last"),
        rows=tuple(rows),
    )


def refuse(options: Options) -> Iterator[Table]:
    """Every proxy refuses a change."""
    for mode in options.modes:
        results = trials.refuse(_without_floor(options.plan), n=options.n, mode=mode)
        yield Table(
            title=f"refuse: all of {options.n:,} proxies refuse a change, {mode}",
            columns=("server", "ms to last NACK", "responses a proxy", "us CPU", "ms to heal"),
            rows=tuple(
                (
                    name,
                    result.seconds * 1e3,
                    result.responses,
                    result.cpu * 1e6,
                    result.healed * 1e3,
                )
                for name, result in results.items()
            ),
            bars=tuple(
                Bar(
                    name=f"responses per refusal, {mode}",
                    value=result.responses,
                    limit=1.01,
                    unit="",
                )
                for name, result in results.items()
                if name == "ours"
            ),
        )


TRIALS: Final[Mapping[str, Callable[[Options], Iterator[Table]]]] = {
    "push": push,
    "big": big,
    "storm": storm,
    "churn": churn,
    "stall": stall,
    "idle": idle,
    "refuse": refuse,
}


def _without_floor(plan: Plan) -> Plan:
    """For what a server that knows no protocol cannot do."""
    servers = tuple(kind for kind in plan.servers if kind != "floor")
    return Plan(servers=servers, changes=plan.changes, pin=plan.pin, extensions=plan.extensions)


def _quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    if len(samples) == 1:
        return (samples[0],) * 3
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, median, high


def _median_ratio(one: Pushes, other: Pushes) -> float:
    return statistics.median(one.to_last_answer) / statistics.median(other.to_last_answer)


# ------------------------------------------------------------------ command line


def main() -> int:
    """Measure and print; 1 if a bar was missed."""
    arguments = _parse(sys.argv[1:])
    files = raise_file_limit()
    if files < max(arguments.n) + 100:
        print(f"at most {files} open files: ulimit -n", file=sys.stderr)
        return 1
    plan = Plan(
        servers=arguments.servers,
        changes=arguments.changes,
        pin=arguments.pin,
        extensions=arguments.extensions,
    )
    options = Options(
        plan=plan,
        sizes=arguments.n,
        modes=arguments.mode,
        n=arguments.one,
        seconds=arguments.seconds,
    )
    tables: list[Table] = []
    if not arguments.json:
        print(_circumstances(plan))
    for name in arguments.trials or TRIALS:
        for table in TRIALS[name](options):
            tables.append(table)
            if not arguments.json:
                show(table)
    if arguments.json:
        print(json.dumps(_as_json(tables, plan), indent=2))
    return 0 if all(bar.reached for table in tables for bar in table.bars) else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    words = lambda text: tuple(text.split(","))  # noqa: E731 - a type, as argparse calls it
    numbers = lambda text: tuple(int(word) for word in text.split(","))  # noqa: E731 - the same
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("trials", nargs="*", choices=[[], *TRIALS], help="default: all")
    parser.add_argument("--n", type=numbers, default=(100, 500, 1000, 2000, 5000), help="for push")
    parser.add_argument("--one", type=int, default=2000, help="proxies in the other trials")
    parser.add_argument("--mode", type=words, default=MODES, help="sotw,delta")
    parser.add_argument("--servers", type=words, default=SERVERS, help="ours,peer,floor")
    parser.add_argument("--changes", type=int, default=15, help="samples of each push")
    parser.add_argument("--seconds", type=float, default=60.0, help="of churn")
    parser.add_argument("--pin", action="store_true", help="servers on CPU 0, clients on CPU 1")
    parser.add_argument(
        "--extensions",
        type=int,
        default=ENVOY_EXTENSIONS,
        help="that a proxy's first request lists (Envoy: all it has, 61 kB)",
    )
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def _circumstances(plan: Plan) -> str:
    where = "servers on CPU 0, clients on CPU 1" if plan.pin else "not pinned"
    return f"{machine()}; {where}; first requests list {plan.extensions} extensions"


def _as_json(tables: Sequence[Table], plan: Plan) -> object:
    return {
        "machine": _circumstances(plan),
        "tables": [as_json(table) for table in tables],
        "bars": [{**asdict(b), "reached": b.reached} for t in tables for b in t.bars],
    }


if __name__ == "__main__":
    sys.exit(main())
