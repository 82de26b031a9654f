"""Every protocol and both families through two sidecars that nobody was told of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import grpc
import pytest
from aiohttp import web

from tests.intercepted.worlds import ROUTES, allow, pod, service
from tests.kube.netns import in_netns
from tests.support.intercepted import InterceptedMesh, intercepted_mesh

pytestmark = pytest.mark.envoy

WEB, WEB6, ONLY6, PEERS6 = "10.96.0.1", "fd00:96::1", "fd00:96::2", "fd00:96::3"
PORTS = (
    "{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 9090}, "
    "{name: http-ws, port: 8081}, {name: tcp-server-first-db, port: 7001}"
)

WORLD = "".join(
    (
        pod("client", "10.244.0.10, fd00:244::10"),
        pod("thief", "fd00:244::11"),
        pod("web", "10.244.0.12, fd00:244::12"),
        pod("six", "fd00:244::13", account="web"),
        service("web", f"{WEB}, '{WEB6}'", PORTS, select="app: web"),
        service("only-six", f"'{ONLY6}'", PORTS, select="app: web"),
        service("six", f"'{PEERS6}'", PORTS, select="app: six"),
        ROUTES,
        allow("all", "client", "web", "TCPRoute/all"),
    )
)


@in_netns(addresses=())
async def test_every_protocol_passes_in_both_families(tmp_path: Path) -> None:
    """HTTP, gRPC, WebSocket and a server that speaks first, by IPv4 and by IPv6."""
    async with intercepted_mesh(WORLD, tmp_path) as mesh:
        for name in ("web", "six"):
            await mesh.serve_http(name, 8080)
            await mesh.serve_greeting(name, 7001)
        async with _grpc_server(mesh, "web", 9090), _chat_server(mesh, "web", 8081):
            for address in (WEB, WEB6, ONLY6):
                assert (await mesh.get("client", address, 80)).answered_by == "web", address
                assert await mesh.first_line("client", address, 7001) == b"web\n"
            for address in (WEB, WEB6):
                assert await _reversed(mesh, "client", address) == b"desserts"
                assert await _said(mesh, "client", address) == "you said hello"
        # Pods that have nothing but IPv6, on either end.
        assert (await mesh.get("client", PEERS6, 80)).answered_by == "six"
        assert (await mesh.get("thief", WEB6, 80)).status == 403
        assert await mesh.first_line("thief", PEERS6, 7001) == b""
        assert (await mesh.get("thief", "fd00:244::12", 8080)).status == 0
        # An IPv6 workload that calls itself by its service.
        assert (await mesh.get("six", PEERS6, 80)).status == 403
        await mesh.edit(lambda text: text + allow("self", "web", "web", "TCPRoute/all"))
        assert (await mesh.get("six", PEERS6, 80)).answered_by == "six"
        assert await mesh.first_line("client", "::1", 15001, "hello\n") == b""


async def _reversed(mesh: InterceptedMesh, source: str, address: str) -> bytes:
    async with (
        _through(mesh, source, address, 9090) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = channel.unary_unary("/test.Echo/Reverse")
        answer: bytes = await call(b"stressed", timeout=20)
        return answer


async def _said(mesh: InterceptedMesh, source: str, address: str) -> str:
    async with (
        _through(mesh, source, address, 8081) as port,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/chat") as socket,
    ):
        await socket.send_str("hello")
        return await socket.receive_str(timeout=20)


@asynccontextmanager
async def _through(
    mesh: InterceptedMesh, source: str, address: str, port: int
) -> AsyncIterator[int]:
    """A local port whose connections are made anew from a pod, for clients with own sockets."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await mesh.pods[source].connect(address, port)
        await _joined((reader, writer), there)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    with closing(server):
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def _grpc_server(mesh: InterceptedMesh, name: str, port: int) -> AsyncIterator[None]:
    async def reverse(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request[::-1]

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes]
    handler = grpc.unary_unary_rpc_method_handler(reverse)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Echo", {"Reverse": handler}),)
    )
    local = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _joined((reader, writer), await asyncio.open_connection("127.0.0.1", local))

    await mesh.serve(name, port, relay)
    yield
    await server.stop(None)


@asynccontextmanager
async def _chat_server(mesh: InterceptedMesh, name: str, port: int) -> AsyncIterator[None]:
    async def chat(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"you said {message.data}")
        return socket

    application = web.Application()
    application.router.add_get("/chat", chat)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.SockSite(runner, mesh.pods[name].listening("::", port)).start()
    yield
    await runner.cleanup()


async def _joined(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    other: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # the other end went away
        finally:
            writer.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pump(one[0], other[1]))
        tasks.create_task(pump(other[0], one[1]))
