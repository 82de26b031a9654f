"""What a change costs from the store to published bytes, and what the first build costs.

S services of five pods each, all with intercepted sidecars in strict mode; every tenth has a
TrafficTarget for three callers, an HTTPRouteGroup and a TrafficSplit. Sizes are built in processes
of their own, so that memory is theirs. With `--bound` the sidecars are bound: one table of all
services per identity, which is why that mode is for few sidecars.

Bars at S = 1,000: a change under 10 ms, the first build under 3 s and 400 MB.
"""

import argparse
import gc
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from benchmarks.measure import Bar, Report, Row, present
from smi_xds.ads.cache import Cache
from smi_xds.app import garbage
from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import MeshSettings
from smi_xds.objects.kube import (
    EndpointSlice,
    Namespace,
    Pod,
    Service,
    ServiceAccount,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import (
    Backend,
    HTTPMatch,
    HTTPRouteGroup,
    Rule,
    Subject,
    TrafficSplit,
    TrafficTarget,
)
from smi_xds.objects.store import Applied, Origin, Replaced, Store
from smi_xds.xds.resources import ResourceSet
from smi_xds.xds.secrets import Credentials
from smi_xds.xds.translate import Translator, warm_up

PODS = 5
SHARE = 10
"""One service in so many has SMI objects."""

_ORIGIN = Origin("benchmark")
_CREDENTIALS = Credentials(trust_bundle=b"bundle", leaves={})
_ROUNDS = 9


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.translation", description=__doc__)
    parser.add_argument("--services", default="100,1000,5000", help="sizes, with commas between")
    parser.add_argument("--bound", action="store_true", help="bound instead of intercepted")
    parser.add_argument("--json", action="store_true")
    arguments, _ = parser.parse_known_args()
    sidecar = "bound" if arguments.bound else "intercepted"
    sizes = [int(size) for size in arguments.services.split(",")]
    reports = [_in_a_process(size, sidecar) for size in sizes]
    return present([*reports, *_growth(reports)], sys.argv[1:])


def _in_a_process(size: int, sidecar: str) -> Report:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure, (size, sidecar))


def measure(size: int, sidecar: str) -> Report:
    """One size."""
    print(f"S = {size:,} …", file=sys.stderr, flush=True)
    warm_up()
    before = _memory()
    plane, objects = Plane(), tuple(world(size, sidecar))
    # The collector is off until the first round is done, as in `serve`.
    gc.disable()
    took = _timed(lambda: plane.replace(objects))
    memory = _memory() - before
    garbage.settle()
    rows = [Row(name="first build", median_us=took, low_us=took, high_us=took)]
    changed: dict[str, int] = {}
    for name, changes in CHANGES.items():
        row, changed[name] = _measure_changes(plane, name, changes(size))
        rows.append(row)
    bars: tuple[Bar, ...] = ()
    if size == 1000 and sidecar == "intercepted":
        bars = (
            *(Bar(name=r.name, value=r.median_us / 1e3, limit=10, unit="ms") for r in rows[1:]),
            Bar(name="first build", value=took / 1e6, limit=3, unit="s"),
            Bar(name="memory", value=memory, limit=400, unit="MB"),
        )
    return Report(
        name=f"{size:,} services, {size * PODS:,} {sidecar} sidecars",
        rows=tuple(rows),
        bars=bars,
        notes=(
            f"memory: {memory:.0f} MB more than before the first build",
            "proxies with another set, by change: " + json.dumps(changed),
        ),
    )


def _measure_changes(plane: "Plane", name: str, changes: Iterator[MeshObject]) -> tuple[Row, int]:
    plane.apply(next(changes))  # what the first of its kind compiles is not its cost
    taken, sets = [], 0
    for _ in range(_ROUNDS):
        change, before = next(changes), plane.sets
        taken.append(_timed(partial(plane.apply, change)))
        sets = sum(it is not before.get(node) for node, it in plane.sets.items())
    low, median, high = statistics.quantiles(taken, n=4)
    return Row(name=name, median_us=median, low_us=low, high_us=high), sets


def _growth(reports: list[Report]) -> list[Report]:
    """How costs grow from 1,000 services to 5,000."""
    by_size = {report.name.split()[0]: report for report in reports}
    small, large = by_size.get("1,000"), by_size.get("5,000")
    if small is None or large is None:
        return []
    ratios = [f"{row.name}: x {large.median(row.name) / row.median_us:.1f}" for row in small.rows]
    return [Report(name="growth from 1,000 to 5,000 services", rows=(), notes=tuple(ratios))]


class Plane:
    """The control plane from the store to the cache."""

    def __init__(self) -> None:
        self.sets: Mapping[str, ResourceSet] = {}
        self._store = Store([_ORIGIN.source])
        self._build = MeshBuilder(MeshSettings())
        self._translate = Translator()
        self._cache = Cache()

    def replace(self, objects: tuple[MeshObject, ...]) -> None:
        """The first round."""
        self._store.apply(_ORIGIN, Replaced(objects))
        self._publish()

    def apply(self, changed: MeshObject) -> None:
        """One event, to published bytes."""
        self._store.apply(_ORIGIN, Applied(changed))
        self._publish()

    def _publish(self) -> None:
        mesh = self._build(self._store.objects())
        self.sets = self._translate(mesh, credentials=_CREDENTIALS)
        self._cache.publish(self.sets)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e6 * (time.perf_counter() - start)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ------------------------------------------------------------------ the world


def world(size: int, sidecar: str) -> Iterator[MeshObject]:
    """All objects of a mesh of `size` services."""
    for number in range(10):
        yield Namespace(name=f"ns{number}", annotations=(("smi-xds.io/sidecar", sidecar),))
    for index in range(size):
        namespace, name = _names(index)
        yield ServiceAccount(namespace=namespace, name=name)
        yield Service(
            namespace=namespace,
            name=name,
            cluster_ips=(f"172.{16 + (index >> 16)}.{index >> 8 & 255}.{index & 255}",),
            selector=frozenset({("app", name)}),
            ports=(ServicePort(port=80, name="http", target_port=8080),),
        )
        yield from (_pod(index, pod) for pod in range(PODS))
        yield _slice(index, PODS)
        if index % SHARE == 0:
            match = HTTPMatch(name="api", path_regex="/api", methods=("GET",))
            yield HTTPRouteGroup(namespace=namespace, name=name, matches=(match,))
            yield _target(index, size, callers=3)
            yield _split(index, size, weight=50)


def _names(index: int) -> tuple[str, str]:
    return f"ns{index % 10}", f"svc{index}"


def _address(index: int, pod: int) -> str:
    return f"10.{index >> 8}.{index & 255}.{pod + 1}"


def _pod(index: int, pod: int) -> Pod:
    namespace, name = _names(index)
    return Pod(
        namespace=namespace,
        name=f"{name}-{pod}",
        service_account=name,
        ips=(_address(index, pod),),
        labels=frozenset({("app", name)}),
        ready=True,
    )


def _slice(index: int, pods: int) -> EndpointSlice:
    namespace, name = _names(index)
    return EndpointSlice(
        namespace=namespace,
        name=f"{name}-1",
        service=name,
        ports=(SlicePort(port=8080, name="http"),),
        endpoints=tuple(
            SliceEndpoint(addresses=(_address(index, pod),), pod=f"{name}-{pod}")
            for pod in range(pods)
        ),
    )


def _target(index: int, size: int, *, callers: int) -> TrafficTarget:
    namespace, name = _names(index)
    sources = (_names((index + 10 * caller + 1) % size) for caller in range(callers))
    return TrafficTarget(
        namespace=namespace,
        name=name,
        destination=Subject(kind="ServiceAccount", name=name, namespace=namespace),
        rules=(Rule(kind="HTTPRouteGroup", name=name),),
        sources=tuple(Subject(kind="ServiceAccount", name=n, namespace=ns) for ns, n in sources),
    )


def _split(index: int, size: int, *, weight: int) -> TrafficSplit:
    namespace, name = _names(index)
    _, other = _names((index + SHARE) % size)
    return TrafficSplit(
        namespace=namespace,
        name=name,
        service=name,
        backends=(
            Backend(service=name, weight=Decimal(weight)),
            Backend(service=other, weight=Decimal(100 - weight)),
        ),
    )


def _weights(size: int) -> Iterator[MeshObject]:
    return (_split(0, size, weight=weight) for weight in range(1, 100))


def _pods(_: int) -> Iterator[MeshObject]:
    return (_slice(0, PODS - 1 if number % 2 else PODS) for number in range(1, 100))


def _pods_ready(_: int) -> Iterator[MeshObject]:
    return (replace(_pod(0, 0), ready=bool(number % 2)) for number in range(100))


def _targets(size: int) -> Iterator[MeshObject]:
    return (_target(0, size, callers=3 + number % 2) for number in range(1, 100))


CHANGES: Mapping[str, Callable[[int], Iterator[Any]]] = {
    "one weight": _weights,
    "one endpoint": _pods,
    "one pod's readiness": _pods_ready,
    "one TrafficTarget": _targets,
}
"""Endless enough: each yields another state of one object."""


if __name__ == "__main__":
    sys.exit(main())
