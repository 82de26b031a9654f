"""The xDS port for pods, with a real API server that judges their tokens."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from smi_xds import app
from smi_xds.app import Running
from smi_xds.app.xds_ports import TOKENS
from smi_xds.config import parse_kubernetes, parse_serve, parse_xds_tls
from smi_xds.identity.issuer import wall_clock
from smi_xds.xds.resources import CLUSTER, SECRET
from tests.ads.client import Stream, stream
from tests.kube.api import Kube
from tests.kube.cluster import ADMIN_TOKEN, KubeCluster
from tests.support.identity import load_or_create
from tests.support.tokens import expired, make_token, signed
from tests.support.wait import eventually_async

pytestmark = pytest.mark.kube

BOTH = pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


class Plane:
    """A control plane with TLS alone, and the pods `web` and `job` in a namespace."""

    def __init__(self, kube: Kube, namespace: str, server: Running, root: bytes) -> None:
        self.kube = kube
        self.namespace = namespace
        self.server = server
        self.credentials = grpc.ssl_channel_credentials(root)

    @property
    def refusals(self) -> dict[str, float]:
        return dict(self.server.status.meters.unproven.values)

    def token(self, pod: str = "web", **how: str) -> str:
        account = how.pop("account", pod)
        return make_token(self.kube, pod, namespace=self.namespace, account=account, **how)

    def make_pod(self, name: str, ip: str) -> None:
        """A pod with an account of its own name."""
        self.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": name, "namespace": self.namespace},
            }
        )
        self.kube.make_pod(
            name,
            namespace=self.namespace,
            service_account=name,
            annotations={"smi-xds.io/sidecar": "bound"},
            ip=ip,
        )

    async def known(self, pod: str) -> None:
        """Wait until the server serves the pod."""
        wanted = f"{self.namespace}/{pod}"
        await eventually_async(
            lambda: wanted in {str(proxy) for proxy in self.server.mesh.workloads}, deadline=30
        )

    @asynccontextmanager
    async def stream(
        self, token: str | None, *, node: str = "web", is_delta: bool = True
    ) -> AsyncIterator[Stream]:
        address = self.server.xds[TOKENS]
        async with stream(
            str(address),
            is_delta=is_delta,
            node=f"{self.namespace}/{node}",
            credentials=self.credentials,
            token=token,
        ) as opened:
            yield opened

    async def code(self, token: str | None, *, asks: bool = False, **how: Any) -> Any:
        """How a stream with that token ends; who is not let in at all need not ask.

        A write to a stream that ends just then would make INTERNAL of its status (gRPC's client).
        """
        async with self.stream(token, **how) as client, asyncio.timeout(30):
            if asks:
                await client.ask(SECRET, "identity")
            return await client.call.code()

    async def identity(self, token: str, **how: Any) -> str:
        """Whose key a stream with that token is given."""
        async with self.stream(token, **how) as client, asyncio.timeout(30):
            await client.ask(SECRET, "identity")
            return _identity(await client.hear())


def _identity(response: Any) -> str:
    """Of the certificate in an answer; its URI stands in it as it is."""
    raw = response.SerializeToString()
    begin = raw.index(b"-----BEGIN CERTIFICATE-----")
    certificate = x509.load_pem_x509_certificate(raw[begin:])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
    return str(uri)


@asynccontextmanager
async def running(kube: Kube, namespace: str, folder: Path) -> AsyncIterator[Plane]:
    config = parse_serve(
        kubernetes=parse_kubernetes(kubeconfig=str(kube.kubeconfig), namespaces=[namespace]),
        xds_address="off",
        xds_tls=parse_xds_tls(tokens="127.0.0.1:0"),
        state_folder=folder / "state",
    )
    async with app.running(config) as server:
        authority = load_or_create(folder / "state", trust_domain="cluster.local", now=wall_clock())
        plane = Plane(kube, namespace, server, authority.trust_bundle)
        for number, pod in enumerate(("web", "job"), start=5):
            await asyncio.to_thread(plane.make_pod, pod, f"10.244.0.{number}")
            await plane.known(pod)
        yield plane


@pytest.fixture
async def plane(kube: Kube, namespace: str, tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(kube, namespace, tmp_path) as found:
        yield found


@BOTH
async def test_the_token_of_a_pod_gives_what_is_the_pods(plane: Plane, is_delta: bool) -> None:
    """Its identity, and the same of another one for another pod."""
    for pod in ("web", "job"):
        token = await asyncio.to_thread(plane.token, pod)
        found = await plane.identity(token, node=pod, is_delta=is_delta)
        assert found == f"spiffe://cluster.local/ns/{plane.namespace}/sa/{pod}"

    assert plane.refusals == {}
    assert plane.server.status.meters.handshakes.values == {"tls": 2}


def _recreated(plane: Plane) -> str:
    """The token of a pod whose name another one has now."""
    plane.make_pod("again", "10.244.0.8")
    token = plane.token("again")
    plane.kube.remove_pod("again", namespace=plane.namespace)
    plane.make_pod("again", "10.244.0.9")
    return token


def _deleted(plane: Plane) -> str:
    plane.make_pod("gone", "10.244.0.7")
    token = plane.token("gone")
    plane.kube.remove_pod("gone", namespace=plane.namespace)
    return token


def _tampered(plane: Plane) -> str:
    """One's own claims under the signature of another token."""
    head, _, signature = plane.token("job").split(".")
    return f"{head}.{plane.token('web').split('.')[1]}.{signature}"


def _attempts(plane: Plane) -> Iterator[tuple[str, str, str | None, grpc.StatusCode, str]]:
    """What is tried, as which pod, with which token, and how it ends."""
    yield "none", "web", None, UNAUTHENTICATED, "no_credential"
    if isinstance(plane.kube, KubeCluster):
        # It takes them for a minute longer than they say, against clocks that differ.
        late = expired(plane.token(), plane.kube.scratch / "accounts.key", since=61)
        yield "expired", "web", late, UNAUTHENTICATED, "expired_token"
    foreign = plane.token(audience="https://kubernetes.default.svc")
    yield "wrong audience", "web", foreign, UNAUTHENTICATED, "wrong_audience"
    yield "another pod's", "web", plane.token("job"), DENIED, "foreign_node"
    yield "deleted pod's", "gone", _deleted(plane), UNAUTHENTICATED, "invalid_token"
    yield "of the pod before", "again", _recreated(plane), UNAUTHENTICATED, "invalid_token"
    unbound = plane.token("", account="web")
    yield "account's, of no pod", "web", unbound, UNAUTHENTICATED, "not_bound"
    yield "forged", "web", signed(plane.token(), None), UNAUTHENTICATED, "invalid_token"
    yield "tampered with", "web", _tampered(plane), UNAUTHENTICATED, "invalid_token"
    yield "the administrator's", "web", ADMIN_TOKEN, UNAUTHENTICATED, "invalid_token"


async def test_other_tokens_are_refused_and_counted(plane: Plane) -> None:
    """In both dialects, without a byte of configuration."""
    for name, node, token, code, reason in await asyncio.to_thread(lambda: [*_attempts(plane)]):
        before = plane.refusals.get(reason, 0)
        for is_delta in (True, False):
            asks = code == DENIED  # it says who it is, and only then it is known not to be
            found = await plane.code(token, node=node, is_delta=is_delta, asks=asks)
            assert found == code, name
        assert plane.refusals[reason] == before + 2, name

    assert plane.server.status.meters.pushes.values == {}


async def test_a_token_that_was_good_ends_with_its_pod(plane: Plane) -> None:
    """The open stream is ended, and a cached yes does not let it in again; others go on."""
    token, other = [await asyncio.to_thread(plane.token, pod) for pod in ("web", "job")]
    async with plane.stream(token) as client, plane.stream(other, node="job") as stays:
        for each in (client, stays):
            await each.ask(CLUSTER)
            await each.answer(await each.hear())
        await asyncio.to_thread(plane.kube.remove_pod, "web", namespace=plane.namespace)
        async with asyncio.timeout(30):
            assert await client.call.code() == DENIED
        assert not stays.call.done()

    assert await plane.code(token, asks=True) == DENIED
    assert plane.refusals == {"revoked": 1, "unknown_node": 1}


async def test_while_the_api_server_is_away_those_it_knew_go_on(
    own_kube: KubeCluster, namespace: str, tmp_path: Path
) -> None:
    """New ones are told to come back, and are let in when it is back."""
    async with running(own_kube, namespace, tmp_path) as plane:
        known, new = [await asyncio.to_thread(plane.token, pod) for pod in ("web", "job")]
        await plane.identity(known)
        await asyncio.to_thread(own_kube.stop_apiserver)

        assert "/sa/web" in await plane.identity(known)
        assert await plane.code(new, node="job") == grpc.StatusCode.UNAVAILABLE
        assert plane.refusals == {"unreviewed": 1}

        await asyncio.to_thread(own_kube.start_apiserver)
        assert "/sa/job" in await plane.identity(new, node="job")
