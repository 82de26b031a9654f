"""The cast, played by real Envoys that stay while meshes come and go.

Every mesh takes the way of a user's files: read, built, translated, published, and answered by
every sidecar, before the first request goes.
"""

import abc
import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeAlias

from smi_xds import app
from smi_xds.config import Address, parse_mesh, parse_serve
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
APP_PORTS = (*TARGETS, GREETING, 80, 9)
PLAIN_PORTS = (*APP_PORTS, 15001)

_TIME_TO_ANSWER = 20.0

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[[], Awaitable[Stream]]
Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the pod that answered, or the status of whoever refused (0: nothing)."""

    pod: str = ""
    status: int = 0
    seen: dict[str, str] = field(default_factory=dict)
    """The path, method and headers that the application saw."""
    text: str = ""
    """What a sidecar said where it refused."""


@dataclass(slots=True)
class Fleet(abc.ABC):
    """Sidecars, applications and the control plane between them."""

    folder: Path
    server: app.Running
    proxies: list[str] = field(default_factory=list)
    published: Iterator[int] = field(default_factory=itertools.count)
    intercepted: ClassVar[bool]

    @abc.abstractmethod
    def written(self, documents: Iterable[Document]) -> str:
        """The documents as this fleet plays them, as the text of a file."""

    @abc.abstractmethod
    async def ask(self, question: Question) -> Answer:
        """Do what is asked, and see who answers."""

    async def publish(self, documents: Iterable[Document]) -> None:
        """Put these documents in the place of all others, and wait until every sidecar obeys."""
        number = next(self.published)
        text = self.written([*documents, _marker(number)]).replace(TAG, f"-{number}")
        new = self.folder.with_name("new.json")
        new.write_text(text)
        seen = self.server.round
        new.replace(self.folder / "objects.json")
        async with asyncio.timeout(60):
            # What vanished from a file goes a moment after the rest: so do old markers.
            while self._markers() != {f"mesh-{number}"}:
                await self.server.next_round(seen)
                seen = self.server.round
            await self.server.converged(self.proxies)

    def _markers(self) -> set[str]:
        objects = self.server.mesh.objects
        accounts = () if objects is None else objects.accounts
        return {it.name for it in accounts if it.name.startswith("mesh-")}


@dataclass(slots=True, kw_only=True)
class BoundFleet(Fleet):
    """Nothing is intercepted: everyone has addresses on loopback."""

    block: str
    intercepted: ClassVar[bool] = False

    def written(self, documents: Iterable[Document]) -> str:
        """In a block of addresses of our own."""
        return as_list(documents).replace(f"{BLOCK}.", f"{self.block}.")

    async def ask(self, question: Question) -> Answer:
        """By the sidecar's address and local ports."""
        match question:
            case HttpQuestion(caller, request):
                return await self._exchange(caller, 15001, encode(request))
            case PlainQuestion(pod, port, request):
                return await self._exchange(pod, port, encode(request))
            case TcpQuestion(caller, service, number):
                namespace, _, name = service.partition("/")
                local = self.server.mesh.bound_ports[PortRef(ServiceRef(namespace, name), number)]
                return await self._exchange(caller, local, HELLO)

    async def _exchange(self, member: Member, port: int, sent: bytes) -> Answer:
        address = f"{self.block}.{member.number}"
        return await exchange(lambda: asyncio.open_connection(address, port), sent)


def as_list(documents: Iterable[Document]) -> str:
    """Documents as one file."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})


def _marker(number: int) -> Document:
    """By which a publication is known."""
    meta = {"namespace": "east", "name": f"mesh-{number}"}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}


@asynccontextmanager
async def playing(folder: Path, documents: Sequence[Document]) -> AsyncIterator[Fleet]:
    """Start everything; `documents` is the first mesh, in which the whole cast is."""
    async with AsyncExitStack() as stack:
        block = stack.enter_context(free_block())
        server = await stack.enter_async_context(
            running(folder, as_list(documents).replace(f"{BLOCK}.", f"{block}."))
        )
        fleet = BoundFleet(folder / "objects", server, block=block)
        for member in CAST:
            ports = APP_PORTS if member.meshed else PLAIN_PORTS
            host = f"{block}.{member.number + (100 if member.meshed else 0)}"
            for port in ports:
                server_ = await asyncio.start_server(application(member, port), host, port)
                stack.callback(server_.close)
        envoys = [await _start_sidecar(stack, fleet, member, folder) for member in CALLERS]
        for envoy in envoys:
            await envoy.wait_until_ready()
        yield fleet


@asynccontextmanager
async def running(
    folder: Path, text: str, *, address: Address | None = None
) -> AsyncIterator[app.Running]:
    """The control plane over a folder with one file."""
    objects = folder / "objects"
    objects.mkdir()
    (objects / "objects.json").write_text(text)
    config = parse_serve(
        files=[objects],
        xds_address="127.0.0.1:0",
        state_folder=folder / "state",
        mesh=parse_mesh(),
    )
    config = config if address is None else replace(config, xds_address=address)
    async with app.running(config) as server:
        yield server


async def _start_sidecar(
    stack: AsyncExitStack, fleet: Fleet, member: Member, folder: Path
) -> Sidecar:
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
    fleet.proxies.append(member.key)
    return envoy


# ---------------------------------------------------------------- applications


def application(member: Member, port: int) -> Talk:
    """Talks as an application does: it answers requests and lines alike, with its name."""

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

    return converse


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


HELLO = b"hello\n"


def encode(request: Request) -> bytes:
    """A request, as its sender writes it."""
    lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {request.host}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.method in ("POST", "PUT", "PATCH"):
        lines.append("content-length: 0")
    return "\r\n".join([*lines, "", ""]).encode()


async def exchange(connect: Connect, sent: bytes) -> Answer:
    """Send and read one answer, of whatever kind, on a connection of its own."""
    try:
        async with asyncio.timeout(_TIME_TO_ANSWER):
            reader, writer = await connect()
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
    body = await reader.readexactly(int(headers.get("content-length", "0")) if has_body else 0)
    if pod and has_body:
        return Answer(pod, status, json.loads(body))
    return Answer(pod, status, text=body.decode(errors="replace").strip())
