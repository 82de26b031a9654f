"""Our server with thousands of identities, as a process of a benchmark; commands are JSON lines."""

import asyncio
import gc
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Final

import structlog
import uvloop

from benchmarks.ads.ours import Command, lines
from benchmarks.translation import PODS, world
from smi_xds.ads.cache import Cache
from smi_xds.ads.server import listening
from smi_xds.ads.status import Status
from smi_xds.app.heaps import share_heaps
from smi_xds.app.pipeline import Intake, Pipeline
from smi_xds.app.pulse import Pulse
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.embedded import EmbeddedIssuer
from smi_xds.identity.issuer import wall_clock
from smi_xds.mesh.model import MeshSettings
from smi_xds.objects.kube import Pod, ServiceAccount
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import Subject, TrafficSplit, TrafficTarget
from smi_xds.objects.store import Applied, Origin, Replaced, Store, Synced
from smi_xds.xds.translate import warm_up
from tests.support.identity import mk_authority

_ORIGIN: Final = Origin("benchmark")
PROBES: Final = 100
"""How many of the pods may call the first service, and so are told of its weights."""


class Issuing:
    """A mesh in which each pod has an account of its own, and who signs for them."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self._authority = CurrentAuthority(mk_authority(now=wall_clock()))
        self._issuer = EmbeddedIssuer(self._authority, clock=self._clock)
        self._store, self._pulse = Store([_ORIGIN.source]), Pulse()
        self._intake = Intake(self._store, self._pulse)
        self._cache = Cache()
        self._pipeline = Pipeline(
            self._store,
            settings=MeshSettings(),
            issuer=self._issuer,
            publish=self._cache.publish,
        )
        self._split: TrafficSplit | None = None
        self._began = 0.0

    def _clock(self) -> datetime:
        return wall_clock() + self._ahead

    async def handle(self, command: Command, stack: AsyncExitStack) -> object:
        """Do one command; what it replies."""
        match command["cmd"]:
            case "start":
                return await self._start(command["services"], stack)
            case "change":
                return self._change(command["weight"])
            case "rotate":
                self._authority.replace(mk_authority(now=wall_clock()))
                return self._reissue()
            case "expire":
                # As for a laptop that slept: what there was is of no use any more.
                self._ahead += timedelta(hours=25)
                return self._reissue()
            case "standing":
                seconds = time.perf_counter() - self._began
                return {"done": self._issuer.is_settled, "seconds": seconds}
            case "usage":
                used = resource.getrusage(resource.RUSAGE_SELF)
                return {"cpu": used.ru_utime + used.ru_stime}
            case other:
                return {"error": f"unknown command {other}"}

    async def _start(self, services: int, stack: AsyncExitStack) -> object:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        port = await stack.enter_async_context(
            listening(self._cache, Status(), host="127.0.0.1", port=0)
        )
        objects = tuple(_objects(services))
        [self._split] = [it for it in objects if isinstance(it, TrafficSplit) and it.name == "svc0"]
        self._began = time.perf_counter()
        self._intake.apply(_ORIGIN, [Replaced(objects), Synced()])
        children = [
            tasks.create_task(self._pipeline.run(self._pulse)),
            tasks.create_task(self._issuer.run(self._pulse.ring)),
        ]

        def end() -> None:
            for child in children:
                child.cancel()

        stack.callback(end)
        await self._pipeline.rounds.newer_than(0)
        return {
            "address": f"127.0.0.1:{port}",
            "seconds": time.perf_counter() - self._began,
            "nodes": [str(it.proxy) for it in _probes()],
        }

    def _change(self, weight: int) -> object:
        assert self._split is not None
        first, second = self._split.backends
        backends = (
            replace(first, weight=Decimal(weight)),
            replace(second, weight=Decimal(100 - weight)),
        )
        at = time.monotonic_ns()
        self._intake.apply(_ORIGIN, [Applied(replace(self._split, backends=backends))])
        return {"at": at}

    def _reissue(self) -> object:
        self._began = time.perf_counter()
        self._pulse.ring()
        return {}


def _objects(services: int) -> Iterator[MeshObject]:
    """The mesh of the translation benchmark with an account for each pod."""
    for it in world(services, "intercepted"):
        match it:
            case Pod() if not it.name.endswith("-0"):  # the first keeps that of the service
                yield ServiceAccount(namespace=it.namespace, name=it.name)
                yield replace(it, service_account=it.name)
            case TrafficTarget(name="svc0"):
                yield replace(it, sources=_callers())
            case _:
                yield it


def _callers() -> tuple[Subject, ...]:
    return tuple(
        Subject(kind="ServiceAccount", name=it.name.removesuffix("-0"), namespace=it.namespace)
        for it in _probes()
    )


def _probes() -> Iterator[Pod]:
    found = (it for it in world(-(-PROBES // PODS), "intercepted") if isinstance(it, Pod))
    return islice(found, PROBES)


async def serve() -> None:
    """Do as told until the input ends."""
    issuing = Issuing()
    async with AsyncExitStack() as stack:
        async for line in lines():
            reply = await issuing.handle(json.loads(line), stack)
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Run on the loop that our own process runs on."""
    gc.disable()  # as `serve` does; the first round switches it on
    with Path(os.devnull).open("w") as nowhere:
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
            logger_factory=structlog.PrintLoggerFactory(nowhere),
        )
        share_heaps()
        warm_up()
        uvloop.run(serve())


PROGRAM: Final = (sys.executable, "-m", "benchmarks.ads.issuing")
"""How to start it."""

if __name__ == "__main__":
    main()
