"""How long a user waits: from a saved file to the last Envoy, and from the start to an answer."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from benchmarks.measure import Bar, Report, Row, present
from smi_xds import app
from smi_xds.config import Address, LogConfig, LogLevel, MeshConfig, ServeConfig
from smi_xds.demo.addresses import free_block
from smi_xds.demo.envoy import envoy_binary
from smi_xds.demo.processes import temporary_folder
from smi_xds.demo.run import running_stage
from smi_xds.demo.story import STEPS, WorkFolder

_CHANGES = 60
_STARTS = 5
_EXAMPLES = Path(__file__).parent.parent / "examples"


def main() -> int:
    """Print both reports; 1 if a bar was missed."""
    return present([asyncio.run(_convergence()), _start()], sys.argv[1:])


async def _convergence() -> Report:
    """Weights change back and forth in a file; five Envoys, no traffic."""
    with free_block() as prefix:
        async with temporary_folder("smi-xds-bench-") as scratch:
            work = WorkFolder(scratch / "objects", prefix)
            work.fill()
            config = ServeConfig(
                files=(work.path,),
                kubernetes=None,
                xds_address=Address("127.0.0.1", 0),
                state_folder=scratch / "state",
                mesh=MeshConfig(),
                log=LogConfig(level=LogLevel.ERROR),
            )
            app.configure_logging(config.log)
            async with (
                app.running(config) as plane,
                running_stage(plane, work, binary=envoy_binary(), scratch=scratch) as stage,
            ):
                taken = []
                for change in range(_CHANGES):
                    # v1 only (which writes the file), canary, half and half, v2 only, canary, …
                    step = STEPS[1 + (change - 1) % 3] if change else STEPS[0]
                    before, began = plane.round, time.perf_counter()
                    work.edit(step.file, step.edit)
                    await plane.next_round(before)
                    await stage.converged()
                    taken.append(1e6 * (time.perf_counter() - began))
    row = _row("file saved to last ACK of 5 Envoys", taken)
    bar = Bar(name="median", value=row.median_us / 1000, limit=100, unit="ms")
    slowest = f"slowest of {_CHANGES}: {max(taken) / 1000:.1f} ms"
    return Report(name="convergence", rows=(row,), bars=(bar,), notes=(slowest,))


def _start() -> Report:
    """`smi-xds serve --files examples`, from the process's start to SERVING, and its memory."""
    served, bare, memory = [], [], []
    with tempfile.TemporaryDirectory() as state, _serving(Path(state)):
        pass  # the first start compiles
    for _ in range(_STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(1e6 * (time.perf_counter() - began))
        with tempfile.TemporaryDirectory() as state:
            began = time.perf_counter()
            with _serving(Path(state)) as process:
                served.append(1e6 * (time.perf_counter() - began))
                memory.append(_resident_mb(process.pid))
    rows = (_row("serve, start to SERVING", served), _row("an empty Python, start to end", bare))
    bars = (
        Bar(name="start", value=statistics.median(served) / 1e6, limit=2, unit="s"),
        Bar(name="memory", value=statistics.median(memory), limit=150, unit="MB"),
    )
    return Report(name="start", rows=rows, bars=bars)


@contextmanager
def _serving(state: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [
        *(str(Path(sys.executable).with_name("smi-xds")), "serve", "--files", str(_EXAMPLES)),
        *("--xds-address", "127.0.0.1:0", "--monitoring-address", "127.0.0.1:0"),
        *("--state-folder", str(state), "--log-format", "json"),
    ]
    # Bytecode is kept, as Python does unless told otherwise.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        # The last line of its start; asking before would take the processor that it starts on.
        line = next(line for line in process.stderr if '"serving"' in line)
        with grpc.insecure_channel(json.loads(line)["xds_address"]) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            serving = health_pb2.HealthCheckResponse.SERVING
            assert check(health_pb2.HealthCheckRequest(), timeout=30).status == serving
        yield process
    finally:
        process.terminate()
        process.communicate()


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _row(name: str, samples: list[float]) -> Row:
    low, median, high = statistics.quantiles(samples, n=4)
    return Row(name=name, median_us=median, low_us=low, high_us=high)


if __name__ == "__main__":
    sys.exit(main())
