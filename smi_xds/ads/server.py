"""The gRPC server of xDS: the only place of this room that awaits the network.

A stream is two tasks. The call itself writes: it takes the next response out of the session
whenever the last one is written. A helper reads: it hands requests to the session at once, so that
requests come before pushes. The session's methods do not await, so both may call them.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, TypeAlias, TypeVar

import grpc
import structlog

from smi_xds.ads.cache import Cache
from smi_xds.ads.health import HEALTH, Health
from smi_xds.ads.meters import GRPC_LIMIT
from smi_xds.ads.reflection import reflection_handlers
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
    identify,
)
from smi_xds.ads.status import Status, StreamStatus
from smi_xds.ads.wire import Bodies, MalformedError, join_delta, join_sotw, read_delta, read_sotw
from smi_xds.problems import ServeError
from smi_xds.xds.resources import EMPTY, ResourceSet

AGGREGATED: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"

_OPTIONS: Final = (
    # A second server on the port would share its connections in silence.
    ("grpc.so_reuseport", 0),
    # The first request after a reconnection lists every resource the client has (D7).
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.max_send_message_length", -1),
    # Find dead proxies: ask after 30 s of silence, give up 10 s later (T2).
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Clients may ask as well; more often than this is abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

_NO_SERVICES: Final[Mapping[str, grpc.GenericRpcHandler]] = MappingProxyType({})

_NOT_READY: Final = Close(Refusal.UNAVAILABLE, "nothing to serve yet: the first sync is under way")

log = structlog.get_logger()

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


SOTW: Final[Dialect[SotwRequest, SotwSession]] = Dialect(
    read=read_sotw,
    read_first=lambda raw: read_sotw(raw, with_node=True),
    session=SotwSession,
    receive=SotwSession.receive,
    join=join_sotw,
)
DELTA: Final[Dialect[DeltaRequest, DeltaSession]] = Dialect(
    read=read_delta,
    read_first=lambda raw: read_delta(raw, with_node=True),
    session=DeltaSession,
    receive=DeltaSession.receive,
    join=join_delta,
)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all streams of a server use."""

    cache: Cache
    status: Status
    bodies: Bodies


@asynccontextmanager
async def listening(
    cache: Cache,
    status: Status,
    *,
    host: str,
    port: int,
    identifier: str = "smi-xds",
    services: Mapping[str, grpc.GenericRpcHandler] = _NO_SERVICES,
) -> AsyncIterator[int]:
    """
    Serve xDS, reflection and health while the block runs; yields the port.

    Port 0 takes a free one. Until the first `cache.publish` streams are refused with UNAVAILABLE.
    `identifier` names this server in every response (E5). `services` are more that it is to serve,
    by their full names; protobuf's default pool describes them.
    """
    cache.observe(status)
    shared = Shared(cache, status, Bodies(identifier))
    server = grpc.aio.server(options=_OPTIONS)
    health = Health(status, AGGREGATED, *services).handler()
    described = reflection_handlers(AGGREGATED, HEALTH, *services)
    server.add_generic_rpc_handlers(
        (_discovery_handler(shared), health, *services.values(), *described)
    )
    bound = _bind(server, host, port)
    await server.start()
    log.info("xds_listening", host=host, port=bound)
    try:
        yield bound
    finally:
        await server.stop(grace=None)


def _bind(server: grpc.aio.Server, host: str, port: int) -> int:
    """Take the port, or say in one line why not."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        # gRPC's own attempt would write its troubles to stderr and tell less.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        return server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the port cannot be taken"
        raise ServeError(
            f"xDS cannot be served on {address}: {reason}; "
            "stop what uses it, or give another --xds-address"
        ) from error


def _discovery_handler(shared: Shared) -> grpc.GenericRpcHandler:
    """Both streams of the aggregated service; bytes go through as they are."""

    async def sotw(_requests: object, context: Context) -> None:
        await _serve(SOTW, shared, context)

    async def delta(_requests: object, context: Context) -> None:
        await _serve(DELTA, shared, context)

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(sotw),
        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(delta),
    }
    return grpc.method_handlers_generic_handler(AGGREGATED, methods)


async def _serve(dialect: Dialect[R, S], shared: Shared, context: Context) -> None:
    """One call, from its first request to its end."""
    close = await _converse(dialect, shared, context)
    if close is not None:
        # Outside of any TaskGroup, which would wrap it and make gRPC report UNKNOWN.
        shared.status.refused(close)
        log.info("stream_refused", peer=context.peer(), code=close.code, reason=close.text)
        await context.abort(grpc.StatusCode[close.code], close.text)


async def _converse(dialect: Dialect[R, S], shared: Shared, context: Context) -> Close | None:
    if not shared.cache.is_ready:
        return _NOT_READY
    raw = await context.read()
    if raw is grpc.aio.EOF:
        return None
    try:
        first = dialect.read_first(raw)
    except MalformedError as error:
        return Close(Refusal.INVALID_ARGUMENT, str(error))
    node = identify(first)
    if isinstance(node, Close):
        return node
    stream = _Stream(dialect, shared, context, node=node)
    stream.take(first)
    # The first request of an Envoy is 60 kB; nobody needs it for the life of the stream.
    del raw, first
    return await stream.run()


class _Stream(Generic[R, S]):
    """One stream: its session, and the two tasks that drive it."""

    __slots__ = (
        "_close",
        "_context",
        "_dialect",
        "_due_since",
        "_is_open",
        "_loop",
        "_node",
        "_session",
        "_shared",
        "_status",
        "_waiter",
        "resources",
    )

    def __init__(
        self, dialect: Dialect[R, S], shared: Shared, context: Context, *, node: Node
    ) -> None:
        known = shared.cache.get(node.id)
        self.resources: ResourceSet = EMPTY if known is None else known
        self._dialect: Dialect[R, S] = dialect
        self._shared = shared
        self._context = context
        self._node = node
        self._session: S = dialect.session(self.resources, memo=shared.cache.memo)
        self._status: StreamStatus = shared.status.opened(
            node, is_delta=dialect is DELTA, peer=context.peer(), is_known=known is not None
        )
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._due_since = 0.0
        self._is_open = True
        self._close: Close | None = None

    async def run(self) -> Close | None:
        """Until the client leaves or breaks the protocol; why we close, where it is us."""
        node = self._node.id
        log.debug("stream_opened", node=node, is_known=self._status.is_known)
        self._shared.cache.watch(node, self)
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(), name=f"xds-reader-{node}")
                await self._write()
                reader.cancel()
        finally:
            self._shared.cache.unwatch(node, self)
            self._shared.status.closed(self._status)
            log.debug("stream_closed", node=node)
        return self._close

    # ------------------------------------------------------------------ in

    def changed(self, resources: ResourceSet, *, is_known: bool) -> None:
        """There are other resources (called by the cache)."""
        self.resources = resources
        self._session.update(resources)
        is_due = self._session.is_due
        self._shared.status.changed(self._status, is_known=is_known, is_due=is_due)
        if is_due:
            self._wake()

    async def _read(self) -> None:
        while self._take_raw(await self._context.read()):
            pass
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
        event = self._dialect.receive(self._session, request, self._loop.time())
        if event is not None:
            self._note(event)
        if self._close is None:
            self._status.of(request.type)  # asked for, whether or not there is anything to send
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
                log.warning(
                    "resources_rejected",
                    node=self._node.id,
                    type=response.type,
                    version=response.version,
                    error=text[:500],
                )
            case Stale():
                status.stale(stream, event)
            case Close():
                self._close = event

    # ------------------------------------------------------------------ out

    async def _write(self) -> None:
        session, status = self._session, self._shared.status
        meters = status.meters
        while self._is_open and self._close is None:
            response = session.next(now := self._loop.time())
            if response is None:
                self._due_since = 0.0
                if session.is_settled:
                    status.settled(self._status)
                await self._sleep()
                continue
            meters.queue.observe(now - (self._due_since or now))
            await self._context.write(self._joined(response))
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
