"""As much HTTP/1.1 as the demo's applications need: keep-alive, bodies with a length, no more.

Written out on asyncio streams, so that what is measured is the sidecars and not a framework, and
so that nothing retries or reconnects behind our back: a request that loses its connection is a
reset, and is counted as one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias

# A head longer than this is no message of ours; Envoy's own limit is 60 KiB.
_LONGEST_HEAD = 65536


class HttpError(Exception):
    """The connection ended inside a message, could not be opened, or carries something else."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response: its first line in three parts, its headers in lower case."""

    first_line: tuple[str, str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def is_last(self) -> bool:
        """Whether the sender closes the connection after it (RFC 9112, section 9.6)."""
        return self.headers.get("connection", "").lower() == "close"


Handler: TypeAlias = Callable[[Message], Awaitable[bytes]]
"""Answers a request with an encoded response."""


def request(method: str, path: str, *, host: str, headers: Mapping[str, str]) -> bytes:
    """Encode a request without a body."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", "content-length: 0"]
    lines += (f"{name}: {value}" for name, value in headers.items())
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def response(status: int, body: bytes, *, headers: Mapping[str, str]) -> bytes:
    """Encode a response; the reason phrase may be empty (RFC 9112, section 4)."""
    lines = [f"HTTP/1.1 {status} ", f"content-length: {len(body)}"]
    lines += (f"{name}: {value}" for name, value in headers.items())
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Read one message; None where the connection ended before it began."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers = dict(_header(line) for line in lines)
        if "transfer-encoding" in headers:
            raise HttpError("a body without a length")
        length = int(headers.get("content-length", "0"))
        body = await reader.readexactly(length) if length else b""
    except asyncio.IncompleteReadError as error:
        if error.partial or error.expected:
            raise HttpError("the connection ended inside a message") from error
        return None
    except (OSError, ValueError, asyncio.LimitOverrunError) as error:
        raise HttpError(str(error)) from error
    start, _, rest = first.partition(" ")
    middle, _, end = rest.partition(" ")
    return Message((start, middle, end), headers, body)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


class Connection:
    """A client's keep-alive connection: one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_open = True

    @classmethod
    async def open(cls, host: str, port: int, *, source: str = "") -> Self:
        """Connect, from that address if one is given, or raise HttpError."""
        local = (source, 0) if source else None
        try:
            opened = await asyncio.open_connection(
                host, port, limit=_LONGEST_HEAD, local_addr=local
            )
            return cls(*opened)
        except OSError as error:
            raise HttpError(f"cannot connect to {host}:{port}: {error.strerror}") from error

    @property
    def was_closed(self) -> bool:
        """Whether the server ended the connection while it was idle, which it may."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def send(self, encoded: bytes) -> Message:
        """Send a request and read its response; HttpError where the connection is lost."""
        self._writer.write(encoded)
        try:
            answer = await read_message(self._reader)
        except HttpError:
            self.close()
            raise
        if answer is None:
            self.close()
            raise HttpError("the connection ended before the response")
        if answer.is_last:
            self.close()
        return answer

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        self._writer.close()


async def serve(host: str, port: int, handler: Handler) -> asyncio.Server:
    """Answer every request on every connection by `handler`, in order."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (asked := await read_message(reader)) is not None:
                writer.write(await handler(asked))
                if asked.is_last:
                    break
        except HttpError:
            pass  # the sidecar went away: it counts and logs that itself
        finally:
            writer.close()

    return await asyncio.start_server(converse, host, port, limit=_LONGEST_HEAD)
