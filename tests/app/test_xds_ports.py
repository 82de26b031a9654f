"""xDS over TLS outside of Kubernetes: client certificates, and the server's own."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds import app
from smi_xds.ads.auth import CertificateProof, Credentials, Known, Proof
from smi_xds.ads.cache import Cache
from smi_xds.ads.guard import Guard
from smi_xds.ads.limits import DEFAULTS
from smi_xds.ads.server import Door, opened
from smi_xds.ads.services import DISCOVERY_SERVICES
from smi_xds.ads.status import Status
from smi_xds.app import Running
from smi_xds.app.xds_ports import CERTIFICATES, Served
from smi_xds.config import parse_serve, parse_xds_tls
from smi_xds.demo.envoy import envoy_binary, running_sidecar
from smi_xds.identity.ca import LEAF_USAGE, Authority
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.serving import ServerTls
from smi_xds.values import ProxyId, ServiceAccountRef, SpiffeId
from smi_xds.xds.resources import CLUSTER, SECRET
from tests.ads.client import Stream, names, stream
from tests.ads.play import resources
from tests.support.certificates import key_usage
from tests.support.identity import load_or_create, mk_authority
from tests.support.wait import eventually_async

STORY = Path(app.__file__).parents[1] / "demo" / "story"
NODE = "bookbuyer/bookbuyer"
WEB = SpiffeId.of("cluster.local", ServiceAccountRef("bookbuyer", "bookbuyer"))
THIEF = SpiffeId.of("cluster.local", ServiceAccountRef("bookthief", "bookthief"))
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Plane:
    """A server with one port, for client certificates, and its authority."""

    def __init__(self, server: Running, authority: Authority, state: Path) -> None:
        self.server = server
        self.authority = authority
        self.state = state
        self.address = server.xds[CERTIFICATES]

    @property
    def refusals(self) -> dict[str, float]:
        return self.server.status.meters.unproven.values

    @asynccontextmanager
    async def stream(
        self, chain: bytes, key: bytes, *, node: str = NODE, **how: Any
    ) -> AsyncIterator[Stream]:
        credentials = grpc.ssl_channel_credentials(self.authority.trust_bundle, key, chain)
        async with stream(str(self.address), node=node, credentials=credentials, **how) as opened:
            yield opened

    async def code(self, chain: bytes, key: bytes, *, asks: bool = False, **how: Any) -> Any:
        """How a stream with that certificate ends; who is not let in at all need not ask.

        A write to a stream that ends just then would make INTERNAL of its status (gRPC's client).
        """
        async with self.stream(chain, key, **how) as client, asyncio.timeout(30):
            if asks:
                await client.ask(SECRET, "identity")
            return await client.call.code()


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    config = parse_serve(
        files=[STORY],
        xds_address="off",
        xds_tls=parse_xds_tls(certificates="127.0.0.1:0"),
        state_folder=tmp_path / "state",
    )
    async with app.running(config) as server:
        authority = load_or_create(
            tmp_path / "state", trust_domain="cluster.local", now=wall_clock()
        )
        yield Plane(server, authority, tmp_path / "state")


def leaf(authority: Authority, identity: SpiffeId = WEB) -> tuple[bytes, bytes]:
    issued = authority.issue(identity, now=wall_clock())
    return issued.certificate_chain, issued.private_key.value


def mk_leaf(
    issuer: x509.Certificate | None,
    by: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None,
    *,
    identity: str = str(WEB),
    ends: timedelta = timedelta(hours=1),
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ca: bool = False,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate as no authority of ours makes it; signed by itself where by none."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{serial:x}"[:20])])
    now = wall_clock()
    usage = key_usage(key_cert_sign=True) if ca else LEAF_USAGE
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer is not None else name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True
        )
        .sign(by or key, hashes.SHA256())
    )
    return certificate, key


def pem(key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> tuple[bytes, bytes]:
    encoding = serialization.Encoding.PEM
    return b"".join(each.public_bytes(encoding) for each in chain), key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
async def test_a_workload_gets_what_is_its_own(plane: Plane, is_delta: bool) -> None:
    """By a certificate of its identity."""
    async with plane.stream(*leaf(plane.authority), is_delta=is_delta) as client:
        await client.ask(SECRET, "identity")
        found = await client.hear()

    assert len(found.resources) == 1
    assert plane.refusals == {}


async def test_anothers_node_id_gets_nothing(plane: Plane) -> None:
    """On every service, and no more than for a node that does not exist."""
    for service in DISCOVERY_SERVICES:
        for is_delta in (True, False):
            how: dict[str, Any] = {"service": service, "is_delta": is_delta}
            async with plane.stream(*leaf(plane.authority, THIEF), **how) as client:
                await client.ask(service.type or CLUSTER)
                assert await client.call.code() == grpc.StatusCode.PERMISSION_DENIED

    none = await plane.code(*leaf(plane.authority), node="bookbuyer/none", asks=True)
    assert none == grpc.StatusCode.PERMISSION_DENIED
    assert plane.refusals == {"foreign_node": 12, "unknown_node": 1}
    assert plane.server.status.meters.pushes.values == {}


def _of_another_root(_plane: Plane) -> tuple[bytes, bytes]:
    return leaf(mk_authority(now=wall_clock()))


def _self_signed(_plane: Plane) -> tuple[bytes, bytes]:
    certificate, key = mk_leaf(None, None)
    return pem(key, certificate)


def _expired(plane: Plane) -> tuple[bytes, bytes]:
    root = plane.authority
    certificate, key = mk_leaf(root.certificate, root.key, ends=-timedelta(minutes=1))
    return pem(key, certificate)


def _for_servers(plane: Plane) -> tuple[bytes, bytes]:
    root, purpose = plane.authority, ExtendedKeyUsageOID.SERVER_AUTH
    certificate, key = mk_leaf(root.certificate, root.key, purpose=purpose)
    return pem(key, certificate)


def _signed_by_a_leaf(plane: Plane) -> tuple[bytes, bytes]:
    root = plane.authority
    between, signer = mk_leaf(root.certificate, root.key)
    certificate, key = mk_leaf(between, signer)
    return pem(key, certificate, between)


def _chain_too_long(plane: Plane) -> tuple[bytes, bytes]:
    """One more authority than the root allows."""
    root = plane.authority
    between, signer = mk_leaf(root.certificate, root.key, ca=True)
    certificate, key = mk_leaf(between, signer)
    return pem(key, certificate, between)


@pytest.mark.parametrize(
    "attempt",
    [_of_another_root, _self_signed, _expired, _for_servers, _signed_by_a_leaf],
    ids=lambda attempt: attempt.__name__.strip("_").replace("_", " "),
)
async def test_other_certificates_fail_the_handshake(plane: Plane, attempt: Any) -> None:
    """It is counted that it began, and no call ever came of it."""
    assert await plane.code(*attempt(plane)) == UNAVAILABLE

    begun = plane.server.status.meters.handshakes
    await eventually_async(lambda: begun.values.get("mtls", 0) >= 1)
    assert plane.server.status.meters.rejected.values == {}
    assert plane.server.status.meters.pushes.values == {}


async def test_a_chain_that_is_too_long_is_refused(plane: Plane) -> None:
    """gRPC lets it in: that the root allows no other authority below it is our own check."""
    code = await plane.code(*_chain_too_long(plane))

    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert plane.refusals == {"invalid_certificate": 1}


async def test_a_workload_of_another_trust_domain_is_refused(plane: Plane) -> None:
    """Even if our own root signed it."""
    root = plane.authority
    certificate, key = mk_leaf(root.certificate, root.key, identity="spiffe://other/ns/a/sa/b")

    code = await plane.code(*pem(key, certificate))

    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert plane.refusals == {"wrong_trust_domain": 1}


async def test_who_has_no_certificate_or_no_tls_stays_outside(plane: Plane) -> None:
    """The port says nothing to either."""
    plain = grpc.ssl_channel_credentials(plane.authority.trust_bundle)
    for credentials in (plain, None):
        async with stream(str(plane.address), node=NODE, credentials=credentials) as client:
            async with asyncio.timeout(30):
                assert await client.call.code() == UNAVAILABLE

    assert plane.server.status.meters.rejected.values == {}


@pytest.mark.parametrize(
    "version, is_served",
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
    ids=["1.1", "1.2", "1.3"],
)
async def test_tls_is_1_2_or_later(
    plane: Plane, version: ssl.TLSVersion, is_served: bool, tmp_path: Path
) -> None:
    """A client that knows only what is older gets no handshake."""
    chain, key = leaf(plane.authority)
    (tmp_path / "tls.pem").write_bytes(chain + key)
    context = ssl.create_default_context(cadata=plane.authority.trust_bundle.decode())
    context.load_cert_chain(tmp_path / "tls.pem")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version

    def shake_hands() -> str | None:
        with (
            socket.create_connection((plane.address.host, plane.address.port), timeout=30) as raw,
            context.wrap_socket(raw, server_hostname=plane.address.host) as secured,
        ):
            return secured.version()

    if is_served:
        assert await asyncio.to_thread(shake_hands) == version.name.replace("_", ".")
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(shake_hands)


async def test_an_envoy_on_a_vm_proves_itself_by_a_certificate(
    plane: Plane, tmp_path: Path
) -> None:
    """As `smi-xds bootstrap` writes it; on the next stream it has the one that was renewed."""
    folder = tmp_path / "vm"
    main = "from smi_xds.cli.main import main; main()"
    flags = [
        *("bootstrap", "--files", str(STORY), "--proxy", NODE, "--server", str(plane.address)),
        *("--certificates", str(folder), "--state-folder", str(plane.state)),
    ]

    async def bootstrap() -> bytes:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", main, *flags), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        printed, _ = await process.communicate()
        return printed

    (tmp_path / "envoy.json").write_bytes(await bootstrap())
    admin = json.loads((tmp_path / "envoy.json").read_text())["admin"]["address"]
    async with running_sidecar(
        name="vm",
        binary=envoy_binary(),
        bootstrap=tmp_path / "envoy.json",
        admin_host=admin["socket_address"]["address"],
        logs=tmp_path,
    ) as (sidecar, _):
        await sidecar.wait_until_ready()
        await plane.server.converged([NODE])
        first = await _serials(sidecar)
        await bootstrap()
        await eventually_async(lambda: _differ(sidecar, first), deadline=30)

    assert plane.refusals == {}


async def _serials(sidecar: Any) -> set[str]:
    """Of all that Envoy has in use: a workload's own, and that for the control plane."""
    certificates = json.loads(await sidecar._get("/certs"))["certificates"]
    return {chain["serial_number"] for each in certificates for chain in each["cert_chain"]}


async def _differ(sidecar: Any, before: set[str]) -> bool:
    return await _serials(sidecar) != before


class Anyone:
    """Takes everybody for the same, and knows it."""

    edition = None

    async def __call__(self, _credentials: Credentials, /) -> Proof:
        return CertificateProof(identity=WEB, serial="1", expires=4e9)

    def find(self, _proxy: ProxyId, /) -> Known:
        return Known(account=ServiceAccountRef("bookbuyer", "bookbuyer"), uid="")


async def test_the_servers_certificate_is_renewed_under_open_streams() -> None:
    """Who is connected notices nothing; who connects is shown the new one."""
    begin = wall_clock() - timedelta(hours=20)
    authority, clock = mk_authority(now=begin), [begin]
    tls = ServerTls(authority, ["localhost", "127.0.0.1"], clock=lambda: clock[0])
    cache, status, anyone = Cache(), Status(), Anyone()
    begun: list[None] = []
    served = Served(tls, None, begun=lambda: begun.append(None))
    guard = Guard(anyone, anyone, refusals=status.meters.unproven, limits=DEFAULTS)
    door = Door(host="127.0.0.1", port=0, credentials=served.credentials(), guard=guard)
    trust = grpc.ssl_channel_credentials(authority.trust_bundle)
    async with opened(cache, status, [door]) as [port]:
        target = f"127.0.0.1:{port}"
        cache.publish({NODE: resources("cluster a 1")})
        before = await _shown(authority, port)
        async with stream(target, node=NODE, credentials=trust) as client:
            await client.ask(CLUSTER)
            await client.answer(await client.hear())

            clock[0] += timedelta(hours=20)
            assert tls.step()
            after = await _shown(authority, port)
            cache.publish({NODE: resources("cluster a 2")})
            assert names(await client.hear()) == ["a"]

    assert before.serial_number != after.serial_number
    assert (
        after.serial_number
        == x509.load_pem_x509_certificate(tls.certificate.certificate_chain).serial_number
    )
    assert len(begun) == 3


async def _shown(authority: Authority, port: int) -> x509.Certificate:
    """The certificate that a new connection is shown, which names the address."""
    context = ssl.create_default_context(cadata=authority.trust_bundle.decode())
    context.set_alpn_protocols(["h2"])

    def shake_hands() -> bytes | None:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
        ):
            return secured.getpeercert(binary_form=True)

    shown = await asyncio.to_thread(shake_hands)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)
