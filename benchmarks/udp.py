"""UDP through two sidecars beside a bare pair of sockets, in one run: `python -m benchmarks.udp`.

Latency is a datagram there and back, one at a time; throughput the same with a window of 16 on
their way; loss is counted at the far end of a one-way stream, at a steady pace and flat out.
"""

import asyncio
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from smi_xds.demo import processes
from smi_xds.mesh.model import PortRef
from smi_xds.values import ServiceRef
from tests.support.live import live_mesh

_ROUNDS = 5
_SIZES = (64, 1_200, 8_000)
_WINDOW = 16
_SECONDS = 1.0
_PACE = 5_000  # datagrams a second

_OBJECTS = """
apiVersion: v1
kind: Pod
metadata:
  name: caller
  namespace: test
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/address: 127.1.0.2}
spec: {serviceAccountName: caller}
---
apiVersion: v1
kind: Pod
metadata:
  name: far
  namespace: test
  labels: {app: far}
  annotations:
    smi-xds.io/sidecar: bound
    smi-xds.io/address: 127.1.0.3
    smi-xds.io/app-address: 127.1.0.103
spec: {serviceAccountName: far}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: test}
spec: {selector: {app: far}, ports: [{name: u, port: 9000, protocol: UDP}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: UDPRoute
metadata: {name: all, namespace: test}
spec: {}
---
apiVersion: access.smi-spec.io/v1alpha4
kind: TrafficTarget
metadata: {name: far, namespace: test}
spec:
  destination: {kind: ServiceAccount, name: far}
  rules: [{kind: UDPRoute, name: all}]
  sources: [{kind: ServiceAccount, name: caller}]
"""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measurement; `ratio` is what the mesh has of the bare pair's figure."""

    name: str
    unit: str
    bare: float
    mesh: float

    @property
    def ratio(self) -> float:
        """The mesh's figure over the bare one."""
        return self.mesh / self.bare if self.bare else float("nan")


def latency(there: Address, size: int) -> float:
    """Microseconds for a datagram there and back, the median of 300."""
    data, taken = b"E" * size, []
    with _connected(there) as here:
        _ask(here, data)  # opens the session
        for _ in range(300):
            start = time.perf_counter()
            _ask(here, data)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def throughput(there: Address, size: int) -> float:
    """Datagrams a second there and back, with a window of them on their way."""
    data, count = b"E" * size, 0
    with _connected(there) as here:
        _ask(here, data)
        here.settimeout(0.2)
        start = time.perf_counter()
        for _ in range(_WINDOW):
            here.send(data)
        while time.perf_counter() - start < _SECONDS:
            try:
                here.recv(65_536)
                count += 1
                here.send(data)
            except TimeoutError:  # all of the window was lost
                for _ in range(_WINDOW):
                    here.send(data)
        return count / (time.perf_counter() - start)


def loss(there: Address, size: int, pace: float | None) -> float:
    """Percent of a one-way stream that did not arrive."""
    data, sent = b"S" * size, 0
    with _connected(there) as here:
        _ask(here, b"Q")
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < _SECONDS:
            if pace is None or sent < passed * pace:
                here.send(data)
                sent += 1
        time.sleep(0.3)  # noqa: TID251 - what is on its way arrives
        arrived = int(_ask(here, b"Q"))
    return 100 * (1 - arrived / sent)


def _connected(there: Address) -> socket.socket:
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.settimeout(5)
    here.connect(there)
    return here


def _ask(here: socket.socket, data: bytes) -> bytes:
    here.send(data)
    return here.recv(65_536)


def measure(bare: Address, mesh: Address) -> list[Result]:
    """Everything, in turns."""
    plans: list[tuple[str, str, Callable[[Address], float]]] = []
    for size in _SIZES:
        plans += [
            (f"round trip, {size} B", "µs", partial(latency, size=size)),
            (f"window of {_WINDOW}, {size} B", "1/s", partial(throughput, size=size)),
            (f"lost at {_PACE} a second, {size} B", "%", partial(loss, size=size, pace=_PACE)),
        ]
    plans.append(("lost flat out, 1200 B", "%", partial(loss, size=1_200, pace=None)))
    return [_in_turns(name, unit, plan, bare, mesh) for name, unit, plan in plans]


def _in_turns(
    name: str, unit: str, plan: Callable[[Address], float], bare: Address, mesh: Address
) -> Result:
    found = [(plan(bare), plan(mesh)) for _ in range(_ROUNDS)]
    return Result(
        name=name,
        unit=unit,
        bare=statistics.median(it for it, _ in found),
        mesh=statistics.median(it for _, it in found),
    )


@asynccontextmanager
async def far_end(kind: str, address: Address) -> AsyncIterator[None]:
    """The other end, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.far_end", kind, address[0], str(address[1])]
    async with processes.running(command):
        yield


async def _run() -> list[Result]:
    ref = PortRef(ServiceRef("test", "far"), 9000, udp=True)
    with tempfile.TemporaryDirectory() as folder:
        async with live_mesh(_OBJECTS, Path(folder)) as mesh:
            bare = (mesh.workload("test/far").app_address, 9000)
            through = (mesh.workload("test/caller").address, mesh.server.mesh.bound_ports[ref])
            async with far_end("udp", bare):
                await asyncio.to_thread(_wait_for, bare)
                return await asyncio.to_thread(measure, bare, through)


def _wait_for(there: Address) -> None:
    for _ in range(500):
        with _connected(there) as here:
            here.settimeout(0.02)
            try:
                _ask(here, b"E")
            except (TimeoutError, ConnectionError):
                time.sleep(0.02)  # noqa: TID251 - until it listens
                continue
            return
    raise TimeoutError("the far end does not answer")


def main() -> int:
    """Measure and report; there is no bar."""
    results = asyncio.run(_run())
    if "--json" in sys.argv:
        print(json.dumps([asdict(it) | {"ratio": it.ratio} for it in results]))
        return 0
    print(f"load {os.getloadavg()[0]:.1f}")
    for it in results:
        ratio = f"  x{it.ratio:.2f}" if it.unit != "%" else ""
        print(f"{it.name:30} bare {it.bare:9.1f} {it.unit:4} mesh {it.mesh:9.1f}{ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
