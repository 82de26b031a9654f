"""Permissive mode: callers without an identity come in as well, and by their own TLS."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from smi_xds.identity.ca import Authority, create_key, create_root
from smi_xds.identity.issuer import wall_clock
from smi_xds.values import SpiffeId
from tests.intercepted.worlds import pod, service
from tests.kube.netns import in_netns
from tests.support.intercepted import InterceptedMesh, intercepted_mesh

pytestmark = pytest.mark.envoy

WEB = "10.96.0.1"
WEB_POD = "10.244.0.11"

WORLD = "".join(
    (
        pod("client", "10.244.0.10"),
        pod("web", WEB_POD),
        pod("bare", "10.244.0.12", sidecar=""),
        service(
            "web",
            WEB,
            "{name: http, port: 80, targetPort: 8080}, {name: tls, port: 8443}, "
            "{name: tcp-server-first-db, port: 7001}",
            select="app: web",
        ),
    )
)


def _own_tls(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own, and a client's that takes it."""
    key, now = create_key(), wall_clock()
    root = create_root(key, trust_domain="elsewhere", now=now)
    authority = Authority(trust_domain="elsewhere", certificate=root, key=key)
    leaf = authority.issue(SpiffeId("elsewhere", "/web"), now=now)
    (folder / "chain.pem").write_bytes(leaf.certificate_chain)
    (folder / "key.pem").write_bytes(leaf.private_key.value)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return server, client


@in_netns(addresses=())
async def test_callers_without_a_sidecar_come_in(tmp_path: Path) -> None:
    """Plaintext, an application's own TLS, a server that speaks first, and any other port."""
    server_tls, client_tls = _own_tls(tmp_path)
    async with intercepted_mesh(WORLD, tmp_path, access="permissive", mtls="permissive") as mesh:
        await mesh.serve_http("web", 8080)
        await mesh.serve_http("web", 9999)
        await mesh.serve_greeting("web", 7001)
        await _serve_tls(mesh, server_tls)
        # Between sidecars it is mTLS all the same.
        named = await mesh.get("client", WEB, 80)
        assert "sa/client" in named.seen["x-forwarded-client-cert"]
        nameless = await mesh.get("bare", WEB_POD, 8080)
        assert nameless.status == 200
        assert "x-forwarded-client-cert" not in nameless.seen
        for source in ("client", "bare"):
            assert (await mesh.get(source, WEB_POD, 9999)).answered_by == "web"
        assert await _tls_greeting(mesh, "bare", WEB_POD, client_tls) == b"by TLS\n"
        assert await _tls_greeting(mesh, "client", WEB, client_tls) == b"by TLS\n"
        assert await mesh.first_line("client", WEB, 7001) == b"web\n"
        # After the inspection: it sends nothing that could tell it from TLS.
        assert await mesh.first_line("bare", WEB_POD, 7001) == b"web\n"
        await _check_the_road_to_strict(mesh)


async def _serve_tls(mesh: InterceptedMesh, context: ssl.SSLContext) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"by TLS\n")
        writer.close()

    listening = mesh.pods["web"].listening("0.0.0.0", 8443)
    server = await asyncio.start_server(greet, sock=listening, ssl=context)
    mesh.stack.callback(server.close)


async def _tls_greeting(
    mesh: InterceptedMesh, source: str, address: str, context: ssl.SSLContext
) -> bytes:
    reader, writer = await mesh.pods[source].connect(address, 8443)
    async with asyncio.timeout(20):
        await writer.start_tls(context)
        line = await reader.readline()
    writer.close()
    return line


async def _check_the_road_to_strict(mesh: InterceptedMesh) -> None:
    """A workload that turns strict keeps the connections of the mesh, and no others."""
    reader, writer = await mesh.pods["client"].connect(WEB, 7001)
    assert await reader.readline() == b"web\n"
    await mesh.edit(_annotated("web", "smi-xds.io/mtls: strict"))
    writer.write(b"still there?\n")
    assert await reader.readline() == b"web: still there?\n"
    writer.close()
    assert (await mesh.get("client", WEB, 80)).status == 200
    for port in (8080, 9999):
        assert (await mesh.get("bare", WEB_POD, port)).status == 0


def _annotated(name: str, annotation: str) -> Callable[[str], str]:
    before = f"name: {name}\n  namespace: test\n  labels: {{app: {name}}}\n  annotations:\n"
    return lambda text: text.replace(before, f"{before}    {annotation}\n")
