"""Configuration changes under load: nobody notices but the shares."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from smi_xds.xds.bootstrap import Protocol
from tests.support.live import LiveMesh, live_mesh
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

BOTH = pytest.mark.parametrize("protocol", list(Protocol))

# What smi_xds.demo.envoy gives its Envoys.
DRAIN_SECONDS = 10

TCP_SPLIT = """
apiVersion: v1
kind: Namespace
metadata:
  name: test
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/access: permissive}
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  namespace: test
  annotations: {smi-xds.io/address: 127.1.0.2, smi-xds.io/app-address: 127.1.0.102}
---
apiVersion: v1
kind: Pod
metadata:
  name: db-1
  namespace: test
  labels: {app: db, number: "1"}
  annotations: {smi-xds.io/address: 127.1.0.3, smi-xds.io/app-address: 127.1.0.103}
---
apiVersion: v1
kind: Pod
metadata:
  name: db-2
  namespace: test
  labels: {app: db, number: "2"}
  annotations: {smi-xds.io/address: 127.1.0.4, smi-xds.io/app-address: 127.1.0.104}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: test}
spec: {selector: {app: db}, ports: [{name: tcp, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: db-1, namespace: test}
spec: {selector: {number: "1"}, ports: [{name: tcp, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: db-2, namespace: test}
spec: {selector: {number: "2"}, ports: [{name: tcp, port: 9000}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: db, namespace: test}
spec:
  service: db
  backends:
    - service: db-1
      weight: 1
    - service: db-2
      weight: 1
"""

TWO_VERSIONS = """
apiVersion: v1
kind: Namespace
metadata:
  name: test
  annotations: {smi-xds.io/sidecar: bound}
---
apiVersion: v1
kind: Pod
metadata:
  name: client
  namespace: test
  annotations: {smi-xds.io/address: 127.1.0.2, smi-xds.io/app-address: 127.1.0.102}
---
apiVersion: v1
kind: Pod
metadata:
  name: blue
  namespace: test
  labels: {app: web, version: blue}
  annotations: {smi-xds.io/address: 127.1.0.3, smi-xds.io/app-address: 127.1.0.103}
---
apiVersion: v1
kind: Pod
metadata:
  name: green
  namespace: test
  labels: {app: web, version: green}
  annotations: {smi-xds.io/address: 127.1.0.4, smi-xds.io/app-address: 127.1.0.104}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: test}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
"""

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def _speaks(mesh: LiveMesh, protocol: Protocol) -> bool:
    """Whether that is what all sidecars speak."""
    spoken = {stream.is_delta for stream in mesh.server.status.streams.values()}
    return spoken == {protocol is Protocol.DELTA}


async def _retries(mesh: LiveMesh) -> int:
    """How often a sidecar asked a second time, which the load cannot see."""
    counted = [await sidecar.retries() for sidecar in mesh.sidecars.values()]
    return sum(sum(by_cluster.values()) for by_cluster in counted)


def _replaced(text: str, *, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


async def _load(mesh: LiveMesh, stop: asyncio.Event, *, namespace: str = "canary") -> Counter[str]:
    found: Counter[str] = Counter()
    while not stop.is_set():
        reply = await mesh.get(f"{namespace}/client", f"web.{namespace}:8080")
        found[reply.answered_by or str(reply.status)] += 1
    return found


@BOTH
async def test_a_split_moves_back_and_forth_without_a_failed_request(
    protocol: Protocol, tmp_path: Path
) -> None:
    """A hundred changes of weight under load, with only answers of the two versions."""
    async with live_mesh(EXAMPLES / "03-canary", tmp_path, protocol=protocol) as mesh:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(_load(mesh, stop))
            for weights in [("0", "100"), ("50", "50"), ("100", "0"), ("90", "10")] * 25:
                await mesh.edit("split.yaml", lambda text, w=weights: _with(text, *w))  # type: ignore[misc] # bound now
            stop.set()
        assert _speaks(mesh, protocol)
        assert await _retries(mesh) == 0

    assert set(load.result()) == {"web-v1", "web-v2"}
    assert load.result().total() > 200


@BOTH
async def test_a_service_is_led_to_other_pods_without_a_failed_request(
    protocol: Protocol, tmp_path: Path
) -> None:
    """Pods that no Service selects any longer answer who has yet to hear of it."""
    async with live_mesh(TWO_VERSIONS, tmp_path, protocol=protocol, access="permissive") as mesh:
        stop = asyncio.Event()
        selector = "{app: web}"
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(_load(mesh, stop, namespace="test"))
            for version in ["blue", "green"] * 15:
                old, selector = selector, f"{{version: {version}}}"
                await mesh.edit("objects.yaml", partial(_replaced, old=old, new=selector))
            stop.set()
        assert _speaks(mesh, protocol)
        assert await _retries(mesh) == 0

    assert set(load.result()) == {"blue", "green"}
    assert load.result().total() > 200


@BOTH
async def test_a_backend_comes_and_goes_without_a_failed_request(
    protocol: Protocol, tmp_path: Path
) -> None:
    """Clusters and endpoints are there before a route names them, and go after it."""
    async with live_mesh(EXAMPLES / "03-canary", tmp_path, protocol=protocol) as mesh:
        whole = (mesh.folder / "split.yaml").read_text()
        without = whole.split("    - service: web-v2")[0]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(_load(mesh, stop))
            for text in [without, whole] * 10:
                await mesh.edit("split.yaml", lambda _, t=text: t)  # type: ignore[misc] # bound now
            stop.set()
        assert _speaks(mesh, protocol)
        assert await _retries(mesh) == 0

    assert set(load.result()) == {"web-v1", "web-v2"}


@BOTH
async def test_a_tcp_connection_outlives_changes_of_weight(
    protocol: Protocol, tmp_path: Path
) -> None:
    """A weight is endpoints alone: longer than Envoy drains, nothing is closed."""
    async with live_mesh(TCP_SPLIT, tmp_path, protocol=protocol) as mesh:
        opened = await mesh.dial("test/client", "test/db:9000")
        assert opened is not None
        reader, writer = opened
        first = await reader.readline()
        end = asyncio.get_running_loop().time() + DRAIN_SECONDS + 2
        weights = cycle([("0", "1"), ("1", "0"), ("9", "1")])
        while asyncio.get_running_loop().time() < end:
            await mesh.edit("objects.yaml", partial(_with_next, weights=weights))
            writer.write(b"still there?\n")
            assert await reader.readline() == b"still there?\n"
            await asyncio.sleep(0.5)  # a pace for the writes; nothing is waited for
        writer.close()

        await mesh.edit("objects.yaml", lambda text: _with(text, "0", "7"))

        async def all_new_ones_go_there() -> bool:
            names = {await mesh.greeting("test/client", "test/db:9000") for _ in range(10)}
            return names == {b"db-2\n"}

        await eventually_async(all_new_ones_go_there, deadline=10)
    assert first in (b"db-1\n", b"db-2\n")


async def test_a_bad_edit_changes_nothing_but_the_problems(tmp_path: Path) -> None:
    """A file that stops parsing keeps its last good objects, and says so."""
    async with live_mesh(EXAMPLES / "03-canary", tmp_path) as mesh:
        await mesh.edit("access.yaml", lambda text: text + "\n  this: is: not: yaml")

        assert [str(p.code) for p in mesh.server.mesh.problems] == ["InvalidYAML"]
        assert (await mesh.get("canary/client", "web.canary:8080")).status == 200


def _with_next(text: str, *, weights: Iterator[tuple[str, str]]) -> str:
    return _with(text, *next(weights))


def _with(text: str, first: str, second: str) -> str:
    head, *parts = text.split("weight: ")
    weights = [first, second]
    tails = [part.split("\n", 1)[1] if "\n" in part else "" for part in parts]
    return head + "".join(f"weight: {w}\n{t}" for w, t in zip(weights, tails, strict=True))
