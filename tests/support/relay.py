"""TCP in the middle: passes connections on, in turn to several targets, and cuts them at a word."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TypeAlias

Target: TypeAlias = tuple[str, int]

_CHUNK = 1 << 16


class Relay:
    """What stands between a client and those whom it calls."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.is_open = True
        """Whether new connections are passed on; otherwise they are broken off at once."""
        self.cuts = 0
        """How many connections were cut so far."""
        self.passed = 0
        """How many were passed on."""
        self.port = 0
        self._targets = targets
        self._turns = count()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Reset all connections, in the midst of whatever is said."""
        self.cuts += len(self._writers)
        for writer in self._writers:
            # Without lingering the end is a reset, not a farewell.
            connected = writer.get_extra_info("socket")
            with suppress(OSError):  # it is over already
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def cut_every(self, seconds: float) -> None:
        """Cut again and again, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            self.cut()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection until either end has had enough."""
        self._writers.add(writer)
        try:
            onward = await self._connect() if self.is_open else None
            if onward is None:
                return
            self.passed += 1
            there_reader, there_writer = onward
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_pump(reader, there_writer))
                    tasks.create_task(_pump(there_reader, writer))
            finally:
                there_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The next of the targets that takes connections."""
        first = next(self._turns)
        for number in range(len(self._targets)):
            host, port = self._targets[(first + number) % len(self._targets)]
            with suppress(OSError):
                return await asyncio.open_connection(host, port)
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    # An end for one side is the end for both: nobody here half-closes.
    writer.transport.abort()


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]],
    *,
    port: int = 0,
) -> AsyncIterator[asyncio.Server]:
    """A server whose connections are over when the block is."""
    async with asyncio.TaskGroup() as tasks:

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.create_task(serve(reader, writer))

        server = await asyncio.start_server(begin, "127.0.0.1", port)
        try:
            yield server
        finally:
            server.close()
    await asyncio.sleep(0)  # what was aborted is closed in the next turn of the loop


@asynccontextmanager
async def relaying(*targets: Target, port: int = 0) -> AsyncIterator[Relay]:
    """Listen on 127.0.0.1, at any port or that one, until the end of the block."""
    relay = Relay(targets)
    async with listening(relay.serve, port=port) as server:
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            relay.is_open = False
            relay.cut()
