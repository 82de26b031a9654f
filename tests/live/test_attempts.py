"""What an attacker tries at a strict port of a real Envoy: each attempt is refused, and counted."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.demo import http1
from smi_xds.identity.ca import create_key
from smi_xds.identity.issuer import wall_clock
from smi_xds.problems import ProblemCode
from smi_xds.xds.names import ALPN
from smi_xds.xds.secrets import LONGEST_CHAIN
from tests.support.certificates import CLIENT_AND_SERVER, Holder, mk_certificate
from tests.support.identity import load_or_create
from tests.support.live import LiveMesh, Reply, live_mesh
from tests.support.wait import eventually_async

# One mesh for all of them: nothing that is refused changes it.
pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="module")]

DOMAIN = "cluster.local"
HTTP, TCP = 8080, 9000


def _pod(name: str, number: int) -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: test
  labels: {{app: {name}}}
  annotations:
    smi-xds.io/sidecar: bound
    smi-xds.io/address: 127.1.0.{number}
    smi-xds.io/app-address: 127.1.0.{number + 100}
spec: {{serviceAccountName: {name}}}
---"""


WORLD = (
    _pod("caller", 2)
    + _pod("thief", 3)
    + _pod("server", 4)
    + """
apiVersion: v1
kind: Service
metadata: {name: server, namespace: test}
spec:
  selector: {app: server}
  ports: [{name: http, port: 8080}, {name: tcp-server-first-db, port: 9000}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: all, namespace: test}
spec: {matches: {}}
---
apiVersion: access.smi-spec.io/v1alpha4
kind: IdentityBinding
metadata: {name: foreigners, namespace: test}
spec:
  schemes:
    spiffeIdentities: [spiffe://elsewhere.example/ns/test/sa/caller]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: callers, namespace: test}
spec:
  destination: {kind: ServiceAccount, name: server}
  rules: [{kind: TCPRoute, name: all}]
  sources:
    - {kind: ServiceAccount, name: caller}
    - {kind: ServiceAccount, name: leaver}
    - {kind: IdentityBinding, name: foreigners}
"""
)

LEAVER = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: leaver, namespace: test}
"""


@dataclass(slots=True)
class Stage:
    """The mesh, its authority, and who stands at its door."""

    mesh: LiveMesh
    authority: Holder
    folder: Path

    def leaf(self, account: str = "caller", *, domain: str = DOMAIN, **more: object) -> Holder:
        """Signed by the mesh's own root, with whatever is to be wrong."""
        uri = f"spiffe://{domain}/ns/test/sa/{account}"
        return self.authority.leaf([uri], now=wall_clock(), **more)  # type: ignore[arg-type] # a table

    async def counter(self, of: str) -> int:
        """The sum of those counters of the server's sidecar."""
        return sum((await self.mesh.stats("test/server", of)).values())

    async def knock(
        self,
        holder: Holder | None,
        *,
        port: int = HTTP,
        alpn: str = ALPN,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask over TLS, as nobody's sidecar does; status 0 where the connection is lost."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = version
        context.set_alpn_protocols([alpn] if alpn else [])
        if holder is not None:
            file = self.folder / "presented.pem"
            file.write_bytes(holder.pem + holder.key_pem)
            context.load_cert_chain(file)
        return await self._ask(port, context, headers or {})

    async def _ask(
        self, port: int, context: ssl.SSLContext | None, headers: Mapping[str, str]
    ) -> Reply:
        address = self.mesh.workload("test/server").address
        try:
            async with asyncio.timeout(20):
                opened = await asyncio.open_connection(address, port, ssl=context)
                if port == TCP:
                    opened[1].write(b"hello\n")
                    line = await opened[0].readline()
                    opened[1].close()
                    return Reply(200 if line else 0, body=line)
                connection = http1.Connection(*opened)
                answer = await connection.send(
                    http1.request("GET", "/", host="server.test:8080", headers=headers)
                )
                connection.close()
        except (OSError, http1.HttpError):
            return Reply(0)
        return Reply(int(answer.first_line[1]), answer.headers, answer.body)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("attempts")
    async with live_mesh(WORLD, folder) as mesh:
        await mesh.write("leaver.yaml", LEAVER)
        found = load_or_create(folder / "state", trust_domain=DOMAIN, now=wall_clock())
        assert isinstance(found.key, ec.EllipticCurvePrivateKey)
        yield Stage(mesh, Holder(certificate=found.certificate, key=found.key), folder)


async def test_with_a_good_certificate_one_gets_in(stage: Stage) -> None:
    """The same client that is refused below: so it is the credential that makes the difference."""
    assert (await stage.knock(stage.leaf())).status == 200
    assert (await stage.knock(stage.leaf(), port=TCP)).body == b"server\n"


async def test_a_certificate_of_somebody_else_is_denied(stage: Stage) -> None:
    """Proved, and without a right: 403 on HTTP, no byte on TCP."""
    for port, counter, status in (
        (HTTP, r"rbac\.denied$", 403),
        (TCP, r"ssl\.fail_verify_san$", 0),
    ):
        before = await stage.counter(counter)
        assert (await stage.knock(stage.leaf("thief"), port=port)).status == status
        assert await stage.counter(counter) == before + 1


def _under_a_leaf(stage: Stage) -> Holder:
    return stage.leaf("thief").leaf([f"spiffe://{DOMAIN}/ns/test/sa/caller"], now=wall_clock())


def _too_long(stage: Stage) -> Holder:
    holder = stage.authority
    for number in range(LONGEST_CHAIN + 1):
        holder = holder.intermediate(f"between-{number}", now=wall_clock())
    return holder.leaf([f"spiffe://{DOMAIN}/ns/test/sa/caller"], now=wall_clock())


def _elsewhere(_: Stage) -> Holder:
    root = Holder.root("elsewhere", now=wall_clock())
    return root.leaf([f"spiffe://{DOMAIN}/ns/test/sa/caller"], now=wall_clock())


def _alone(_: Stage) -> Holder:
    key = create_key()
    uri = f"spiffe://{DOMAIN}/ns/test/sa/caller"
    certificate = mk_certificate(
        key.public_key(),
        name="caller",
        uris=[uri],
        purposes=CLIENT_AND_SERVER,
        now=wall_clock(),
        life=timedelta(days=1),
        signer=None,
        key=key,
    )
    return Holder(certificate=certificate, key=key)


Make = Callable[[Stage], Holder | None]
ATTEMPTS: Mapping[str, tuple[Make, str]] = {
    "without a certificate": (lambda _: None, "fail_verify_no_cert"),
    "expired": (lambda it: it.leaf(life=timedelta(hours=-1)), "fail_verify_error"),
    "for servers only": (
        lambda it: it.leaf(purposes=[ExtendedKeyUsageOID.SERVER_AUTH]),
        "fail_verify_error",
    ),
    "signed by itself": (_alone, "fail_verify_error"),
    "of another authority": (_elsewhere, "fail_verify_error"),
    "signed by a leaf": (_under_a_leaf, "fail_verify_error"),
    "of a chain that is too long": (_too_long, "fail_verify_error"),
}


@pytest.mark.parametrize("port", [HTTP, TCP])
@pytest.mark.parametrize("attempt", list(ATTEMPTS))
async def test_a_bad_certificate_is_refused(stage: Stage, attempt: str, port: int) -> None:
    """In the handshake, whatever is asked afterwards."""
    make, counter = ATTEMPTS[attempt]
    before = await stage.counter(rf"ssl\.{counter}$")

    assert (await stage.knock(make(stage), port=port)).status == 0
    assert await stage.counter(rf"ssl\.{counter}$") == before + 1


async def test_a_foreign_trust_domain_is_nobody(stage: Stage) -> None:
    """Even under our root, and named by a TrafficTarget: that is told as a problem."""
    holder = stage.leaf(domain="elsewhere.example")
    before = await stage.counter(r"rbac\.denied$"), await stage.counter(r"ssl\.fail_verify_san$")

    assert (await stage.knock(holder)).status == 403
    assert (await stage.knock(holder, port=TCP)).status == 0
    after = await stage.counter(r"rbac\.denied$"), await stage.counter(r"ssl\.fail_verify_san$")
    assert after == (before[0] + 1, before[1] + 1)
    told = {(problem.code, problem.ref.name) for problem in stage.mesh.server.mesh.problems}
    assert (ProblemCode.UNPROVABLE_IDENTITY, "foreigners") in told


@pytest.mark.parametrize("port", [HTTP, TCP])
async def test_plaintext_is_refused(stage: Stage, port: int) -> None:
    """No chain takes it; nothing reaches the application, which listens elsewhere."""
    before = await stage.counter(r"no_filter_chain_match$")

    assert (await stage._ask(port, None, {})).status == 0
    assert await stage.counter(r"no_filter_chain_match$") == before + 1


@pytest.mark.parametrize("alpn", ["", "http/1.1", "istio"])
async def test_tls_that_is_not_the_meshs_is_refused(stage: Stage, alpn: str) -> None:
    """Also with a good certificate: an application's own TLS does not pass a strict port."""
    before = await stage.counter(r"no_filter_chain_match$")

    assert (await stage.knock(stage.leaf(), alpn=alpn)).status == 0
    assert await stage.counter(r"no_filter_chain_match$") == before + 1


async def test_an_older_tls_is_refused(stage: Stage) -> None:
    """TLS 1.3 is what both ends of a mesh speak."""
    before = await stage.counter(r"ssl\.connection_error$")

    assert (await stage.knock(stage.leaf(), version=ssl.TLSVersion.TLSv1_2)).status == 0
    assert await stage.counter(r"ssl\.connection_error$") == before + 1


FORGED = f"By=spiffe://{DOMAIN}/ns/test/sa/server;URI=spiffe://{DOMAIN}/ns/test/sa/caller"


async def test_a_forged_certificate_header_is_neither_believed_nor_passed_on(
    stage: Stage,
) -> None:
    """The rules look at the handshake; the application sees who was proved there."""
    forged = {"x-forwarded-client-cert": FORGED}
    assert (await stage.knock(stage.leaf("thief"), headers=forged)).status == 403

    reply = await stage.knock(
        stage.leaf(),
        headers={"x-forwarded-client-cert": FORGED.replace("sa/caller", "sa/root")},
    )
    assert named(reply) == "caller"


async def test_an_applications_own_header_is_replaced_on_the_way(stage: Stage) -> None:
    """What a caller's application claims stays with its sidecar."""
    claims = {"x-forwarded-client-cert": FORGED.replace("sa/caller", "sa/root")}

    reply = await stage.mesh.get("test/caller", "server.test:8080", headers=claims)

    assert named(reply) == "caller"


def named(reply: Reply) -> str:
    """The one account that the application was told of."""
    [account] = re.findall("URI=[^;,]*/sa/([^;,]*)", reply.seen["x-forwarded-client-cert"])
    return str(account)


async def test_a_service_account_that_is_deleted_revokes_its_certificates(stage: Stage) -> None:
    """They are valid for hours yet; nobody lets them in any more."""
    leaver = stage.leaf("leaver")
    assert (await stage.knock(leaver)).status == 200
    assert (await stage.knock(leaver, port=TCP)).status == 200

    before = stage.mesh.server.round
    (stage.mesh.folder / "leaver.yaml").unlink()
    async with asyncio.timeout(30):
        await stage.mesh.server.next_round(before)
    await stage.mesh.converged()

    denied = await stage.counter(r"rbac\.denied$"), await stage.counter(r"ssl\.fail_verify_san$")
    assert (await stage.knock(leaver)).status == 403

    async def is_refused() -> bool:
        return (await stage.knock(leaver, port=TCP)).status == 0

    await eventually_async(is_refused)
    after = await stage.counter(r"rbac\.denied$"), await stage.counter(r"ssl\.fail_verify_san$")
    assert after[0] == denied[0] + 1
    assert after[1] > denied[1]
    assert (await stage.knock(stage.leaf())).status == 200
