"""gRPC clients without a proxy, as processes of their own: on grpcio and on grpc-go."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from benchmarks.gobuild import GoMissingError, go_binary
from smi_xds.mesh.model import InboundPort, Workload
from tests.support.live import LiveMesh

_FOLDER = Path(__file__).parent.parent / "grpc"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}

# A client's own time-out for a resource that nobody sends (xDS protocol, 15 s), and some.
PATIENCE = 30

SIGNED = Path()
"""Certificates that are signed for the client when it starts."""

KINDS = ("grpcio", "grpc-go")


@dataclass(frozen=True, slots=True)
class Calls:
    """What some calls came to: the pods that answered, and the status codes of failures."""

    served: Counter[str]
    failed: Counter[str]
    detail: str

    @property
    def total(self) -> int:
        """How many there were."""
        return self.served.total() + self.failed.total()


@dataclass(frozen=True, slots=True)
class GrpcClient:
    """A client's process; it keeps a channel per target."""

    kind: str
    process: asyncio.subprocess.Process

    async def call(
        self,
        target: str,
        *,
        count: int = 1,
        method: str = "/test.Echo/Who",
        timeout: float = PATIENCE,  # noqa: ASYNC109 - of each call, in the other process
        metadata: Mapping[str, str] | None = None,
    ) -> Calls:
        """Call one after the other, and count."""
        order = {
            "target": f"xds:///{target}",
            "method": method,
            "count": count,
            "timeout": timeout,
            "metadata": dict(metadata or {}),
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(60 + timeout * min(count, 3)):
            line = await self.process.stdout.readline()
        assert line, f"{self.kind} ended: {await self.process.wait()}"
        answer = json.loads(line)
        failed = {_CODES[int(code)]: number for code, number in answer["failed"].items()}
        return Calls(Counter(answer["served"]), Counter(failed), answer["detail"])


@asynccontextmanager
async def grpc_client(
    kind: str,
    mesh: LiveMesh,
    proxy: str,
    tmp_path: Path,
    *,
    certificates: Path | None = SIGNED,
    credentials: str = "xds",
) -> AsyncIterator[GrpcClient]:
    """Start the client of a proxyless workload, with the bootstrap that `smi-xds` writes for it.

    It has certificates that are signed for it, those of a folder, or none.
    """
    bootstrap = tmp_path / f"{kind}.{proxy.replace('/', '.')}.json"
    bootstrap.write_bytes(await write_bootstrap(mesh, proxy, tmp_path, certificates))
    process = await asyncio.create_subprocess_exec(
        *_command(kind),
        credentials,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"GRPC_XDS_BOOTSTRAP": str(bootstrap)},
    )
    try:
        yield GrpcClient(kind, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def write_bootstrap(
    mesh: LiveMesh, proxy: str, tmp_path: Path, certificates: Path | None
) -> bytes:
    """What `smi-xds bootstrap --grpc` prints."""
    options: list[str] = []
    if certificates is SIGNED:
        state = str(tmp_path / "state")
        options = ["--certificates", str(tmp_path / proxy), "--state-folder", state]
    elif certificates is not None:
        options = ["--certificates", str(certificates)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from smi_xds.cli.main import main; main()"),
        *("bootstrap", "--grpc"),
        *("--files", str(mesh.folder), "--proxy", proxy),
        *("--server", f"{mesh.server.xds_host}:{mesh.server.xds_port}"),
        *options,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed


def _command(kind: str) -> list[str]:
    if kind == "grpcio":
        return [sys.executable, str(_FOLDER / "client.py")]
    try:
        return [str(go_binary(_FOLDER / "go", "grpc-client"))]
    except GoMissingError as error:
        pytest.skip(str(error))


class _Who(grpc.GenericRpcHandler):
    """Answers every method with the pod's name."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def service(self, _: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def who(_: bytes, __: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            return self._name

        return grpc.unary_unary_rpc_method_handler(who)


@asynccontextmanager
async def grpc_application(workload: Workload, port: InboundPort) -> AsyncIterator[None]:
    """A gRPC server behind a sidecar that says who it is."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Who(workload.proxy.name),))
    server.add_insecure_port(f"{workload.app_address}:{port.number}")
    await server.start()
    yield
    await server.stop(None)
