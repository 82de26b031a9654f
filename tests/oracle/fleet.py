"""The cast, played by real Envoys that stay while meshes come and go.

Every mesh takes the way of a user's files: read, built, translated, published, and answered by
every sidecar, before the first request goes.
"""

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from smi_xds import app
from smi_xds.config import parse_mesh, parse_serve
from smi_xds.demo.addresses import free_block
from smi_xds.demo.envoy import Sidecar, envoy_binary, running_sidecar
from smi_xds.mesh.model import PortRef
from smi_xds.values import ProxyId, ServiceRef
from smi_xds.xds.bootstrap import admin_address, sidecar
from smi_xds.xds.dump import to_json
from tests.oracle.smi.judging import Request
from tests.oracle.worlds import (
    CALLERS,
    CAST,
    GREETING,
    TARGETS,
    Document,
    HttpQuestion,
    Member,
    PlainQuestion,
    Question,
    TcpQuestion,
)

TAG = "-mesh"
"""How names of SMI objects end in a world; each publication has an end of its own instead."""

BLOCK = "127.1.0"
"""The addresses that stand in worlds; the fleet has a block of its own."""

# Every number to which a Service may send, and one at which sidecars do not let anyone serve.
_APP_PORTS = (*TARGETS, GREETING, 80, 9)
_PLAIN_PORTS = (*_APP_PORTS, 15001)

_TIME_TO_ANSWER = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the pod that answered, or the status of whoever refused (0: nothing)."""

    pod: str = ""
    status: int = 0
    seen: dict[str, str] = field(default_factory=dict)
    """The path, method and headers that the application saw."""


@dataclass(slots=True)
class Fleet:
    """Sidecars, applications and the control plane between them."""

    folder: Path
    block: str
    server: app.Running
    sidecars: dict[str, Sidecar] = field(default_factory=dict)
    published: Iterable[int] = field(default_factory=itertools.count)

    async def publish(self, documents: Iterable[Document]) -> None:
        """Put these documents in the place of all others, and wait until every sidecar obeys."""
        number = next(iter(self.published))
        items = {"apiVersion": "v1", "kind": "List", "items": [*documents, _marker(number)]}
        text = json.dumps(items).replace(TAG, f"-{number}").replace(f"{BLOCK}.", f"{self.block}.")
        new = self.folder.with_name("new.json")
        new.write_text(text)
        seen = self.server.round
        new.replace(self.folder / "objects.json")
        async with asyncio.timeout(60):
            # What vanished from a file goes a moment after the rest: so do old markers.
            while self._markers() != {f"mesh-{number}"}:
                await self.server.next_round(seen)
                seen = self.server.round
            await self.server.converged(list(self.sidecars))

    def _markers(self) -> set[str]:
        objects = self.server.mesh.objects
        accounts = () if objects is None else objects.accounts
        return {it.name for it in accounts if it.name.startswith("mesh-")}

    def address(self, member: Member) -> str:
        """Where a pod is."""
        return f"{self.block}.{member.number}"

    async def ask(self, question: Question) -> Answer:
        """Do what is asked, and see who answers."""
        match question:
            case HttpQuestion(caller, request):
                return await _exchange(self.address(caller), 15001, _encode(request))
            case PlainQuestion(pod, port, request):
                return await _exchange(self.address(pod), port, _encode(request))
            case TcpQuestion(caller, service, number):
                namespace, _, name = service.partition("/")
                local = self.server.mesh.bound_ports[PortRef(ServiceRef(namespace, name), number)]
                return await _exchange(self.address(caller), local, b"hello\n")


def _marker(number: int) -> Document:
    """By which a publication is known."""
    meta = {"namespace": "east", "name": f"mesh-{number}"}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}


@asynccontextmanager
async def playing(
    folder: Path, documents: Iterable[Document], *, access: str = "strict", mtls: str = "strict"
) -> AsyncIterator[Fleet]:
    """Start everything; `documents` is the first mesh, in which the whole cast is."""
    async with AsyncExitStack() as stack:
        block = stack.enter_context(free_block())
        objects = folder / "objects"
        objects.mkdir()
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        text = json.dumps(items).replace(f"{BLOCK}.", f"{block}.")
        (objects / "objects.json").write_text(text)
        config = parse_serve(
            files=[objects],
            xds_address="127.0.0.1:0",
            state_folder=folder / "state",
            mesh=parse_mesh(access_mode=access, mtls_mode=mtls),
        )
        server = await stack.enter_async_context(app.running(config))
        fleet = Fleet(objects, block, server)
        for member in CAST:
            ports = _APP_PORTS if member.meshed else _PLAIN_PORTS
            host = f"{block}.{member.number + (100 if member.meshed else 0)}"
            for port in ports:
                await _serve(stack, member, host, port)
        for member in CALLERS:
            await _start_sidecar(stack, fleet, member, folder)
        for envoy in fleet.sidecars.values():
            await envoy.wait_until_ready()
        yield fleet


async def _start_sidecar(stack: AsyncExitStack, fleet: Fleet, member: Member, folder: Path) -> None:
    workload = fleet.server.mesh.workloads[ProxyId(member.namespace, member.name)]
    message = sidecar(
        workload, server_host=fleet.server.xds_host, server_port=fleet.server.xds_port
    )
    name = f"{member.namespace}.{member.name}"
    path = folder / f"{name}.json"
    path.write_text(json.dumps(to_json(message)))
    envoy, _ = await stack.enter_async_context(
        running_sidecar(
            name=name,
            binary=envoy_binary(),
            bootstrap=path,
            admin_host=admin_address(workload),
            logs=folder,
            access_log=Path(os.devnull),
        )
    )
    fleet.sidecars[member.key] = envoy


# ---------------------------------------------------------------- applications


async def _serve(stack: AsyncExitStack, member: Member, host: str, port: int) -> None:
    """Listen as an application does: it answers requests and lines alike, with its name."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if port == GREETING:
                writer.write(f"{member.key}\n".encode())
            while line := await reader.readline():
                if line.rstrip().endswith((b"HTTP/1.1", b"HTTP/1.0")):
                    writer.write(await _respond(member, line, reader))
                elif port != GREETING:
                    writer.write(f"{member.key}\n".encode())
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # whoever called is gone
        finally:
            writer.close()

    server = await asyncio.start_server(converse, host, port)
    stack.callback(server.close)


async def _respond(member: Member, line: bytes, reader: asyncio.StreamReader) -> bytes:
    method, path, _ = line.decode("latin-1").split(" ", 2)
    seen = {":method": method, ":path": path}
    while (header := await reader.readline()).strip():
        name, _, value = header.decode("latin-1").partition(":")
        seen[name.lower()] = value.strip()
    await reader.readexactly(int(seen.get("content-length", "0")))
    body = json.dumps(seen).encode()
    head = f"HTTP/1.1 200 OK\r\nx-served-by: {member.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)


# ---------------------------------------------------------------- callers


def _encode(request: Request) -> bytes:
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {request.host}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.method in ("POST", "PUT", "PATCH"):
        lines.append("content-length: 0")
    return "\r\n".join([*lines, "", ""]).encode()


async def _exchange(host: str, port: int, sent: bytes) -> Answer:
    """Send and read one answer, of whatever kind, on a connection of its own."""
    try:
        async with asyncio.timeout(_TIME_TO_ANSWER):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(sent)
                return await _read(reader, has_body=not sent.startswith(b"HEAD"))
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError):
        return Answer()


async def _read(reader: asyncio.StreamReader, *, has_body: bool) -> Answer:
    first = (await reader.readline()).decode("latin-1")
    if not first.startswith("HTTP/1.1 "):
        return Answer(pod=first.strip())
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).decode("latin-1")).strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    status, pod = int(first.split(" ")[1]), headers.get("x-served-by", "")
    if not (has_body and pod):
        return Answer(pod, status)
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(pod, status, json.loads(body))
