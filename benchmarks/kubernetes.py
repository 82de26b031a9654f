"""How long a user of `serve --kubernetes` waits: from a patch to the last Envoy.

With a real API server and the demo's five Envoys, in a network namespace of their own. With
`--others 95` there are as many more sidecars, which a Go client plays: a hundred in all.
"""

import argparse
import asyncio
import json
import ssl
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from benchmarks.ads.programs import ENVOY_EXTENSIONS, Fleet, fleet
from benchmarks.cluster.loader import at_once
from benchmarks.cluster.loader import session as cluster_session
from benchmarks.measure import Bar, Report, Row, present
from smi_xds import app
from smi_xds.config import KubernetesConfig, LogConfig, LogLevel, parse_serve
from smi_xds.demo.story import BUYER, MEMBERS
from tests.kube.api import NODE
from tests.kube.binary import kube_binary
from tests.kube.cluster import ADMIN_TOKEN, KubeCluster
from tests.kube.netns import run_in_netns
from tests.kube.plugin import CRDS
from tests.support.live_kube import XDS_ADDRESS, apply_story, envoy_of, weights

_CHANGES = 60
# Seconds between changes, longer than any hold-off: a user's change comes alone.
_PAUSE = 0.1
_SPLIT = "/apis/split.smi-spec.io/v1alpha4/namespaces/bookstore/trafficsplits/bookstore"


def main() -> int:
    """Print the report; 1 if a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kubernetes", description=__doc__)
    parser.add_argument("--others", type=int, default=0)
    arguments, _ = parser.parse_known_args()
    kube_binary()  # may take minutes, once
    with tempfile.TemporaryDirectory(prefix="smi-xds-bench-") as folder:
        report = run_in_netns("benchmarks.kubernetes:measure", Path(folder), arguments.others)
    assert isinstance(report, Report)
    return present([report], sys.argv[1:])


async def measure(folder: Path, others: int = 0) -> Report:
    """Weights change back and forth by a patch; five Envoys, no traffic."""
    with KubeCluster() as kube:
        kube.apply_crds(CRDS)
        await apply_story(kube)
        nodes = await _make_others(kube, others)
        config = parse_serve(
            kubernetes=KubernetesConfig(kubeconfig=str(kube.kubeconfig)),
            xds_address=XDS_ADDRESS,
            state_folder=folder / "state",
            log=LogConfig(level=LogLevel.ERROR),
        )
        app.configure_logging(config.log)
        async with AsyncExitStack() as stack:
            plane = await stack.enter_async_context(app.running(config))
            for member in MEMBERS:
                await stack.enter_async_context(envoy_of(member.name, folder))
            if nodes:
                clients = stack.enter_context(fleet(cpus=set()))
                await asyncio.to_thread(_connect, clients, nodes)
            await plane.converged([*(str(member.proxy) for member in MEMBERS), *nodes])
            session = await stack.enter_async_context(_session(kube))
            taken = [await _change(plane, session, number) for number in range(_CHANGES)]
    return _report(taken, others=others)


async def _make_others(kube: KubeCluster, count: int) -> list[str]:
    """Callers like the buyer, with the same rights; their node ids."""
    [buyer] = [member.proxy.namespace for member in MEMBERS if member.name == BUYER]

    async def make(number: int) -> None:
        await api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"namespace": buyer, "name": f"other-{number}"},
                "spec": {
                    "nodeName": NODE,
                    "serviceAccountName": buyer,
                    "containers": [{"name": "app", "image": "example.test/app"}],
                },
            }
        )
        status = {"phase": "Running", "podIP": f"10.244.1.{number}"}
        ready = [{"type": "Ready", "status": "True"}]
        await api.patch(
            f"/api/v1/namespaces/{buyer}/pods/other-{number}/status",
            {"status": {**status, "podIPs": [{"ip": status["podIP"]}], "conditions": ready}},
        )

    async with cluster_session(kube) as api:
        await at_once(range(1, count + 1), make)
    return [f"{buyer}/other-{number}" for number in range(1, count + 1)]


def _connect(clients: Fleet, nodes: list[str]) -> None:
    arguments = {"mode": "delta", "follow": True, "extensions": ENVOY_EXTENSIONS, "within": 120}
    opened = clients("open", address=XDS_ADDRESS, nodes=nodes, **arguments)
    assert opened["synced"] == len(nodes), opened


def _session(kube: KubeCluster) -> aiohttp.ClientSession:
    """What kubectl would use, without its start."""
    tls = ssl.create_default_context(cafile=kube.scratch / "ca.crt")
    return aiohttp.ClientSession(
        kube.url,
        connector=aiohttp.TCPConnector(ssl=tls),
        headers={
            "Authorization": f"Bearer {ADMIN_TOKEN}",
            "Content-Type": "application/merge-patch+json",
        },
    )


async def _change(
    plane: app.Running, session: aiohttp.ClientSession, number: int
) -> tuple[float, float]:
    """One patch: seconds until the watch has told of it, and from there to the last ACK."""
    share = (50, 0, 90)[number % 3]  # 90 is what it begins with
    patch = {"spec": {"backends": weights(share, 100 - share)}}
    before, began = plane.round, time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        # The watch may be faster than the answer.
        patched = tasks.create_task(_patch(session, patch))
        seen = await plane.next_round(before)
        await plane.converged()
        ended = time.perf_counter()
        await patched
    await asyncio.sleep(_PAUSE)
    return seen - began, ended - seen


async def _patch(session: aiohttp.ClientSession, patch: object) -> None:
    async with session.patch(_SPLIT, data=json.dumps(patch)) as answer:
        answer.raise_for_status()


def _report(taken: list[tuple[float, float]], *, others: int) -> Report:
    whole = [1e6 * (watch + ours) for watch, ours in taken]
    also = f" and {others} others" if others else ""
    row = _row(f"patch sent to last ACK of 5 Envoys{also}", whole)
    rows = (
        row,
        _row("of which until the watch tells of it", [1e6 * watch for watch, _ in taken]),
        _row("of which from there to the last ACK", [1e6 * ours for _, ours in taken]),
    )
    bar = Bar(name="median", value=row.median_us / 1000, limit=100, unit="ms")
    slowest = f"slowest of {_CHANGES}: {max(whole) / 1000:.1f} ms"
    return Report(name="kubernetes", rows=rows, bars=(bar,), notes=(slowest,))


def _row(name: str, samples: list[float]) -> Row:
    low, median, high = statistics.quantiles(samples, n=4)
    return Row(name=name, median_us=median, low_us=low, high_us=high)


if __name__ == "__main__":
    sys.exit(main())
