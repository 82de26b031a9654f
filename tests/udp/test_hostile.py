"""The tunnel listener against callers that are no sidecars of ours."""

import asyncio
import ssl
from collections.abc import Iterable
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamReset

from smi_xds.identity.handout import CERTIFICATE_CHAIN, PRIVATE_KEY, TRUST_BUNDLE, hand_out
from smi_xds.identity.issuer import wall_clock
from smi_xds.values import SpiffeId
from tests.support.live import LiveMesh, live_mesh
from tests.udp.test_live import WORLD, target

pytestmark = pytest.mark.envoy

OURS = "/.well-known/masque/udp/one.test/53/"
ALLOWED, INTRUDER = (
    f"spiffe://cluster.local/ns/test/sa/{account}" for account in ("caller", "intruder")
)

Headers = Iterable[tuple[str, str]]


def connect_udp(path: str = OURS, authority: str = "one.test:53") -> Headers:
    """The opening of a tunnel (RFC 9298, section 3.4)."""
    return (
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
        ("capsule-protocol", "?1"),
    )


def plain(method: str, path: str = OURS) -> Headers:
    """A request as any other."""
    return (
        (":method", method),
        (":scheme", "https"),
        (":authority", "one.test:53"),
        (":path", path),
    )


def credentials(folder: Path, identity: str) -> ssl.SSLContext:
    """What a client that has this identity uses."""
    hand_out(
        SpiffeId.parse(identity), state_folder=folder / "state", folder=folder, now=wall_clock()
    )
    context = ssl.create_default_context(cafile=str(folder / TRUST_BUNDLE))
    context.check_hostname = False
    context.load_cert_chain(folder / CERTIFICATE_CHAIN, folder / PRIVATE_KEY)
    return context


async def opened(mesh: LiveMesh, context: ssl.SSLContext | None, headers: Headers) -> str:
    """The status of a stream, or how it ended without one."""
    address = mesh.workload("test/one").address
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(address, 15008, ssl=context)
        connection = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        connection.initiate_connection()
        connection.send_headers(1, list(headers))
        writer.write(connection.data_to_send())
        try:
            return await _outcome(reader, connection)
        except (ConnectionError, ssl.SSLError):
            return "closed"
        finally:
            writer.close()


async def _outcome(reader: asyncio.StreamReader, connection: H2Connection) -> str:
    while data := await reader.read(65_536):
        for event in connection.receive_data(data):
            if isinstance(event, ResponseReceived):
                return dict(event.headers or ())[b":status"].decode()
            if isinstance(event, StreamReset | ConnectionTerminated):
                return "reset"
    return "closed"


async def test_a_stream_is_for_a_port_of_a_service_and_a_caller_with_a_right(
    tmp_path: Path,
) -> None:
    """Nothing else opens: not another target, port or method, not another identity, not none."""
    async with live_mesh(WORLD + target("one", "caller"), tmp_path) as mesh:
        allowed, intruder = (credentials(tmp_path, it) for it in (ALLOWED, INTRUDER))
        masque = "/.well-known/masque/udp"
        tried = [
            (allowed, connect_udp(), "200"),
            # The authority is the caller's own affair: the path says what is meant.
            (allowed, connect_udp(authority="elsewhere:1"), "200"),
            (intruder, connect_udp(), "403"),
            (allowed, connect_udp(f"{masque}/one.test/8125/"), "403"),
            (allowed, connect_udp(f"{masque}/one.test/54/"), "404"),
            (allowed, connect_udp(f"{masque}/two.test/53/"), "404"),
            (allowed, connect_udp(f"{masque}/127.0.0.1/53/"), "404"),
            (allowed, connect_udp(f"{masque}/one.test/8125/../53/"), "404"),
            (allowed, connect_udp(f"{OURS}?x"), "404"),
            (allowed, plain("GET"), "404"),
            (allowed, plain("POST"), "404"),
            (allowed, ((":method", "CONNECT"), (":authority", "one.test:53")), "404"),
            (None, connect_udp(), "closed"),
        ]
        found = [(await opened(mesh, context, headers)) for context, headers, _ in tried]

        assert found == [status for *_, status in tried]


async def test_a_client_without_a_certificate_is_closed(tmp_path: Path) -> None:
    """Also in permissive mTLS: a tunnel without a name would be of use to nobody."""
    async with live_mesh(
        WORLD + target("one", "caller"), tmp_path, mtls="permissive", access="permissive"
    ) as mesh:
        anonymous = ssl.create_default_context()
        anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
        assert await opened(mesh, anonymous, connect_udp()) == "closed"
        assert await opened(mesh, credentials(tmp_path, INTRUDER), connect_udp()) == "200"
