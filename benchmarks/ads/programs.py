"""The processes of the stream benchmark: started, spoken to in JSON lines, ended."""

import contextlib
import json
import os
import resource
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.ads import ours
from benchmarks.ads.resources import CLUSTERS, ROUTE_NAME
from benchmarks.gobuild import go_binary

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = Path(__file__).parent / "go"

SERVERS: Final = ("ours", "peer", "floor")
MODES: Final = ("sotw", "delta")

# Of Envoy 1.40: it lists them all in its first request.
ENVOY_EXTENSIONS: Final = 516

# Generous: a machine may be busy with something else. A trial that hangs is to end some day.
_TIMEOUT_S: Final = 240.0

Reply = dict[str, Any]


class ProgramError(Exception):
    """A process of the benchmark failed or did not answer."""


class Program:
    """One process that answers each command by one line, and ends when its input does."""

    def __init__(self, name: str, command: Sequence[str | Path]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def __call__(self, cmd: str, **arguments: object) -> Reply:
        """Give a command and wait for its reply."""
        self.send(cmd, **arguments)
        return self.receive()

    def send(self, cmd: str, **arguments: object) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"cmd": cmd, **arguments}).encode() + b"\n")

    def receive(self, *, timeout: float = _TIMEOUT_S) -> Reply:
        """Wait for the reply to the command that was sent."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise ProgramError(f"{self.name} did not answer within {timeout:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise ProgramError(f"{self.name} ended with {self._process.wait()}")
        reply: Reply = json.loads(line)
        if "error" in reply:
            raise ProgramError(f"{self.name}: {reply['error']}")
        return reply

    @property
    def cpu(self) -> float:
        """Its CPU time until now, in seconds."""
        return float(self("usage")["cpu"])

    @property
    def memory(self) -> int:
        """Its resident memory, in bytes."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())

    def end(self) -> None:
        """Close its input and wait for its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class Server(Program):
    """A server with its address."""

    address: str

    def start(self, resources: Path) -> None:
        """Let it listen."""
        self.address = self("start", resources=str(resources))["address"]


class Fleet(Program):
    """The clients."""

    def open(self, server: Server, n: int, *, mode: str, **how: object) -> Reply:
        """Connect that many proxies to a server and wait until all have everything."""
        defaults = {"extensions": ENVOY_EXTENSIONS, "within": _TIMEOUT_S / 2}
        return self(
            "open",
            n=n,
            mode=mode,
            address=server.address,
            endpoints=CLUSTERS,
            routes=[ROUTE_NAME],
            **{**defaults, **how},
        )


@contextmanager
def server(kind: str, resources: Path, *, nodes: int, cpus: set[int]) -> Iterator[Server]:
    """A server of one kind, ready for that many nodes, on these CPUs (empty: any)."""
    command = ours.PROGRAM if kind == "ours" else (_go(), kind)
    with _confined(cpus):
        started = Server(kind, command)
    try:
        started.start(resources)
        started("nodes", n=nodes)
        yield started
    finally:
        started.end()


@contextmanager
def fleet(*, cpus: set[int]) -> Iterator[Fleet]:
    """Clients, not yet connected."""
    with _confined(cpus):
        started = Fleet("client", (_go(), "client"))
    try:
        yield started
    finally:
        started.end()


def _go() -> Path:
    return go_binary(SOURCE, "bench-ads")


@contextmanager
def _confined(cpus: set[int]) -> Iterator[None]:
    """Let processes that are started meanwhile run on these CPUs only."""
    all_cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or all_cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cpus)


def raise_file_limit() -> int:
    """Allow as many open files as the machine does; children inherit it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
