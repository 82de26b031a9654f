"""What stands behind the monitoring port: metrics for Prometheus, liveness, readiness."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from smi_xds.metrics import Counter, Gauge, Histogram, Metric

_TEXT: Final = "text/plain; charset=utf-8"

# Memory, CPU, open files and collections: what every process of an operator's fleet shows.
_PROCESS: Final = (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    body: bytes
    content_type: str = _TEXT


Page: TypeAlias = Callable[[str], Reply]
"""Answers a GET, given its Accept header."""


def monitoring_pages(
    metrics: Sequence[Metric],
    *,
    is_ready: Callable[[], bool],
    clock: Callable[[], float] = time.perf_counter,
) -> Mapping[str, Page]:
    """The pages by path."""
    registry = CollectorRegistry()
    for collector in (_Ours(metrics), *_PROCESS):
        registry.register(collector)
    return {
        "/metrics": _Metrics(registry, clock),
        "/healthz": lambda _accept: Reply(200, b"ok\n"),
        "/readyz": lambda _accept: _readiness(is_ready()),
    }


# Of 2,000 sidecars, a page takes 20 ms of the loop that serves them, and anybody asks who reaches
# the port: this share of the time is spent on pages, after so many seconds at once.
_SHARE: Final = 0.1
_BURST: Final = 1.0


class _Metrics:
    """The page in the format that the asker wants; the last one, where too many are asked for."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._clock = clock
        self._paid_until = float("-inf")
        """When the share of the time will make up for what was spent."""
        self._last: dict[bool, Reply] = {}
        """Of OpenMetrics, and of the other format."""

    def __call__(self, accept: str) -> Reply:
        encode, content_type = choose_encoder(accept)
        is_open, began = content_type.startswith("application/openmetrics"), self._clock()
        last = self._last.get(is_open)
        if last is not None and self._paid_until - began > _BURST / _SHARE:
            return last
        reply = self._last[is_open] = Reply(200, encode(self._registry), content_type)
        spent = self._clock() - began
        self._paid_until = max(self._paid_until, began) + spent / _SHARE
        return reply


def _readiness(is_ready: bool) -> Reply:  # noqa: FBT001 - it is all there is to say
    """Whether proxies may come: there was a first complete picture."""
    if is_ready:
        return Reply(200, b"ready\n")
    return Reply(503, b"not ready: the first sync is under way\n")


class _Ours(Collector):
    """Our metrics in prometheus_client's words, made when they are asked for."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """Each of them, with all its values."""
        return map(_family, self._metrics)


def _family(metric: Metric) -> Family:
    labels = [metric.label] if metric.label else []
    match metric:
        case Counter():
            return _numbers(
                CounterMetricFamily(metric.name, metric.help, labels=labels), metric.values
            )
        case Gauge():
            return _numbers(
                GaugeMetricFamily(metric.name, metric.help, labels=labels), metric.read()
            )
        case Histogram():
            return _histogram(
                metric, HistogramMetricFamily(metric.name, metric.help, labels=labels)
            )


def _numbers(
    family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]
) -> Family:
    for value, number in sorted(values.items()):
        family.add_metric([value] if value else [], number)
    return family


def _histogram(metric: Histogram, family: HistogramMetricFamily) -> Family:
    bounds = [*map(_bound, metric.bounds), "+Inf"]
    for value, tally in sorted(metric.tallies.items()):
        counts: Iterable[float] = accumulate(tally.counts)
        buckets = list(zip(bounds, counts, strict=True))
        family.add_metric([value] if value else [], buckets, tally.total)
    return family


def _bound(number: float) -> str:
    return str(float(number))
