"""A live mesh for tests: our server, real Envoys, little applications that say who they are."""

import asyncio
import json
import re
import shutil
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from smi_xds import app
from smi_xds.config import parse_mesh, parse_serve
from smi_xds.demo import http1
from smi_xds.demo.addresses import free_block
from smi_xds.demo.envoy import Sidecar, envoy_binary, running_sidecar
from smi_xds.mesh.model import InboundPort, PortRef, Workload
from smi_xds.values import ProxyId, ServiceRef
from smi_xds.xds.bootstrap import Protocol, admin_address, sidecar
from smi_xds.xds.dump import to_json
from smi_xds.xds.names import ADMIN_PORT

# The blocks in which objects of tests and examples are written.
_WRITTEN = re.compile(r"\b127\.1\.\d+\.")

Application = Callable[[Workload, InboundPort], AbstractAsyncContextManager[None]]
"""Runs what listens at the workload's application address and the port."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller got; status 0 where the connection was lost or refused."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def answered_by(self) -> str:
        """The pod whose application answered, empty if none did."""
        return self.headers.get("x-served-by", "")

    @property
    def seen(self) -> Mapping[str, str]:
        """The headers that the application saw."""
        seen: Mapping[str, str] = json.loads(self.body)["headers"]
        return seen


@asynccontextmanager
async def echo(workload: Workload, port: InboundPort) -> AsyncIterator[None]:
    """HTTP ports answer with what they saw; TCP ports greet with their name, then echo."""
    name = workload.proxy.name
    if port.protocol.is_http:

        async def answer(asked: http1.Message) -> bytes:
            body = {"path": asked.first_line[1], "headers": dict(asked.headers)}
            return http1.response(200, json.dumps(body).encode(), headers={"x-served-by": name})

        server = await http1.serve(workload.app_address, port.number, answer)
    else:
        server = await asyncio.start_server(
            lambda reader, writer: _converse(name, reader, writer),
            workload.app_address,
            port.number,
        )
    try:
        yield
    finally:
        server.close()


async def _converse(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"{name}\n".encode())
    while line := await reader.readline():
        writer.write(line)
    writer.close()


@dataclass(slots=True)
class LiveMesh:
    """A folder of objects, and everything that was started for it."""

    folder: Path
    block: str
    server: app.Running
    protocol: Protocol = Protocol.DELTA
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    connections: dict[str, http1.Connection] = field(default_factory=dict)

    def workload(self, name: str) -> Workload:
        """The workload `namespace/name`."""
        return self.server.mesh.workloads[ProxyId.parse(name)]

    async def get(
        self,
        source: str,
        host: str,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """A request through the sidecar of `source`, on one connection that is kept."""
        encoded = http1.request(method, path, host=host, headers=headers or {})
        connection = self.connections.get(source)
        try:
            if connection is None or not connection.is_open or connection.was_closed:
                connection = await http1.Connection.open(self.workload(source).address, 15001)
                self.connections[source] = connection
            answer = await connection.send(encoded)
        except http1.HttpError:
            return Reply(0)
        return Reply(int(answer.first_line[1]), answer.headers, answer.body)

    async def get_directly(self, address: str, path: str = "/") -> Reply:
        """A plaintext request from outside the mesh, to an address of the objects."""
        host, _, port = self._here(address).rpartition(":")
        try:
            connection = await http1.Connection.open(host, int(port))
            answer = await connection.send(http1.request("GET", path, host=address, headers={}))
            connection.close()
        except http1.HttpError:
            return Reply(0)
        return Reply(int(answer.first_line[1]), answer.headers, answer.body)

    async def shares(
        self, source: str, host: str, count: int, *, headers: Mapping[str, str] | None = None
    ) -> Counter[str]:
        """Who answered, of that many requests; failures count by their status."""
        found: Counter[str] = Counter()
        for _ in range(count):
            reply = await self.get(source, host, headers=headers)
            found[reply.answered_by or str(reply.status)] += 1
        return found

    async def dial(
        self, source: str, service: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A TCP connection to `namespace/service:port` through a sidecar; None if refused."""
        name, _, number = service.rpartition(":")
        namespace, _, short = name.partition("/")
        ref = PortRef(ServiceRef(namespace, short), int(number))
        port = self.server.mesh.bound_ports[ref]
        try:
            return await asyncio.open_connection(self.workload(source).address, port)
        except OSError:
            return None

    async def greeting(self, source: str, service: str) -> bytes:
        """The first line that a TCP service says, empty if it says nothing before the end."""
        opened = await self.dial(source, service)
        if opened is None:
            return b""
        reader, writer = opened
        try:
            async with asyncio.timeout(10):
                return await reader.readline()
        except OSError:
            return b""
        finally:
            writer.close()

    def access_log(self, name: str, direction: str) -> list[dict[str, object]]:
        """What a sidecar has logged of one direction so far."""
        lines = self.sidecars[name].access_log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["direction"] == direction]

    async def stats(self, name: str, containing: str) -> dict[str, int]:
        """Counters and gauges of a sidecar whose names have this in them."""
        url = f"http://{self.sidecars[name].admin_host}:{ADMIN_PORT}/stats?filter={containing}"
        lines = (await asyncio.to_thread(_fetch, url)).splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {stat: int(value) for stat, _, value in pairs if value.isdigit()}

    async def edit(self, file: str, change: Callable[[str], str]) -> None:
        """Change a file as a user would, and wait until every sidecar has it."""
        path = self.folder / file
        before = self.server.round
        path.write_text(self._here(change(path.read_text())))
        async with asyncio.timeout(30):
            await self.server.next_round(before)
        await self.converged()

    async def write(self, file: str, text: str) -> None:
        """Add a file, and wait until every sidecar has it."""
        (self.folder / file).touch()
        await self.edit(file, lambda _: text)

    async def converged(self) -> None:
        """Wait until every sidecar has ACKed everything."""
        async with asyncio.timeout(30):
            await self.server.converged(list(self.sidecars))

    def _here(self, text: str) -> str:
        return _WRITTEN.sub(f"{self.block}.", text)


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
    return body.decode()


@asynccontextmanager
async def live_mesh(
    objects: Path | str,
    tmp_path: Path,
    *,
    application: Application = echo,
    access: str = "strict",
    mtls: str = "strict",
    protocol: Protocol = Protocol.DELTA,
) -> AsyncIterator[LiveMesh]:
    """Serve objects (a folder, or YAML text) and start everything that they speak of."""
    async with AsyncExitStack() as stack:
        block = stack.enter_context(free_block())
        folder = tmp_path / "objects"
        if isinstance(objects, Path):
            shutil.copytree(objects, folder)
        else:
            folder.mkdir()
            (folder / "objects.yaml").write_text(objects)
        for path in folder.rglob("*.yaml"):
            path.write_text(_WRITTEN.sub(f"{block}.", path.read_text()))
        config = parse_serve(
            files=[folder],
            xds_address="127.0.0.1:0",
            state_folder=tmp_path / "state",
            mesh=parse_mesh(access_mode=access, mtls_mode=mtls),
        )
        server = await stack.enter_async_context(app.running(config))
        live = LiveMesh(folder=folder, block=block, server=server, protocol=protocol)
        for workload in server.mesh.workloads.values():
            for port in workload.ports:
                await stack.enter_async_context(application(workload, port))
        async with asyncio.TaskGroup() as tasks:
            for workload in server.mesh.workloads.values():
                if workload.sidecar.listens:
                    tasks.create_task(start_sidecar(live, workload, tmp_path, stack))
        await live.converged()
        yield live
        for connection in live.connections.values():
            connection.close()


async def start_sidecar(
    live: LiveMesh, workload: Workload, tmp_path: Path, stack: AsyncExitStack
) -> None:
    """Start the sidecar of a workload and wait until it is ready."""
    name = str(workload.proxy)
    bootstrap = sidecar(
        workload,
        server_host=live.server.xds_host,
        server_port=live.server.xds_port,
        protocol=live.protocol,
    )
    path = tmp_path / f"{workload.proxy.namespace}.{workload.proxy.name}.json"
    path.write_text(json.dumps(to_json(bootstrap)))
    envoy, _ = await stack.enter_async_context(
        running_sidecar(
            name=path.stem,
            binary=envoy_binary(),
            bootstrap=path,
            admin_host=admin_address(workload),
            logs=tmp_path,
        )
    )
    await envoy.wait_until_ready()
    live.sidecars[name] = envoy
