"""The HTTP server: the only module that knows of aiohttp."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from aiohttp import web

from smi_xds.config import Address
from smi_xds.problems import ServeError
from smi_xds.web.monitoring import Page, Reply
from smi_xds.web.review import Form, Reviewed, Verdict

# Longer than clients written in Go keep a connection that is idle (90 s). Where both ends let go at
# one moment, a POST is lost: unlike a GET it is not sent again.
_IDLE_SECONDS: Final = 180.0
# For a whole body to arrive and be answered. API servers wait for 30 s, and less if told so.
_POST_SECONDS: Final = 25.0
_CHUNK: Final = 1 << 16

_UNFINISHED: Final = frozenset({Verdict.TOO_LARGE, Verdict.LATE})
_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})

_Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def serving(
    pages: Mapping[str, Page],
    address: Address,
    *,
    what: str,
    flag: str,
    forms: Mapping[str, Form] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """
    Serve these pages and forms while the block runs; yields the port, any free one for 0.

    `what` is served and the `flag` that moves it are for the line that says why it cannot be.
    """
    application = web.Application()
    for path, page in pages.items():
        application.router.add_get(path, _handler(page))
    for path, form in (forms or {}).items():
        application.router.add_post(path, _form_handler(form))
    runner = web.AppRunner(
        application, access_log=None, handle_signals=False, keepalive_timeout=_IDLE_SECONDS
    )
    await runner.setup()
    try:
        yield await _listen(runner, address, what=what, flag=flag, tls=tls)
    finally:
        await runner.cleanup()


async def _listen(
    runner: web.AppRunner, address: Address, *, what: str, flag: str, tls: ssl.SSLContext | None
) -> int:
    try:
        await web.TCPSite(runner, address.host, address.port, ssl_context=tls).start()
    except OSError as error:
        # asyncio puts a sentence around the reason; what the system says is after its last colon.
        reason = (error.strerror or str(error)).rpartition(": ")[2].capitalize()
        raise ServeError(
            f"{what} cannot be served on {address}: {reason}; "
            f"stop what uses it, or give another {flag}"
        ) from error
    port: int = runner.addresses[0][1]
    return port


def _handler(page: Page) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        return _response(page(request.headers.get("Accept", "")))

    return handle


def _form_handler(form: Form) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        clock = asyncio.get_running_loop().time
        began, verdict, kinds = clock(), Verdict.UNANSWERED, _NOTHING
        try:
            reviewed = await _reviewed(request, form)
            verdict, kinds = reviewed.verdict, reviewed.kinds
        finally:
            form.count(verdict, kinds, clock() - began)
        response = _response(reviewed.reply)
        if reviewed.verdict in _UNFINISHED:
            response.force_close()  # the rest of the body is not waited for
        return response

    return handle


async def _reviewed(request: web.Request, form: Form) -> Reviewed:
    try:
        async with asyncio.timeout(_POST_SECONDS):
            body = await _body(request, form.limit)
            if body is None:
                message = f"the body is larger than {form.limit} bytes\n"
                reply = Reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message.encode())
                return Reviewed(reply, Verdict.TOO_LARGE)
            # Large reviews take their time, in which sidecars are to be served.
            return await asyncio.to_thread(form.answer, body)
    except TimeoutError:
        message = f"not done within {_POST_SECONDS:g} s\n"
        return Reviewed(Reply(HTTPStatus.REQUEST_TIMEOUT, message.encode()), Verdict.LATE)


async def _body(request: web.Request, limit: int) -> bytes | None:
    """The whole of it; None where it is larger."""
    if (request.content_length or 0) > limit:
        return None
    body = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type}
    return web.Response(status=reply.status, body=reply.body, headers=headers)
