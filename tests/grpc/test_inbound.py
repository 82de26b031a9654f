"""What stands before gRPC clients at a sidecar: mTLS of the mesh, and nothing less."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from smi_xds.identity.handout import hand_out
from smi_xds.identity.issuer import wall_clock
from smi_xds.mesh.model import InboundPort, Workload
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.grpc_clients import grpc_application
from tests.support.identity import load_or_create
from tests.support.live import LiveMesh, live_mesh

pytestmark = pytest.mark.envoy

# RFC 9113, section 3.4: what a client sends first. The server's first frame is SETTINGS (type 4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = 4

SERVER = """
apiVersion: v1
kind: Pod
metadata:
  name: server
  namespace: shop
  labels: {app: server}
  annotations:
    smi-xds.io/sidecar: bound
    smi-xds.io/address: 127.1.0.3
    smi-xds.io/app-address: 127.1.0.103
spec: {serviceAccountName: server}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop}
spec:
  selector: {app: server}
  ports: [{name: grpc, port: 8080}]
"""


def certificates(folder: Path, *, state: Path) -> Path:
    """A folder with a certificate for `shop/job`, by the authority of a state folder."""
    identity = SpiffeId.of("cluster.local", ServiceAccountRef("shop", "job"))
    hand_out(identity, state_folder=state, folder=folder, now=wall_clock())
    return folder


async def first_frame(mesh: LiveMesh, *, alpn: str, own: Path | None) -> int | None:
    """The type of the frame that answers the preface of HTTP/2; None if the door stays shut."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    if own is not None:
        context.load_cert_chain(own / "tls.crt", own / "tls.key")
    address = mesh.workload("shop/server").address
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(address, 8080, ssl=context)
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == alpn
            writer.write(PREFACE)
            frame = await reader.readexactly(9)
            writer.close()
    except (OSError, asyncio.IncompleteReadError):
        return None
    return frame[3]


@pytest.mark.parametrize(
    "access, mtls", [("strict", "strict"), ("strict", "permissive"), ("permissive", "strict")]
)
async def test_h2_is_for_certificates_of_the_mesh(access: str, mtls: str, tmp_path: Path) -> None:
    """The handshake takes one of ours, and no other, nor none; nothing speaks other protocols."""
    async with live_mesh(
        SERVER, tmp_path, application=grpc_application, access=access, mtls=mtls
    ) as mesh:
        ours = certificates(tmp_path / "ours", state=tmp_path / "state")
        load_or_create(tmp_path / "elsewhere", trust_domain="cluster.local", now=wall_clock())
        theirs = certificates(tmp_path / "theirs", state=tmp_path / "elsewhere")

        assert await first_frame(mesh, alpn="h2", own=ours) == SETTINGS
        assert await first_frame(mesh, alpn="h2", own=theirs) is None
        assert await first_frame(mesh, alpn="h2", own=None) is None
        assert await first_frame(mesh, alpn="http/1.1", own=ours) is None


@asynccontextmanager
async def own_tls(workload: Workload, port: InboundPort, folder: Path) -> AsyncIterator[None]:
    """An application with TLS of its own that offers h2, and answers with a frame of type 9."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(PREFACE))
        writer.write(bytes([0, 0, 0, 9, 0, 0, 0, 0, 0]))
        writer.close()

    server = await asyncio.start_server(answer, workload.app_address, port.number, ssl=context)
    yield
    server.close()


async def test_an_applications_own_h2_is_left_alone(tmp_path: Path) -> None:
    """Permissive in all: its clients have no certificate of the mesh, and reach it as before."""
    load_or_create(tmp_path / "elsewhere", trust_domain="cluster.local", now=wall_clock())
    folder = certificates(tmp_path / "app", state=tmp_path / "elsewhere")
    async with live_mesh(
        SERVER,
        tmp_path,
        application=lambda workload, port: own_tls(workload, port, folder),
        access="permissive",
        mtls="permissive",
    ) as mesh:
        assert await first_frame(mesh, alpn="h2", own=None) == 9
