"""The HTTP server: the only module that knows of aiohttp."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from aiohttp import web

from smi_xds.ads.turns import Turns
from smi_xds.config import Address
from smi_xds.problems import ServeError
from smi_xds.web.monitoring import Page, Reply
from smi_xds.web.review import Form, Reviewed, Verdict

# Longer than clients written in Go keep a connection that is idle (90 s). Where both ends let go at
# one moment, a POST is lost: unlike a GET it is not sent again.
_IDLE_SECONDS: Final = 180.0
# For a whole body to arrive and be answered. API servers wait for 30 s, and less if told so.
_POST_SECONDS: Final = 25.0
# For the body alone: others wait for their turn.
_BODY_SECONDS: Final = 8.0
# For a refusal to arrive before the connection ends, while what comes in is thrown away.
_LINGER_SECONDS: Final = 1.0
# For what is in hand when the server stops. Sidecars are still to be sent away one after another,
# before Kubernetes kills: a body that does not come must not take that time.
_GOODBYE_SECONDS: Final = 1.0
# For the asker to take the answer.
_TAKE_SECONDS: Final = 10.0
_CHUNK: Final = 1 << 16
# A review of one object has some kilobytes; a list of hundreds is large, as is one that does not
# say. While it is worked on, a large one takes up to some 100 MB.
_LARGE: Final = 256 << 10
_READ_AT_ONCE: Final[Mapping[bool, int]] = MappingProxyType({False: 32, True: 3})
# Of one host: one connection that stalls may not hold up an API server that shares its address.
_READ_OF_ONE: Final[Mapping[bool, int]] = MappingProxyType({False: 8, True: 1})
_WORK_AT_ONCE: Final[Mapping[bool, int]] = MappingProxyType({False: 3, True: 1})

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
    application, counter = web.Application(), _Counter()
    for path, page in pages.items():
        application.router.add_get(path, _handler(page))
    for path, form in (forms or {}).items():
        application.router.add_post(path, _form_handler(form, counter))
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=_IDLE_SECONDS,
        lingering_time=_LINGER_SECONDS,
        shutdown_timeout=_GOODBYE_SECONDS,
    )
    await runner.setup()
    try:
        yield await _listen(runner, address, what=what, flag=flag, tls=tls)
    finally:
        await runner.cleanup()
        counter.close()


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


def _form_handler(form: Form, counter: "_Counter") -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        clock = asyncio.get_running_loop().time
        began, verdict, kinds = clock(), Verdict.UNANSWERED, _NOTHING

        def count(reviewed: Reviewed) -> None:
            nonlocal verdict, kinds
            verdict, kinds = reviewed.verdict, reviewed.kinds

        try:
            return await counter.serve(request, form, count)
        finally:
            form.count(verdict, kinds, clock() - began)

    return handle


class _Counter:
    """Where forms are handed in; few are in hand at a time, so that no crowd fills the memory.

    Anybody may ask who reaches the port: hosts take turns, of large forms and of small ones.
    """

    def __init__(self) -> None:
        self._reading = {
            it: Turns(most, of_one_host=_READ_OF_ONE[it]) for it, most in _READ_AT_ONCE.items()
        }
        self._working = {it: Turns(most, of_one_host=1) for it, most in _WORK_AT_ONCE.items()}
        # Of its own: in the common one, look-ups of names would wait for reviews.
        self._threads = ThreadPoolExecutor(sum(_WORK_AT_ONCE.values()), "review")

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def serve(
        self, request: web.Request, form: Form, on_reviewed: Callable[[Reviewed], None]
    ) -> web.Response:
        """Read one, answer it, and see that the answer is taken; then it is the next one's turn."""
        length, host = request.content_length, request.remote or ""
        if length is not None and length > form.limit:
            return _unfinished(_too_large(form), on_reviewed)
        is_large = length is None or length > _LARGE
        try:
            async with asyncio.timeout(_POST_SECONDS) as patience, self._reading[is_large].of(host):
                try:
                    async with asyncio.timeout(_BODY_SECONDS):
                        body = await _body(request, form.limit)
                except TimeoutError:
                    return _unfinished(_late(_BODY_SECONDS), on_reviewed)
                if body is None:
                    return _unfinished(_too_large(form), on_reviewed)
                async with self._working[is_large].of(host):
                    reviewed = await self._answer(form, body)
                del body
                on_reviewed(reviewed)
                patience.reschedule(None)
                return await _written(request, _response(reviewed.reply))
        except TimeoutError:
            return _unfinished(_late(_POST_SECONDS), on_reviewed)

    async def _answer(self, form: Form, body: bytes) -> Reviewed:
        """In a thread: large reviews take their time, in which sidecars are to be served."""
        asked = asyncio.get_running_loop().run_in_executor(self._threads, form.answer, body)
        try:
            await asyncio.wait({asked})
        except asyncio.CancelledError:
            # A thread cannot be ended, and the next one is not to begin beside it.
            await asyncio.wait({asked})
            raise
        return asked.result()


def _too_large(form: Form) -> Reviewed:
    message = f"the body is larger than {form.limit} bytes\n"
    reply = Reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message.encode())
    return Reviewed(reply, Verdict.TOO_LARGE)


def _late(seconds: float) -> Reviewed:
    message = f"not done within {seconds:g} s\n"
    return Reviewed(Reply(HTTPStatus.REQUEST_TIMEOUT, message.encode()), Verdict.LATE)


def _unfinished(reviewed: Reviewed, on_reviewed: Callable[[Reviewed], None]) -> web.Response:
    on_reviewed(reviewed)
    response = _response(reviewed.reply)
    response.force_close()  # the rest of the body is not waited for
    return response


async def _written(request: web.Request, response: web.Response) -> web.Response:
    """Whoever does not read the answer in time has none."""
    try:
        async with asyncio.timeout(_TAKE_SECONDS):
            await response.prepare(request)
            await response.write_eof()
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()
    return response


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
