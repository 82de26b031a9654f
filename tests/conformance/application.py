"""The application of the official suite: it calls when it is told to, and counts what happens.

`POST /call` makes a request for its caller, `/echo` answers, and `/metrics` gives (GET) or forgets
(DELETE) what was counted. An answer below 400 is a success; a connection that is lost is neither.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from smi_xds.demo import http1

PORT = 9091
SERVICE_NAME = "servicename"

Metrics = dict[str, list[Any]]


@dataclass(slots=True)
class Application:
    """One of them; `sidecar` is where it hands over what it calls."""

    name: str
    sidecar: str
    received: list[str] = field(default_factory=list)
    succeeded: list[dict[str, object]] = field(default_factory=list)
    failed: list[dict[str, object]] = field(default_factory=list)

    async def answer(self, asked: http1.Message) -> bytes:
        """Answer one request."""
        method, path, _ = asked.first_line
        match method, path.partition("?")[0]:
            case "POST", "/call":
                self._note(asked)
                return await self._call(json.loads(asked.body))
            case "GET", "/metrics":
                return _json(200, self.metrics)
            case "DELETE", "/metrics":
                for counted in (self.received, self.succeeded, self.failed):
                    counted.clear()
                return _json(200, {})
            case _, "/echo":
                self._note(asked)
                return _json(200, {"method": method, "headers": dict(asked.headers)})
            case _:
                return _json(404, {"error": f"no page {path}"})

    @property
    def metrics(self) -> Metrics:
        """What was counted since the last time that it was forgotten."""
        return {
            "ReqReceived": [*self.received],
            "RespSucceeded": [*self.succeeded],
            "RespFailed": [*self.failed],
        }

    def _note(self, asked: http1.Message) -> None:
        self.received.append(asked.headers.get(SERVICE_NAME, ""))

    async def _call(self, wanted: dict[str, Any]) -> bytes:
        headers = {SERVICE_NAME: self.name, **(wanted.get("headers") or {})}
        url, body = wanted["url"], wanted.get("body") or ""
        try:
            answer = await request(
                self.sidecar, wanted.get("method") or "GET", url, body=body, headers=headers
            )
        except http1.HttpError as error:
            return _json(500, {"error": str(error)})
        status = int(answer.first_line[1])
        counted = self.succeeded if status < 400 else self.failed
        counted.append({"URL": url, "Status": status})
        return _json(200, {"status": status})


@asynccontextmanager
async def serving(application: Application, host: str) -> AsyncIterator[None]:
    """Let it listen as long as the block lasts."""
    server = await http1.serve(host, PORT, application.answer)
    try:
        yield
    finally:
        server.close()


async def request(
    sidecar: str, method: str, url: str, *, body: str = "", headers: dict[str, str] | None = None
) -> http1.Message:
    """Ask by one's own sidecar, which finds the service by its host; HttpError where it is lost."""
    parts = urlsplit(url)
    content = body.encode()
    lines = [f"{method} {parts.path or '/'} HTTP/1.1", f"host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [f"content-length: {len(content)}", "", ""]
    try:
        # From the pod's own address: a sidecar lets nobody else out.
        opened = await asyncio.open_connection(sidecar, 15001, local_addr=(sidecar, 0))
    except OSError as error:
        raise http1.HttpError(f"the sidecar at {sidecar} takes no connection") from error
    connection = http1.Connection(*opened)
    try:
        return await connection.send("\r\n".join(lines).encode() + content)
    finally:
        connection.close()


def _json(status: int, content: object) -> bytes:
    return http1.response(
        status, json.dumps(content).encode(), headers={"content-type": "application/json"}
    )
