"""One discovery stream on the network: a session, and the two tasks that drive it.

The call itself writes: it takes the next response out of the session whenever the last one is
written. A helper reads: it hands requests to the session at once, so that requests come before
pushes. The session's methods do not await, so both may call them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

import grpc
import structlog

from smi_xds.ads.admission import Admission
from smi_xds.ads.cache import Cache
from smi_xds.ads.calls import Calls
from smi_xds.ads.limits import Limits
from smi_xds.ads.meters import GRPC_LIMIT
from smi_xds.ads.pace import Pace
from smi_xds.ads.quiet import Quiet
from smi_xds.ads.session import (
    Acked,
    Close,
    DeltaRequest,
    DeltaSession,
    Event,
    Node,
    Refusal,
    Rejected,
    Response,
    SotwRequest,
    SotwSession,
    Stale,
)
from smi_xds.ads.status import Status, StreamStatus
from smi_xds.ads.wire import (
    Bodies,
    MalformedError,
    join_delta,
    join_sotw,
    read_delta,
    read_sotw,
    remembering,
)
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import EMPTY, ResourceSet

log = structlog.get_logger()

# Of a type that nobody knows, as much as is said to its client and to the log.
_TOLD: Final = 200

# A change of one name copies all of its type: of 50,000 it takes 8 ms, and a request is to cost
# half a millisecond. So many of them count as one byte of a request; those of real meshes, nothing.
_COPIED: Final = 1.5
# Bytes of a request for which a resource counts that is sent because it was asked for: a thousand
# clusters take 7 ms.
_SENT: Final = 58

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
R = TypeVar("R", SotwRequest, DeltaRequest)
S = TypeVar("S", SotwSession, DeltaSession)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect(Generic[R, S]):
    """What differs between state of the world and delta."""

    read: Callable[[bytes], R]
    read_first: Callable[[bytes], R]
    session: type[S]
    receive: Callable[[S, R, float], Event | None]
    join: Callable[[Response, bytes], bytes]
    is_change: Callable[[R], bool]
    """Whether it changes some of the names that were asked for before, and does not have all."""


SOTW: Final[Dialect[SotwRequest, SotwSession]] = Dialect(
    read=remembering(read_sotw),
    read_first=lambda raw: read_sotw(raw, with_node=True),
    session=SotwSession,
    receive=SotwSession.receive,
    join=join_sotw,
    is_change=lambda _: False,
)
DELTA: Final[Dialect[DeltaRequest, DeltaSession]] = Dialect(
    read=remembering(read_delta),
    read_first=lambda raw: read_delta(raw, with_node=True),
    session=DeltaSession,
    receive=DeltaSession.receive,
    join=join_delta,
    is_change=lambda it: bool(it.subscribe or it.unsubscribe),
)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams of a server use."""

    cache: Cache
    status: Status
    bodies: Bodies
    calls: Calls
    admission: Admission
    limits: Limits
    refusals: Quiet
    """What the log says of streams that are refused."""
    rejections: Quiet
    """What it says of responses that clients refuse."""


class Stream(Generic[R, S]):
    """One stream: its session, and the two tasks that drive it."""

    __slots__ = (
        "_close",
        "_context",
        "_copied",
        "_dialect",
        "_due_since",
        "_is_asked",
        "_is_held",
        "_is_open",
        "_is_released",
        "_loop",
        "_node",
        "_only",
        "_reader",
        "_session",
        "_shared",
        "_status",
        "_waiter",
        "pace",
        "resources",
        "writing_since",
    )

    def __init__(
        self,
        dialect: Dialect[R, S],
        shared: Shared,
        context: Context,
        *,
        node: Node,
        only: TypeUrl | None,
    ) -> None:
        known = shared.cache.get(node.id)
        self.resources: ResourceSet = EMPTY if known is None else known
        self._dialect: Dialect[R, S] = dialect
        self._shared = shared
        self._context = context
        self._node = node
        self._only = only
        self._session: S = dialect.session(self.resources, memo=shared.cache.memo)
        self._status: StreamStatus = shared.status.opened(
            node, is_delta=dialect is DELTA, peer=context.peer(), is_known=known is not None
        )
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._due_since = 0.0
        self._is_open = True
        self._is_held = known is None and shared.cache.holds_unknown
        self._close: Close | None = None
        self._reader: asyncio.Task[None] | None = None
        self._is_released = False
        self._is_asked = False
        """Whether the next response is for a request, and not for a change of ours."""
        self._copied = 0
        """What the last request cost beside its size, in bytes of a request."""
        self.writing_since = 0.0
        self.pace: Pace | None = None
        """How fast the client may ask; None for as fast as it likes."""

    async def run(self) -> Close | None:
        """Until the client leaves or breaks the protocol; why we close, where it is us."""
        node = self._node.id
        log.debug("stream_opened", node=node, is_known=self._status.is_known)
        self._shared.cache.watch(node, self)
        self._shared.calls.opened(self)
        try:
            async with asyncio.TaskGroup() as group:
                self._reader = group.create_task(self._read(), name=f"xds-reader-{node}")
                await self._write()
                self._reader.cancel()
        finally:
            self._reader = None  # whose exception refers to us
            self._release()
        return self._close

    def end(self, close: Close) -> None:
        """
        End it in its own task.

        gRPC can neither take back a write that waits nor send a status past it. So a client that
        does not read keeps that one response until its connection ends, and all else of the
        stream is freed; one that reads again is told the status and may come back.
        """
        self._close = self._close or close
        if self.writing_since:
            if self._reader is not None:
                self._reader.cancel()
            if not self._is_released:
                self._shared.status.meters.unread.add()
                log.warning("response_unread", node=self._node.id, message=close.text)
            self._release()
        self._wake()

    def _release(self) -> None:
        """Nobody waits for it any more."""
        if self._is_released:
            return
        self._is_released = True
        self._shared.calls.closed(self)
        self._shared.cache.unwatch(self._node.id, self)
        self._shared.status.closed(self._status)
        log.debug("stream_closed", node=self._node.id)

    # ------------------------------------------------------------------ in

    def changed(self, resources: ResourceSet, *, is_known: bool) -> None:
        """There are other resources (called by the cache)."""
        self.resources = resources
        self._is_held = not is_known and self._shared.cache.holds_unknown
        if self._is_held:
            self._shared.status.changed(self._status, is_known=False, is_due=False)
            return
        self._session.update(resources)
        is_due = self._session.is_due
        self._shared.status.changed(self._status, is_known=is_known, is_due=is_due)
        if is_due:
            self._wake()

    async def _read(self) -> None:
        while self._take_raw(raw := await self._context.read()):
            if self.pace is not None:
                wait = self.pace.wait(self._loop.time(), len(raw) + self._copied)
                if wait > 0:
                    await asyncio.sleep(wait)
        self._is_open = False
        self._wake()

    def _take_raw(self, raw: object) -> bool:
        """Hand one message over; False where the stream is to end."""
        if raw is grpc.aio.EOF:
            return False
        assert isinstance(raw, bytes)
        try:
            return self.take(self._dialect.read(raw))
        except MalformedError as error:
            self._close = Close(Refusal.INVALID_ARGUMENT, str(error))
            return False

    def take(self, request: R) -> bool:
        """Hand one request to the session; False where the stream is to end."""
        if self._only is not None and request.type != self._only:
            if request.type:
                asked = request.type[:_TOLD]
                text = f"this service knows {self._only} alone: ask for {asked} on ADS"
                self._close = Close(Refusal.INVALID_ARGUMENT, text)
                return False
            request = request._replace(type=self._only)
        event = self._dialect.receive(self._session, request, self._loop.time())
        self._is_asked = self._is_asked or self._session.owes(request.type)
        is_change = self._dialect.is_change(request)
        self._copied = int(self._session.named(request.type) / _COPIED) if is_change else 0
        if event is None:
            self._status.of(request.type)  # asked for, whether or not there is anything to send
        else:
            self._note(event)
        if self._session.is_due:
            self._shared.status.fell_behind(self._status)
            self._wake()
        elif self._session.is_settled:
            self._shared.status.settled(self._status)
        return self._close is None

    def _note(self, event: Event) -> None:
        status, stream = self._shared.status, self._status
        match event:
            case Acked():
                status.acked(stream, event)
            case Rejected(response, text):
                status.nacked(stream, event)
                self._tell_rejected(response, text)
            case Stale():
                status.stale(stream, event)
            case Close():
                self._close = event

    def _tell_rejected(self, response: Response, text: str) -> None:
        # All clients may refuse the same, and one may refuse as often as it likes.
        said = self._shared.rejections
        if said.lets(self._loop.time()):
            log.warning(
                "resources_rejected",
                node=self._node.id,
                type=response.type,
                version=response.version,
                error=text[:500],
                not_logged=said.told(),
            )

    # ------------------------------------------------------------------ out

    async def _write(self) -> None:
        session, status = self._session, self._shared.status
        meters = status.meters
        while self._is_open and self._close is None:
            now = self._loop.time()
            response = None if self._is_held else session.next(now)
            if response is None:
                self._due_since = 0.0
                if session.is_settled or self._is_held:
                    status.settled(self._status)
                await self._sleep()
                continue
            meters.queue.observe(now - (self._due_since or now))
            if self._is_asked and self.pace is not None:
                self.pace.owe(now, _SENT * len(response.resources))
            self._is_asked = False
            self.writing_since = now
            await self._context.write(self._joined(response))
            self.writing_since = 0.0
            meters.send.observe(self._loop.time() - now)
            del response  # shared, but not for the time that we sleep

    def _joined(self, response: Response) -> bytes:
        """Its bytes, noted as sent before they are written: the answer may be faster."""
        body = self._shared.bodies.get(response, self._dialect.join)
        self._shared.status.sent(self._status, response, len(body))
        if len(body) > GRPC_LIMIT:
            log.warning(
                "response_oversized",
                node=self._node.id,
                type=response.type,
                bytes=len(body),
                message="gRPC's own clients refuse more than 4 MiB unless told otherwise",
            )
        return body

    async def _sleep(self) -> None:
        """Until there may be something to say."""
        self._waiter = self._loop.create_future()
        at = self._session.release_at
        timer = None if at is None else self._loop.call_at(at, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if not self._due_since:
            self._due_since = self._loop.time()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
