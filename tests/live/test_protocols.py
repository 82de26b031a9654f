"""Every protocol through two real sidecars: HTTP/1.1, HTTP/2, gRPC, WebSocket, TCP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest
from aiohttp import web

from smi_xds.mesh.model import InboundPort, Workload
from tests.support.live import echo, live_mesh

pytestmark = pytest.mark.envoy

WORKLOADS = """
apiVersion: v1
kind: Namespace
metadata:
  name: test
  annotations: {smi-xds.io/sidecar: bound, smi-xds.io/access: permissive}
---
apiVersion: v1
kind: Pod
metadata:
  name: caller
  namespace: test
  annotations: {smi-xds.io/address: 127.1.0.2, smi-xds.io/app-address: 127.1.0.102}
spec: {serviceAccountName: caller}
---
apiVersion: v1
kind: Pod
metadata:
  name: server
  namespace: test
  labels: {app: server}
  annotations: {smi-xds.io/address: 127.1.0.3, smi-xds.io/app-address: 127.1.0.103}
spec: {serviceAccountName: server}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: test}
spec:
  selector: {app: server}
  ports:
    - {name: http, port: 8080}
    - {name: grpc, port: 9090}
    - {name: tcp-echo, port: 7000}
    - {name: http-ws, port: 8081}
"""


async def _echo_call(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request[::-1]


@asynccontextmanager
async def applications(workload: Workload, port: InboundPort) -> AsyncIterator[None]:
    """gRPC on 9090, WebSocket on 8081, the usual echo elsewhere."""
    if port.number == 9090:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler: grpc.RpcMethodHandler[bytes, bytes]
        handler = grpc.unary_unary_rpc_method_handler(_echo_call)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Echo", {"Reverse": handler}),)
        )
        server.add_insecure_port(f"{workload.app_address}:{port.number}")
        await server.start()
        yield
        await server.stop(None)
    elif port.number == 8081:
        application = web.Application()
        application.router.add_get("/chat", _chat)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, workload.app_address, port.number).start()
        yield
        await runner.cleanup()
    else:
        async with echo(workload, port):
            yield


async def _chat(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"you said {message.data}")
    return socket


async def test_every_protocol_passes(tmp_path: Path) -> None:
    """The application's own protocol arrives at the other end, over mTLS in between."""
    async with live_mesh(WORKLOADS, tmp_path, application=applications) as mesh:
        caller = mesh.workload("test/caller").address

        assert (await mesh.get("test/caller", "server.test:8080")).answered_by == "server"
        assert await mesh.greeting("test/caller", "test/server:7000") == b"server\n"

        channel = grpc.aio.insecure_channel(
            f"{caller}:15001", options=[("grpc.default_authority", "server.test:9090")]
        )
        async with channel:
            reverse: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            reverse = channel.unary_unary("/test.Echo/Reverse")
            assert await reverse(b"stressed", timeout=10) == b"desserts"

        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                f"http://{caller}:15001/chat", headers={"host": "server.test:8081"}
            ) as socket,
        ):
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=10) == "you said hello"


async def test_a_host_may_be_written_in_every_form(tmp_path: Path) -> None:
    """Short, with namespace, as FQDN, with a trailing dot, with and without the default port."""
    async with live_mesh(WORKLOADS, tmp_path, application=applications) as mesh:
        for host in (
            "server",
            "server:8080",
            "server.test",
            "server.test.svc",
            "server.test.svc.cluster.local",
            "server.test.svc.cluster.local:8080",
            "server.test.svc.cluster.local.",
            "SERVER.test",
        ):
            assert (await mesh.get("test/caller", host)).answered_by == "server", host
        assert (await mesh.get("test/caller", "nowhere.test")).status == 404
