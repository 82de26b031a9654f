"""Proxies come, are told of changes, and go, for a long time: memory, descriptors and tasks stay.

`python -m benchmarks.soak [--minutes 20] [--n 300]`

Exits with 1 where one of them grows. A sample is taken at most every ten seconds, always with all
proxies connected; the first quarter, in which pools and memos fill, does not count.
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.ads.programs import MODES, raise_file_limit
from benchmarks.ads.trials import Pair, Plan, pairs

_EVERY_S: Final = 10.0
_CHANGES: Final = 10  # in the life of a fleet
# An allocator's heap breathes by this much from sample to sample (measured: 1 to 2 %).
_BREATH: Final = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    seconds: float
    memory: float
    descriptors: float
    tasks: float


def soak(pair: Pair, *, n: int, seconds: float) -> list[Sample]:
    """Let fleets of both dialects come and go."""
    begin, samples = time.monotonic(), list[Sample]()
    for turn in itertools.count():
        pair.open(n, mode=MODES[turn % 2], resume=turn % 4 > 1)
        for _ in range(_CHANGES):
            pair.change()
        now = time.monotonic() - begin
        if not samples or now - samples[-1].seconds >= _EVERY_S:
            samples.append(_sample(pair, now))
            print(samples[-1], flush=True)
        pair.close()
        if now >= seconds:
            return samples
    raise AssertionError


def _sample(pair: Pair, now: float) -> Sample:
    server = pair.server
    return Sample(now, server.memory, server.descriptors, float(server("tasks")["tasks"]))


def growth(times: Sequence[float], values: Sequence[float]) -> float:
    """What the fitted line gains over the whole time, as a part of the mean."""
    slope = statistics.linear_regression(times, values).slope
    return slope * (times[-1] - times[0]) / statistics.mean(values)


def main() -> None:
    """Soak, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--n", type=int, default=300)
    options = parser.parse_args()
    raise_file_limit()
    with pairs(Plan(servers=("ours",)), n=options.n) as (pair,):
        samples = soak(pair, n=options.n, seconds=options.minutes * 60)
    counted = samples[len(samples) // 4 :]
    if len(counted) < 3:
        sys.exit("too short to judge: three samples after the first quarter are needed")
    times = [sample.seconds for sample in counted]
    steady = True
    for name in ("memory", "descriptors", "tasks"):
        values = [getattr(sample, name) for sample in counted]
        gained = growth(times, values)
        steady = steady and gained <= _BREATH
        print(f"{name}: {values[0]:,.0f} to {values[-1]:,.0f}, slope {gained:+.1%} in all")
    sys.exit(0 if steady else 1)


if __name__ == "__main__":
    main()
