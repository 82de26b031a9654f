"""What became of objects is written to the API server, if somebody wants that."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

import structlog

from smi_xds.ads.cache import Cache
from smi_xds.ads.status import Status
from smi_xds.app.pipeline import Pipeline
from smi_xds.config import ServeConfig
from smi_xds.metrics import Gauge, Metric

if TYPE_CHECKING:
    from smi_xds.writeback.desk import Sight
    from smi_xds.writeback.lease import Leadership
    from smi_xds.writeback.recorder import Recorder
    from smi_xds.writeback.replicas import Announcer, Replicas
    from smi_xds.writeback.writer import Writer

log = structlog.get_logger()

# Seconds after a bug of ours before it is tried anew.
_PAUSE: Final = 30.0
# Seconds for a last word, while somebody waits for the process to end.
_FAREWELL: Final = 1.0


@asynccontextmanager
async def writing_back(
    config: ServeConfig,
    leadership: "Leadership | None",
    *,
    cache: Cache,
    status: Status,
    pipeline: Pipeline,
) -> AsyncIterator[tuple[Metric, ...]]:
    """Write while the block runs, and while this replica leads; yields what is counted of it."""
    if leadership is None:
        yield ()
        return
    if config.kubernetes is None or not config.write_back:
        yield (leadership.gauge(),)
        return
    from smi_xds.sources.kube_connection import Connection
    from smi_xds.writeback.recorder import Recorder
    from smi_xds.writeback.replicas import Announcer, Place, Replicas, report_of
    from smi_xds.writeback.writer import Writer

    assert config.lease is not None, "read with --kubernetes"
    connection = Connection(config.kubernetes)
    await connection.open()
    place = Place(config.lease.namespace, config.lease.name)
    replicas = Replicas(connection, place)
    announcer = Announcer(
        connection,
        place,
        identity=leadership.identity,
        report=lambda: report_of(status.streams.values()),
        rounds=lambda: pipeline.rounds.number,
    )
    view = _View(cache, status, pipeline, replicas)
    writer = Writer(
        connection,
        leadership,
        look=view.look,
        mark=view.mark,
        namespaces=config.kubernetes.namespaces,
    )
    recorder = Recorder(
        connection,
        identity=leadership.identity,
        api_version=writer.api_version,
        meters=writer.meters,
    )
    queue = Gauge(
        "smi_xds_status_queue",
        "Objects whose status is to be written.",
        lambda: {"": writer.desk.queue},
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            work = _work(pipeline, leadership, announcer, _Leader(writer, recorder, replicas))
            child = tasks.create_task(work, name="write-back")
            try:
                yield (leadership.gauge(), *writer.meters.all(), queue)
            finally:
                child.cancel()
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await announcer.withdraw()
        await connection.close()


class _View:
    """What the writer looks at."""

    def __init__(
        self, cache: Cache, status: Status, pipeline: Pipeline, replicas: "Replicas"
    ) -> None:
        self._replicas = replicas
        self._cache = cache
        self._status = status
        self._pipeline = pipeline

    def look(self) -> "Sight | None":
        """The mesh and its proxies; None before the first round."""
        from smi_xds.writeback.desk import Sight
        from smi_xds.writeback.tally import fleet_of

        mesh = self._pipeline.mesh
        if mesh is None:
            return None
        fleet = fleet_of(mesh, self._status.streams.values(), self._replicas.remotes)
        # The number may be that of a later round than the mesh's: more is asked for then, not less.
        return Sight(mesh=mesh, round=self._cache.round, fleet=fleet)

    def mark(self) -> object:
        """What differs whenever there is something new to look at."""
        streams, rounds = self._status.streams, self._pipeline.rounds
        behind = sum(1 for stream in streams.values() if stream.behind_since)
        newest = max(streams, default=0)
        others = (self._replicas.heard, len(self._replicas.remotes))
        return (rounds.number, self._status.answered_at, len(streams), newest, behind, others)


@dataclass(frozen=True, slots=True)
class _Leader:
    """Who works while this replica leads."""

    writer: "Writer"
    recorder: "Recorder"
    replicas: "Replicas"


async def _work(
    pipeline: Pipeline, leadership: "Leadership", announcer: "Announcer", leader: _Leader
) -> NoReturn:
    """Tell the leader, or be it, for ever."""
    await pipeline.rounds.newer_than(0)
    while True:
        try:
            await _follow(leadership, announcer)
            await _lead(leadership, leader)
        except Exception:
            # A bug of ours. What objects say is worth less than the sidecars that are served.
            log.exception("write_back_failed")
            await asyncio.sleep(_PAUSE)


async def _follow(leadership: "Leadership", announcer: "Announcer") -> None:
    """Tell what the proxies of this replica have, until it leads."""
    if leadership.is_leader:
        return
    async with asyncio.TaskGroup() as tasks:
        child = tasks.create_task(_again(announcer.step), name="announcer")
        await leadership.wait()
        child.cancel()
    await announcer.withdraw()


async def _lead(leadership: "Leadership", leader: _Leader) -> None:
    """Write, until it does not lead any more."""
    writer = leader.writer
    for each in (writer, leader.recorder, leader.replicas):
        each.begin()
    await leader.replicas.step()
    async with asyncio.TaskGroup() as tasks:
        children = [
            tasks.create_task(writer.run(), name="status"),
            tasks.create_task(leader.recorder.run(lambda: writer.desk.news), name="events"),
            tasks.create_task(_again(leader.replicas.step), name="replicas"),
        ]
        await leadership.ends()
        for child in children:
            child.cancel()


async def _again(step: Callable[[], Awaitable[None]]) -> NoReturn:
    """Take a step every other second, the first one after that time."""
    from smi_xds.writeback.replicas import TICK

    while True:
        await asyncio.sleep(TICK)
        await step()
