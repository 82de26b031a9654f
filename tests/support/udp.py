"""UDP in a live mesh: applications that say their name, and callers that may hear nothing."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from smi_xds.mesh.model import PortRef
from smi_xds.values import ServiceRef
from tests.support.live import LiveMesh

# So long a datagram that comes back at all may take, under load; and so long is silence.
PATIENCE, SILENCE = 10.0, 0.5

Answer = Callable[[str, bytes], bytes]
"""What the application of a pod of this name says to a datagram."""


def say_name(name: str, data: bytes) -> bytes:
    """The pod's name, a colon, and the datagram."""
    return name.encode() + b":" + data


class _Application(asyncio.DatagramProtocol):
    def __init__(self, name: str, answer: Answer) -> None:
        self._name, self._answer = name, answer
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override] # it is one
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        assert self._transport is not None
        self._transport.sendto(self._answer(self._name, data), address)


@asynccontextmanager
async def udp_application(
    name: str, address: str, port: int, *, answer: Answer = say_name
) -> AsyncIterator[None]:
    """Something that answers at an address."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Application(name, answer), local_addr=(address, port)
    )
    try:
        yield
    finally:
        transport.close()


@asynccontextmanager
async def udp_applications(mesh: LiveMesh, *, answer: Answer = say_name) -> AsyncIterator[None]:
    """Something that answers on every UDP port of every workload."""
    async with AsyncExitStack() as stack:
        for workload in mesh.server.mesh.workloads.values():
            for port in workload.udp_ports:
                name, address = workload.proxy.name, workload.app_address
                application = udp_application(name, address, port.number, answer=answer)
                await stack.enter_async_context(application)
        yield


@asynccontextmanager
async def answering(name: str, here: socket.socket) -> AsyncIterator[None]:
    """Something that answers on a socket."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Application(name, say_name), sock=here
    )
    try:
        yield
    finally:
        transport.close()


@dataclass(slots=True)
class Session(asyncio.DatagramProtocol):
    """One client's address and port; what came back waits in a queue."""

    received: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)
    transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override] # it is one
        """Keep what to send with."""
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Keep the datagram."""
        self.received.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there: to the caller that is silence, too."""

    async def ask(self, data: bytes, *, patience: float = PATIENCE) -> bytes:
        """Send a datagram and return the next that comes back, empty if none does."""
        assert self.transport is not None
        self.transport.sendto(data)
        try:
            async with asyncio.timeout(patience):
                return await self.received.get()
        except TimeoutError:
            return b""


@asynccontextmanager
async def udp_session(mesh: LiveMesh, source: str, service: str) -> AsyncIterator[Session]:
    """A session of `source` with `namespace/service:port`, by its sidecar's local port."""
    name, _, number = service.rpartition(":")
    namespace, _, short = name.partition("/")
    ref = PortRef(ServiceRef(namespace, short), int(number), udp=True)
    local = (mesh.workload(source).address, mesh.server.mesh.bound_ports[ref])
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.connect(local)
    async with session_on(here) as session:
        yield session


@asynccontextmanager
async def session_on(connected: socket.socket) -> AsyncIterator[Session]:
    """A session of a socket that is connected already."""
    connected.setblocking(False)
    transport, session = await asyncio.get_running_loop().create_datagram_endpoint(
        Session, sock=connected
    )
    try:
        yield session
    finally:
        transport.close()


async def ask(mesh: LiveMesh, source: str, service: str, data: bytes = b"?") -> bytes:
    """One datagram of a session of its own, and its answer."""
    async with udp_session(mesh, source, service) as session:
        return await session.ask(data)


async def shares(mesh: LiveMesh, source: str, service: str, count: int) -> Counter[str]:
    """Who answered, of that many sessions; silence counts as the empty name."""
    found: Counter[str] = Counter()
    for _ in range(count):
        async with udp_session(mesh, source, service) as session:
            answer = await session.ask(b"?", patience=SILENCE)
            found[answer.decode().partition(":")[0]] += 1
    return found
