"""Our server as a process of the stream benchmark; commands are those of the Go servers."""

import asyncio
import base64
import json
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from benchmarks.ads.resources import ROUTE_NAME, Written, marked
from smi_xds.ads.cache import Cache
from smi_xds.ads.server import listening
from smi_xds.ads.status import Status
from smi_xds.app import garbage
from smi_xds.app.heaps import share_heaps
from smi_xds.app.pulse import Pulse
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import ENDPOINTS, ROUTES, Need, Resource, ResourceSet

Command = Mapping[str, Any]
Layer = dict[str, Resource]


class Ours:
    """One server and the resources that all nodes share."""

    def __init__(self) -> None:
        self._cache = Cache()
        self._layers: dict[TypeUrl, Layer] = {}
        self._templates: dict[TypeUrl, Layer] = {}
        self._nodes: tuple[str, ...] = ()
        self._prepared = b""

    async def handle(self, command: Command, stack: AsyncExitStack) -> object:
        """Do one command; what it replies."""
        match command["cmd"]:
            case "start":
                return await self._start(Path(command["resources"]), stack)
            case "nodes":
                self._nodes = tuple(f"bench/proxy-{index}" for index in range(command["n"]))
                self._publish()
            case "prepare":
                template = self._templates[ROUTES][ROUTE_NAME].body
                self._prepared = marked(template, command["marker"])
            case "push":
                return self._push()
            case "churn":
                return await self._churn(command)
            case "usage":
                used = resource.getrusage(resource.RUSAGE_SELF)
                return {"cpu": used.ru_utime + used.ru_stime}
            case "tasks":
                # Not with the usage: to list thousands of them takes longer than a round.
                return {"tasks": len(asyncio.all_tasks())}
            case other:
                return {"error": f"unknown command {other}"}
        return {}

    async def _start(self, path: Path, stack: AsyncExitStack) -> object:
        for loaded in _load(path):
            self._layers.setdefault(loaded.type, {})[loaded.name] = loaded
        self._templates = {type_: dict(layer) for type_, layer in self._layers.items()}
        self._publish()
        serving = listening(self._cache, Status(), host="127.0.0.1", port=0)
        port = await stack.enter_async_context(serving)
        garbage.settle()  # as our own process does after its first sync
        return {"address": f"127.0.0.1:{port}"}

    def _replace(self, changed: Layer, type_: TypeUrl) -> None:
        self._layers[type_] = {**self._layers[type_], **changed}

    def _publish(self) -> None:
        resources = ResourceSet({type_: (layer,) for type_, layer in self._layers.items()})
        self._cache.publish(dict.fromkeys(self._nodes, resources))

    def _push(self) -> object:
        at = time.monotonic_ns()
        old = self._templates[ROUTES][ROUTE_NAME]
        self._replace({old.name: _with_body(old, self._prepared)}, ROUTES)
        self._publish()
        return {"at": at, "done": time.monotonic_ns()}

    async def _churn(self, command: Command) -> object:
        """Change load assignments at a rate; rounds begin when those of our own process would."""
        templates = tuple(self._templates[ENDPOINTS].values())
        count = int(command["rate"] * command["seconds"])
        interval = int(1e9 / command["rate"])
        pulse, published = Pulse(), 0

        async def publish() -> None:
            nonlocal published
            while done < count or pulse.is_due:
                await pulse.next()
                self._publish()
                published += 1
                pulse.served()
                await asyncio.sleep(0)

        start, done = time.monotonic_ns(), 0
        async with asyncio.TaskGroup() as group:
            group.create_task(publish())
            while done < count:
                due = min((time.monotonic_ns() - start) // interval + 1, count)
                for number in range(done, due):
                    old = templates[number % len(templates)]
                    body = marked(old.body, command["marker"] + number)
                    self._replace({old.name: _with_body(old, body)}, ENDPOINTS)
                if due > done:
                    done = due
                    pulse.ring()
                await asyncio.sleep((start + done * interval - time.monotonic_ns()) / 1e9)
        return {"start": start, "interval": interval, "count": count, "published": published}


def _load(path: Path) -> list[Resource]:
    return [_resource(written) for written in json.loads(path.read_bytes())]


def _resource(written: Written) -> Resource:
    needs = [Need(TypeUrl(type_), name) for type_, name in written["needs"]]
    body = base64.b64decode(written["body"])
    return Resource.of(TypeUrl(written["type"]), written["name"], body, needs=needs)


def _with_body(old: Resource, body: bytes) -> Resource:
    return Resource.of(old.type, old.name, body, needs=old.needs)


async def lines() -> AsyncIterator[bytes]:
    """Yield the lines of the standard input, until it ends."""
    loop = asyncio.get_running_loop()
    pending: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(pending.put_nowait, line)
        loop.call_soon_threadsafe(pending.put_nowait, b"")

    threading.Thread(target=read, daemon=True).start()
    while line := await pending.get():
        yield line


async def serve() -> None:
    """Do as told until the input ends."""
    ours = Ours()
    async with AsyncExitStack() as stack:
        async for line in lines():
            reply = await ours.handle(json.loads(line), stack)
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Run on the loop that our own process runs on."""
    # Lines are made as in production, for they cost time, but the output is for replies.
    with Path(os.devnull).open("w") as nowhere:
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.PrintLoggerFactory(nowhere),
        )
        share_heaps()  # as our own process does
        uvloop.run(serve())


PROGRAM: Final = (sys.executable, "-m", "benchmarks.ads.ours")
"""How to start it."""

if __name__ == "__main__":
    main()
