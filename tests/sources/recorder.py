"""A sink for tests of sources: a store, and every picture of accounts that it gave."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from smi_xds.objects.store import Event, Origin, Sink, Source, Store
from smi_xds.objects.views import Objects
from smi_xds.problems import ProblemCode


class Recorder:
    """Keeps what a source says."""

    def __init__(self, source: str) -> None:
        self.store = Store([source])
        self.pictures: list[set[str]] = []

    def apply(self, origin: Origin, events: Sequence[Event], /) -> None:
        for event in events:
            self.store.apply(origin, event)
        self.pictures.append(self.accounts)

    def is_synced(self) -> bool:
        return self.store.synced

    def has(self, account: str) -> bool:
        return account in self.accounts

    @property
    def objects(self) -> Objects:
        return self.store.objects()

    @property
    def accounts(self) -> set[str]:
        return {ref.name for ref in self.store.objects().accounts}

    @property
    def codes(self) -> list[ProblemCode]:
        return [problem.code for problem in self.store.objects().problems]


class Opened(Source, Protocol):
    """A source that is made ready before it runs."""

    async def open(self) -> None: ...


@asynccontextmanager
async def running(source: Opened) -> AsyncIterator[Recorder]:
    """Run a source until the end of the block."""
    sink = Recorder(source.name)
    await source.open()
    async with running_into(source, sink):
        yield sink


@asynccontextmanager
async def running_into(source: Source, sink: Sink) -> AsyncIterator[None]:
    """Run an opened source into a sink until the end of the block."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(source.run(sink))
        yield
        task.cancel()
