"""A way to a server that can fall silent: what a lost machine or network looks like."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class _End(asyncio.Protocol):
    """One end of a connection; what comes in goes out at the other."""

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self._early = bytearray()
        self._other: Any = None
        self._own: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._own = transport
        self._relay.transports.append(transport)

    def join(self, other: "_End") -> None:
        """Forward to the other end from now on."""
        self._other = other._own
        self._other.write(bytes(self._early))

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
        else:
            self._other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._other.close()


class Relay:
    """Connections to one port, forwarded until `fall_silent`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.target = ""
        """Where clients connect."""
        self.transports: list[Any] = []

    async def connect(self, near: _End) -> None:
        """A client is there: find its server."""
        loop = asyncio.get_running_loop()
        _, far = await loop.create_connection(lambda: _End(self), "127.0.0.1", self._port)
        far.join(near)
        near.join(far)

    def fall_silent(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        for transport in self.transports:
            if not transport.is_closing():
                transport.pause_reading()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    """A relay to that port of the loopback."""
    made = Relay(port)
    async with asyncio.TaskGroup() as group:

        def accepted() -> _End:
            near = _End(made)
            group.create_task(made.connect(near))
            return near

        server = await asyncio.get_running_loop().create_server(accepted, "127.0.0.1", 0)
        made.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield made
        finally:
            server.close()
            for transport in made.transports:
                transport.abort()
