"""The HTTP server over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from smi_xds.config import Address
from smi_xds.problems import ServeError
from smi_xds.web.monitoring import Reply
from smi_xds.web.server import serving

ANYWHERE = Address("127.0.0.1", 0)
PAGES = {
    "/echo": lambda accept: Reply(200, accept.encode(), "text/x-echo; charset=utf-8"),
    "/teapot": lambda _accept: Reply(418, b"short and stout"),
}


def serve(address: Address = ANYWHERE) -> Any:
    return serving(PAGES, address, what="monitoring", flag="--monitoring-address")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serve() as port:
        yield f"http://127.0.0.1:{port}"


async def test_pages_are_served_as_they_are(url: str) -> None:
    """Status, type and body are the page's; it is given what the client accepts."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/echo", headers={"Accept": "text/x-echo"}) as answer:
            assert (answer.status, await answer.text()) == (200, "text/x-echo")
            assert answer.headers["Content-Type"] == "text/x-echo; charset=utf-8"
        async with session.get(f"{url}/teapot") as answer:
            assert answer.status == 418
        async with session.get(f"{url}/other") as answer:
            assert answer.status == 404
        async with session.post(f"{url}/echo") as answer:
            assert answer.status == 405


async def test_an_occupied_port_is_one_clear_line() -> None:
    """The message names the address and the flag."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ServeError) as caught:
            async with serve(Address("127.0.0.1", port)):
                pytest.fail("must not listen")

    assert str(caught.value) == (
        f"monitoring cannot be served on 127.0.0.1:{port}: Address already in use; "
        "stop what uses it, or give another --monitoring-address"
    )


async def test_an_address_of_another_machine_is_one_clear_line() -> None:
    """The same for an address that is not ours."""
    with pytest.raises(ServeError, match=r"192\.0\.2\.1:1: Cannot assign requested address; stop"):
        async with serve(Address("192.0.2.1", 1)):
            pytest.fail("must not listen")


async def test_it_ends_with_its_block_though_a_client_stays() -> None:
    """Connections that are kept open do not hold it up, and the port is free again."""
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(10), serve() as port:
            answer = await session.get(f"http://127.0.0.1:{port}/echo")
            await answer.read()
        async with serve(Address("127.0.0.1", port)) as again:
            assert again == port


async def test_serves_on_ipv6() -> None:
    """`::1` is an address like any other."""
    async with serve(Address("::1", 0)) as port, aiohttp.ClientSession() as session:
        answer = await session.get(f"http://[::1]:{port}/teapot")
        assert answer.status == 418
