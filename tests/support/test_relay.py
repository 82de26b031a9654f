"""The relay passes on what is said, and does nothing else until it is told."""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress

import pytest

from tests.support.relay import listening, relaying


def _answering(name: bytes) -> AbstractAsyncContextManager[asyncio.Server]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(name + b" " + line)
        writer.transport.abort()

    return listening(talk)


async def _ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"hello\n")
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_turns_and_outages() -> None:
    """Targets take turns; one that is gone is passed over, and a relay that is closed says no."""
    async with _answering(b"1") as first, _answering(b"2") as second:
        targets = [server.sockets[0].getsockname()[:2] for server in (first, second)]
        async with relaying(*targets) as relay:
            answers = [await _ask(relay.port) for _ in range(3)]
            assert answers == [b"1 hello\n", b"2 hello\n", b"1 hello\n"]
            first.close()
            assert [await _ask(relay.port) for _ in range(2)] == [b"2 hello\n"] * 2
            relay.is_open = False
            assert await _ask(relay.port) == b""


async def test_a_cut() -> None:
    """Who was talking is cut off; who comes afterwards is served."""
    async with (
        _answering(b"1") as server,
        relaying(server.sockets[0].getsockname()[:2]) as relay,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"1 hello\n"
        relay.cut()
        with pytest.raises(ConnectionError):
            await reader.readline()
        writer.transport.abort()
        assert relay.cuts == 1
        assert await _ask(relay.port) == b"1 hello\n"
