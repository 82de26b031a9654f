"""Who is connected, what each was sent, and what it said about it.

Written by the streams, read by the debug API, the command line and the dashboard. Also keeps
account of rounds: when was something published, and when had the last proxy acknowledged it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count
from typing import Final

from smi_xds.ads.feed import Feed, Happening, Kind
from smi_xds.ads.meters import GRPC_LIMIT, Meters, type_label
from smi_xds.ads.session import Acked, Close, Node, Rejected, Response, Stale
from smi_xds.values import TypeUrl

_ROUNDS: Final = 256  # at a round every 5 ms that is more than a second of history
_TEXT: Final = 2000  # of a NACK; Envoy repeats whole resources in some


class Sync(StrEnum):
    """How a type stands on a stream; one that is not listed was never asked for."""

    IDLE = "idle"
    """Asked for, and nothing to send yet."""
    SYNCED = "synced"
    STALE = "stale"
    """Sent and not answered."""
    NACKED = "nacked"


@dataclass(slots=True)
class TypeStatus:
    """What happened to one type on one stream; times are of `Status.clock`."""

    nonce_sent: str = ""
    version_sent: str = ""
    sent_at: float = 0.0
    nonce_acked: str = ""
    version_acked: str = ""
    acked_at: float = 0.0
    nonce_nacked: str = ""
    nacked_at: float = 0.0
    error: str = ""
    """The text of the last NACK, as long as something of it stays refused."""
    refused: frozenset[str] = frozenset()
    """What stays refused."""
    responses: int = 0
    bytes: int = 0
    last_bytes: int = 0
    """Of the last response."""
    acks: int = 0
    nacks: int = 0
    stale: int = 0

    @property
    def sync(self) -> Sync:
        """How it stands."""
        match self.nonce_sent:
            case "":
                return Sync.IDLE
            case self.nonce_nacked:
                return Sync.NACKED
            case self.nonce_acked:
                # Other resources were accepted since; those refused are not in use all the same.
                return Sync.NACKED if self.refused else Sync.SYNCED
            case _:
                return Sync.STALE


@dataclass(slots=True, eq=False)
class StreamStatus:
    """One connected stream."""

    number: int
    node: Node
    is_delta: bool
    peer: str
    connected_at: float
    """By the wall clock."""
    is_known: bool
    """Whether anything is configured for this node."""
    changed_at: float = 0.0
    """By the wall clock: when it was last given something new."""
    types: dict[TypeUrl, TypeStatus] = field(default_factory=dict)
    behind_since: int = 0
    """The first round that it has not acknowledged; 0 where it has all."""
    was_settled: bool = False
    """Whether it ever had everything: else it also lacks what was there before it came."""

    def of(self, type_: TypeUrl) -> TypeStatus:
        """The status of a type, new where it is the first time."""
        found = self.types.get(type_)
        if found is None:
            found = self.types[type_] = TypeStatus()
        return found


@dataclass(slots=True, kw_only=True)
class Round:
    """One publication."""

    number: int
    since: float
    """When the first change that it brings was seen."""
    published_at: float
    waiting: int
    """Streams that have not acknowledged it."""
    streams: int = 0
    """Streams that it concerned."""
    converged_at: float | None = None
    """When the last of them had acknowledged everything, or refused it."""


class Status:
    """All streams and the latest rounds."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.meters = Meters()
        self.feed = Feed()
        self._wall_clock = wall_clock
        self.streams: dict[int, StreamStatus] = {}
        self.rounds: deque[Round] = deque(maxlen=_ROUNDS)
        self.answered_at = 0.0
        """When the last answer of any proxy came."""
        self._numbers = count(1)
        self._behind = 0
        self._calm = asyncio.Event()
        self._published = asyncio.Event()

    # ------------------------------------------------------------------ rounds

    def round_begins(self, number: int, since: float | None = None) -> None:
        """Streams are about to be told; those that are behind already are behind with this, too."""
        behind, now = self._behind, self.clock()
        begun = Round(
            number=number,
            since=now if since is None else since,
            published_at=now,
            waiting=behind,
            streams=behind,
        )
        self.rounds.append(begun)

    def round_published(self, number: int) -> None:
        """All that are concerned have been told."""
        last = self.rounds[-1]
        assert last.number == number
        if not last.waiting:
            last.converged_at = self.clock()
        if not self._behind:
            self._calm.set()
        self._published.set()
        if self.feed.is_watched:
            now = self._wall_clock()
            self.feed.tell(Happening(kind=Kind.ROUND_PUBLISHED, at=now, round=number))

    async def published(self) -> None:
        """Wait until there was a first round."""
        await self._published.wait()

    async def converged(self, *, quiet: float = 0.0) -> Round:
        """
        Wait until every connected proxy has answered all it was sent; the last round.

        An Envoy asks for more once it has read an answer (for the routes of a new listener).
        `quiet` seconds in which none does make sure that it is over; `answered_at` is when.
        """
        await self._published.wait()
        while True:
            await self._calm.wait()
            before = self.answered_at
            if quiet:
                await asyncio.sleep(quiet)
            if self._calm.is_set() and self.answered_at == before:
                return self.rounds[-1]

    # ------------------------------------------------------------------ streams

    def opened(self, node: Node, *, is_delta: bool, peer: str, is_known: bool) -> StreamStatus:
        """A stream begins; it is behind until it has been given everything."""
        now = self._wall_clock()
        stream = StreamStatus(
            number=next(self._numbers),
            node=node,
            is_delta=is_delta,
            peer=peer,
            connected_at=now,
            is_known=is_known,
            changed_at=now,
        )
        self.streams[stream.number] = stream
        self.fell_behind(stream)
        self._tell(Kind.CONNECTED, stream)
        return stream

    def closed(self, stream: StreamStatus) -> None:
        """The stream ended; nothing is awaited from it any more."""
        self.settled(stream)
        del self.streams[stream.number]
        self._tell(Kind.DISCONNECTED, stream)

    def refused(self, close: Close) -> None:
        """A stream is refused, or ended because it broke the protocol."""
        self.meters.rejected.add(close.code.value)

    def changed(self, stream: StreamStatus, *, is_known: bool, is_due: bool) -> None:
        """There are other resources for it."""
        stream.is_known = is_known
        if is_due:
            stream.changed_at = self._wall_clock()
            self.fell_behind(stream)

    def fell_behind(self, stream: StreamStatus) -> None:
        """There is something to tell it, by a new round or because it asked."""
        if stream.behind_since or not self.rounds:
            return
        last = self.rounds[-1]
        stream.behind_since = last.number
        if last.converged_at is None:
            last.waiting += 1
            last.streams += 1
        else:
            stream.behind_since += 1  # it came after that round was over
        self._behind += 1
        self._calm.clear()

    def settled(self, stream: StreamStatus) -> None:
        """The stream has answered everything, and nothing is left to tell it."""
        if not stream.behind_since:
            return
        for each in reversed(self.rounds):
            if each.number < stream.behind_since:
                break
            each.waiting -= 1
            if not each.waiting:
                each.converged_at = self.clock()
                self.meters.convergence.observe(each.converged_at - each.since)
        stream.behind_since = 0
        stream.was_settled = True
        self._behind -= 1
        if not self._behind:
            self._calm.set()

    # ------------------------------------------------------------------ what streams say

    def sent(self, stream: StreamStatus, response: Response, size: int) -> None:
        """A response is about to be written."""
        status = stream.of(response.type)
        status.nonce_sent, status.version_sent = response.nonce, response.version
        status.sent_at = self.clock()
        status.responses += 1
        status.bytes += size
        status.last_bytes = size
        label = type_label(response.type)
        self.meters.pushes.add(label)
        self.meters.config_bytes.observe(size, label)
        if size > GRPC_LIMIT:
            self.meters.oversized.add(label)
        self._tell(Kind.SENT, stream, response, size=size)

    def acked(self, stream: StreamStatus, event: Acked) -> None:
        """It was applied."""
        response = event.response
        status = stream.of(response.type)
        status.nonce_acked, status.version_acked = response.nonce, response.version
        status.acked_at = self.answered_at = self.clock()
        status.acks += 1
        self.meters.acks.add(type_label(response.type))
        status.refused = event.refused
        if not event.refused:
            status.error = ""
        self._tell(Kind.ACKED, stream, response)

    def nacked(self, stream: StreamStatus, event: Rejected) -> None:
        """It was refused, at least in part."""
        response, text = event.response, event.text
        status = stream.of(response.type)
        status.nonce_nacked = response.nonce
        status.nacked_at = self.answered_at = self.clock()
        status.nacks += 1
        status.refused = event.refused
        status.error = text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
        self.meters.nacks.add(type_label(response.type))
        self._tell(Kind.NACKED, stream, response, error=status.error)

    def stale(self, stream: StreamStatus, event: Stale) -> None:
        """It answered something older."""
        stream.of(event.type).stale += 1
        self.meters.stale.add(type_label(event.type))
        if self.feed.is_watched:
            self.feed.tell(
                replace(
                    self._happening(Kind.STALE_NONCE, stream), type=event.type, nonce=event.nonce
                )
            )

    # ------------------------------------------------------------------ for those who look

    def wall_time(self, at: float) -> float:
        """A time of `clock` by the wall clock."""
        return self._wall_clock() - (self.clock() - at)

    def _tell(
        self,
        kind: Kind,
        stream: StreamStatus,
        response: Response | None = None,
        *,
        error: str = "",
        size: int = 0,
    ) -> None:
        if not self.feed.is_watched:
            return
        happening = self._happening(kind, stream)
        if response is not None:
            happening = replace(
                happening,
                type=response.type,
                nonce=response.nonce,
                version=response.version,
                error=error,
                size=size,
            )
        self.feed.tell(happening)

    def _happening(self, kind: Kind, stream: StreamStatus) -> Happening:
        return Happening(
            kind=kind,
            at=self._wall_clock(),
            round=self.rounds[-1].number if self.rounds else 0,
            node=stream.node.id,
            stream=stream.number,
        )
