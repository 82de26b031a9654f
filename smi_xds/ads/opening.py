"""How a stream begins: who calls is found out, waits for its turn, and says which node it is."""

import asyncio
from typing import Any, Final

import grpc
import structlog

from smi_xds.ads.calls import DRAINED
from smi_xds.ads.guard import Guard, Visit
from smi_xds.ads.limits import Limits
from smi_xds.ads.session import Close, Refusal, identify
from smi_xds.ads.stream import Context, Dialect, R, S, Shared, Stream
from smi_xds.ads.wire import MalformedError
from smi_xds.values import TypeUrl

_NOT_READY: Final = Close(Refusal.UNAVAILABLE, "nothing to serve yet: the first sync is under way")
_CROWDED: Final = Close(Refusal.RESOURCE_EXHAUSTED, "too many streams begin at once: try again")

log = structlog.get_logger()


async def serve_stream(
    dialect: Dialect[R, S],
    shared: Shared,
    context: Context,
    *,
    only: TypeUrl | None,
    guard: Guard | None = None,
) -> None:
    """One call, from its first request to its end; without a guard it is who it says it is."""
    try:
        close = await _received(dialect, shared, context, only=only, guard=guard)
    except asyncio.CancelledError as error:
        # A frame of TaskGroup refers to the exception, whose traceback refers to the frame: with
        # it the stream and all of its state would wait for the garbage collector.
        raise error.with_traceback(None) from None
    if close is not None:
        # Outside of any TaskGroup, which would wrap it and make gRPC report UNKNOWN.
        shared.status.refused(close)
        if shared.refusals.lets(asyncio.get_running_loop().time()):
            log.info(
                "stream_refused",
                peer=context.peer(),
                code=close.code,
                reason=close.text,
                not_logged=shared.refusals.told(),
            )
        await context.abort(grpc.StatusCode[close.code], close.text)


async def _received(
    dialect: Dialect[R, S],
    shared: Shared,
    context: Context,
    *,
    only: TypeUrl | None,
    guard: Guard | None,
) -> Close | None:
    """Find out who calls, before it costs us anything."""
    if not shared.cache.is_ready:
        return _NOT_READY
    if guard is None:
        return await _converse(dialect, shared, context, only=only, visit=None)
    proof = await guard.ask(context)
    if isinstance(proof, Close):
        return proof
    with guard.visit(proof) as visit:
        if isinstance(visit, Close):
            return visit
        return await _converse(dialect, shared, context, only=only, visit=visit)


async def _converse(
    dialect: Dialect[R, S],
    shared: Shared,
    context: Context,
    *,
    only: TypeUrl | None,
    visit: Visit | None,
) -> Close | None:
    if not await shared.admission.admit():
        return _CROWDED
    raw = await _first(context, shared.limits, visit)
    if isinstance(raw, Close):
        return raw
    if raw is grpc.aio.EOF:
        return None
    if shared.calls.is_draining:
        return DRAINED
    try:
        first = dialect.read_first(raw)
    except MalformedError as error:
        return Close(Refusal.INVALID_ARGUMENT, str(error))
    node = identify(first)
    if isinstance(node, Close):
        return node
    if visit is not None and (refused := visit.enter(node.id)) is not None:
        return refused
    stream = Stream(dialect, shared, context, node=node, only=only)
    if visit is not None:
        visit.began(stream)
        stream.pace = visit.pace
    stream.take(first)
    # The first request of an Envoy is 60 kB; nobody needs it for the life of the stream.
    del raw, first
    return await stream.run()


async def _first(context: Context, limits: Limits, visit: Visit | None) -> Any:
    """The first message; callers that are counted say something in time, and at their pace."""
    if visit is None:
        return await context.read()
    try:
        async with asyncio.timeout(limits.first_request):
            raw = await context.read()
    except TimeoutError:
        return visit.silent()
    if raw is not grpc.aio.EOF:
        await asyncio.sleep(visit.pace.wait(asyncio.get_running_loop().time(), len(raw)))
    return raw
