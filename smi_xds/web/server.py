"""The HTTP server: the only module that knows of aiohttp."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from smi_xds.config import Address
from smi_xds.problems import ServeError
from smi_xds.web.monitoring import Page


@asynccontextmanager
async def serving(
    pages: Mapping[str, Page], address: Address, *, what: str, flag: str
) -> AsyncIterator[int]:
    """
    Serve these pages while the block runs; yields the port, any free one for 0.

    `what` is served and the `flag` that moves it are for the line that says why it cannot be.
    """
    application = web.Application()
    for path, page in pages.items():
        application.router.add_get(path, _handler(page))
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        yield await _listen(runner, address, what=what, flag=flag)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: Address, *, what: str, flag: str) -> int:
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        # asyncio puts a sentence around the reason; what the system says is after its last colon.
        reason = (error.strerror or str(error)).rpartition(": ")[2].capitalize()
        raise ServeError(
            f"{what} cannot be served on {address}: {reason}; "
            f"stop what uses it, or give another {flag}"
        ) from error
    port: int = runner.addresses[0][1]
    return port


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        reply = page(request.headers.get("Accept", ""))
        headers = {"Content-Type": reply.content_type}
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    return handle
