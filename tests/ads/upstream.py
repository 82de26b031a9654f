"""A small HTTP upstream and a keep-alive client, to see traffic while configuration changes."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


def free_port() -> int:
    """A port that nobody has at the moment; a listener of Envoy's cannot take port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def upstream(name: str) -> AsyncIterator[int]:
    """Answers every request with its name; yields its port."""
    body = name.encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()


@dataclass(slots=True)
class Traffic:
    """What a client that never stops asking was told: `200 a`, `503 …`."""

    seen: Counter[str] = field(default_factory=Counter)
    connections: int = 0


@asynccontextmanager
async def traffic(port: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Traffic]:
    """One request after the other on one connection, without retries, while the block runs."""
    result = Traffic()

    async def run() -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
            result.connections += 1
            try:
                while True:
                    result.seen[await _request(reader, writer)] += 1
            except (asyncio.IncompleteReadError, ConnectionError):
                result.seen["reset"] += 1
            finally:
                writer.close()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        yield result
        task.cancel()


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    body = (await reader.readexactly(length)).decode()
    return f"{head.split()[1]} {body}"
