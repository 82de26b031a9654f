"""The demo's HTTP/1.1: client and server against each other, and against bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from smi_xds.demo import http1
from smi_xds.demo.http1 import Connection, HttpError, Message
from tests.support.wait import eventually_async


async def _echo(asked: Message) -> bytes:
    method, path, _ = asked.first_line
    host = asked.headers["host"]
    return http1.response(200, f"{method} {host}{path}".encode(), headers={"X-Who": "echo"})


@asynccontextmanager
async def serving(handler: http1.Handler = _echo) -> AsyncIterator[int]:
    server = await http1.serve("127.0.0.1", 0, handler)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[int]:
    """A server that writes these bytes after the first request, and closes."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


GET = http1.request("GET", "/x", host="h", headers={"a": "b"})


async def test_one_connection_carries_many_requests() -> None:
    """Requests on one connection are answered in order."""
    async with serving() as port:
        connection = await Connection.open("127.0.0.1", port)
        answers = [
            await connection.send(http1.request("POST", f"/{n}", host="shop", headers={}))
            for n in range(3)
        ]
        connection.close()

    assert [answer.body for answer in answers] == [b"POST shop/0", b"POST shop/1", b"POST shop/2"]
    assert answers[0].first_line[1] == "200"
    assert answers[0].headers["x-who"] == "echo"


async def test_a_server_that_says_close_ends_the_connection() -> None:
    """After `connection: close` the client does not use the connection again."""
    async with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 0\r\n\r\n") as p:
        connection = await Connection.open("127.0.0.1", p)
        answer = await connection.send(GET)

    assert answer.is_last
    assert not connection.is_open


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\n",
        b"x" * 70_000,
    ],
)
async def test_a_response_that_is_not_whole_is_an_error(reply: bytes) -> None:
    """A connection that ends early, or carries what we do not read, raises HttpError."""
    async with answering(reply) as port:
        connection = await Connection.open("127.0.0.1", port)
        with pytest.raises(HttpError):
            await connection.send(GET)

    assert not connection.is_open


async def test_nobody_listening_is_an_error_of_the_same_kind() -> None:
    """A refused connection raises HttpError, as a lost one does."""
    async with serving() as port:
        pass
    with pytest.raises(HttpError, match="cannot connect"):
        await Connection.open("127.0.0.1", port)


async def test_a_closed_idle_connection_is_noticed() -> None:
    """`was_closed` tells an idle connection that the server ended from a lost request."""
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as port:
        connection = await Connection.open("127.0.0.1", port)
        await connection.send(GET)
        await eventually_async(lambda: connection.was_closed)
        connection.close()
