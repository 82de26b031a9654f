"""cert-manager does what every issuer has to do: over a real API server, with a signer of ours."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
import structlog

from smi_xds.config import KubernetesConfig
from smi_xds.identity.cert_manager import CertManagerIssuer, Pace
from smi_xds.identity.certificate_request import IssuerRef
from smi_xds.sources.kube_connection import Connection
from smi_xds.values import SpiffeId
from tests.kube.api import Kube, KubectlError
from tests.support.cert_manager import DEFINITION, NAME, Signer
from tests.support.certificates import Holder
from tests.support.connections import end_connections
from tests.support.issuers import (
    DEADLINE,
    A,
    B,
    Clock,
    IssuerContract,
    World,
    check_leaf,
    mk_identity,
    running_world,
)
from tests.support.plane import control_plane
from tests.support.wait import eventually, eventually_async

QUICK = Pace(
    poll=timedelta(milliseconds=50),
    retry=timedelta(seconds=1),
    longest_nap=timedelta(milliseconds=500),
)


class SignedWorld(World):
    """With the one who signs, and the API server between them."""

    signer: Signer
    kube: Kube
    namespace: str

    def asked(self, identity: SpiffeId, *, times: int = 1) -> bool:
        """Whether the signer saw a request for it, so often."""
        found = [it["metadata"]["annotations"]["smi-xds.io/identity"] for it in self.signer.seen]
        return found.count(str(identity)) >= times

    def requests(self) -> list[dict[str, object]]:
        """What is there now."""
        found: list[dict[str, object]] = self.kube.get(NAME, f"--namespace={self.namespace}")[
            "items"
        ]
        return found


@pytest.fixture(scope="module")
def requests_kube(kube: Kube) -> Iterator[Kube]:
    """An API server that knows CertificateRequests."""
    kube.apply(DEFINITION)
    kube.kubectl("wait", "--for=condition=Established", "crd", NAME, "--timeout=30s")
    eventually(lambda: kube.get(NAME, "-A"), deadline=DEADLINE, retry_on=(KubectlError,))
    yield kube
    kube.kubectl("delete", "crd", NAME)


class TestCertManager(IssuerContract):
    """The suite, and what only somebody else's signer can do."""

    @pytest.fixture
    async def world(self, requests_kube: Kube, namespace: str) -> AsyncIterator[World]:
        clock = Clock()
        root = Holder.root("test root", now=clock())
        signer = Signer(root.intermediate("test intermediate", now=clock()), clock=clock)
        signer.root = root
        connection, admin = (Connection(_config(requests_kube.kubeconfig)) for _ in range(2))
        await connection.open()
        await admin.open()
        issuer = CertManagerIssuer(
            connection,
            IssuerRef(namespace=namespace, kind="Issuer", name="mesh"),
            clock=clock,
            pace=QUICK,
        )
        async with running_world(issuer, clock) as plain, asyncio.TaskGroup() as tasks:
            signing = tasks.create_task(signer.run(admin, namespace))
            world = SignedWorld(plain.issuer, clock)
            world.told = plain.told
            world.signer, world.kube, world.namespace = signer, requests_kube, namespace
            try:
                yield world
            finally:
                signing.cancel()
                await admin.close()
        await end_connections()

    @pytest.fixture
    def signed(self, world: World) -> SignedWorld:
        return cast("SignedWorld", world)

    async def test_what_is_asked_for_is_what_is_needed(self, signed: SignedWorld) -> None:
        """A leaf for client and server, of an issuer, for a time; no key is in it, and nothing of
        it stays."""
        await signed.complete({A})

        [request] = signed.signer.seen
        spec = request["spec"]
        assert spec["issuerRef"] == {"name": "mesh", "kind": "Issuer", "group": "cert-manager.io"}
        assert (spec["duration"], spec["isCA"]) == ("86400s", False)
        assert spec["usages"] == ["digital signature", "client auth", "server auth"]
        assert request["metadata"]["annotations"]["smi-xds.io/identity"] == str(A)
        assert b"PRIVATE" not in base64.b64decode(spec["request"])
        assert "PRIVATE" not in json.dumps(request)
        await eventually_async(
            lambda: asyncio.to_thread(_is_empty, signed), deadline=DEADLINE, what="deleted"
        )

    @pytest.mark.parametrize(
        "policy, reason",
        [("deny", "not by this policy"), ("fail", "no luck"), ("ignore", "approve it")],
    )
    async def test_who_is_not_signed_stands_alone(
        self, signed: SignedWorld, policy: str, reason: str
    ) -> None:
        """Denied, failed or not answered: a reason is given, all others are served, and it is tried
        again after a while."""
        signed.signer.policy = lambda uri: policy if uri == str(A) else "sign"
        await eventually_async(
            lambda: B in signed.issuer.ask({A, B}).leaves and signed.asked(A), deadline=DEADLINE
        )
        signed.clock.offset += QUICK.tell
        standing = await signed.complete({A, B})

        assert standing.leaves.keys() == {B}
        assert reason in standing.refused[A]
        signed.signer.policy = lambda _: "sign"
        await eventually_async(lambda: A in signed.issuer.ask({A, B}).leaves, deadline=DEADLINE)
        assert signed.issuer.ask({A, B}).refused == {}

    async def test_an_issuer_that_approves_and_does_not_sign_is_told_of(
        self, signed: SignedWorld
    ) -> None:
        """The cure is another one than where nobody approves."""
        signed.signer.policy = lambda _: "approve"
        signed.issuer.ask({A})
        # The second look finds it approved.
        await eventually_async(lambda: signed.asked(A, times=2), deadline=DEADLINE)
        signed.clock.offset += QUICK.tell
        standing = await signed.complete({A})

        assert "approved, and not signed" in standing.refused[A]
        assert "the log of the issuer" in standing.refused[A]

    async def test_those_who_are_ignored_do_not_keep_others_waiting(
        self, signed: SignedWorld
    ) -> None:
        """Where more are ignored than are asked for at once, everybody has his turn."""
        ignored = {mk_identity(f"ignored-{number:03}") for number in range(QUICK.window)}
        signed.signer.policy = lambda uri: "ignore" if "ignored" in uri else "sign"
        late = mk_identity("late")
        signed.issuer.ask(ignored | {late})
        await eventually_async(lambda: len(signed.signer.seen) >= QUICK.window, deadline=DEADLINE)
        signed.clock.offset += QUICK.short_patience

        await eventually_async(
            lambda: late in signed.issuer.ask(ignored | {late}).leaves, deadline=DEADLINE
        )

    async def test_a_wrong_answer_is_refused(self, signed: SignedWorld) -> None:
        """A certificate for somebody else is not handed out, whoever signed it."""
        signed.signer.sign = lambda _, key: signed.signer.sign_well(str(B), key)
        standing = await signed.complete({A})

        assert standing.leaves == {}
        assert f"names {B}, not {A} alone" in standing.refused[A]

    async def test_a_new_root_is_trusted_before_it_is_used(self, signed: SignedWorld) -> None:
        """Both are in the bundle while leaves of both are in use."""
        first = await signed.complete({A, B})
        before = signed.issuer.trust_bundle
        signed.signer.authority = signed.signer.root = Holder.root("new", now=signed.clock())
        renewal = max(leaf.renew_at for leaf in first.leaves.values())
        signed.clock.offset = renewal - signed.clock() + timedelta(seconds=1)
        await eventually_async(lambda: signed.issuer.trust_bundle != before, deadline=DEADLINE)

        assert signed.issuer.trust_bundle.startswith(before)
        assert signed.issuer.ask({A, B}).leaves == first.leaves
        signed.clock.offset += timedelta(seconds=15)
        await eventually_async(
            lambda: signed.issuer.ask({A, B}).leaves[A] is not first.leaves[A], deadline=DEADLINE
        )
        for identity, leaf in signed.issuer.ask({A, B}).leaves.items():
            check_leaf(leaf, identity, bundle=signed.issuer.trust_bundle, now=signed.clock())

    async def test_requests_of_a_process_that_is_gone_are_deleted(
        self, requests_kube: Kube, namespace: str
    ) -> None:
        """Those that are old; younger ones may be another replica's."""
        connection = Connection(_config(requests_kube.kubeconfig))
        await connection.open()
        reference = IssuerRef(namespace=namespace, kind="Issuer", name="mesh")
        clock = Clock()
        gone = CertManagerIssuer(connection, reference, clock=clock, pace=QUICK)
        gone.ask({A})
        await gone.step()
        for age, left in ((timedelta(minutes=1), 1), (timedelta(hours=2), 0)):
            clock.offset = age
            await CertManagerIssuer(connection, reference, clock=clock, pace=QUICK).step()
            found = requests_kube.get(NAME, f"--namespace={namespace}")["items"]
            assert len(found) == left
        await connection.close()
        await end_connections()

    @pytest.mark.parametrize("rights", [False, True])
    async def test_missing_rights_and_a_missing_kind_are_told_once_with_a_cure(
        self, requests_kube: Kube, namespace: str, rights: bool
    ) -> None:
        """However often it is tried; and it is told when it is over."""
        kubeconfig = requests_kube.kubeconfig_for("powerless", namespace=namespace)
        connection = Connection(_config(requests_kube.kubeconfig if rights else kubeconfig))
        await connection.open()
        where = "no-such-namespace" if rights else namespace
        issuer = CertManagerIssuer(
            connection, IssuerRef(namespace=where, kind="Issuer", name="mesh"), pace=QUICK
        )
        with structlog.testing.capture_logs() as logs:
            async with running_world(issuer, Clock()):
                issuer.ask({A})
                await eventually_async(lambda: logs, deadline=DEADLINE)
                for _ in range(3):
                    issuer.ask({A})
                    await asyncio.sleep(QUICK.poll.total_seconds() * 2)

        await end_connections()
        [told] = [line for line in logs if line["event"] == "issuer_unavailable"]
        assert "no-such-namespace" in told["cure"] if rights else "Role" in told["cure"]


async def test_serve_waits_for_whom_to_trust_and_then_serves(
    requests_kube: Kube, namespace: str, tmp_path: Path
) -> None:
    """`serve --cert-manager` with a meshed pod: nothing before the first answer, all after it."""
    annotations = {"smi-xds.io/sidecar": "intercepted"}
    await asyncio.to_thread(
        requests_kube.make_pod, "web", namespace=namespace, annotations=annotations, ip="10.244.9.9"
    )
    admin = Connection(_config(requests_kube.kubeconfig))
    await admin.open()
    clock = Clock()
    signer = Signer(Holder.root("root", now=clock()), clock=clock)
    flags = ("--xds-address", "127.0.0.1:0", "--state-folder", tmp_path / "state")
    async with control_plane(
        "--kubernetes", "--kubeconfig", requests_kube.kubeconfig, "--namespace", namespace,
        "--cert-manager", f"{namespace}/Issuer/mesh", *flags, folder=tmp_path,
    ) as server:  # fmt: skip
        await server.launch()
        path = f"/apis/cert-manager.io/v1/namespaces/{namespace}/certificaterequests"

        async def is_asked() -> bool:
            return bool(json.loads(await admin.read(path))["items"])

        await eventually_async(is_asked, deadline=DEADLINE)
        assert server.events("serving") == []
        async with asyncio.TaskGroup() as tasks:
            signing = tasks.create_task(signer.run(admin, namespace))
            try:
                await server.logged("serving", deadline=DEADLINE)
            finally:
                signing.cancel()
    await admin.close()
    await end_connections()
    [request] = signer.seen
    uri = f"spiffe://cluster.local/ns/{namespace}/sa/default"
    assert request["metadata"]["annotations"]["smi-xds.io/identity"] == uri


def _is_empty(signed: SignedWorld) -> bool:
    try:
        return signed.requests() == []
    except KubectlError:
        return False


def _config(kubeconfig: Path) -> KubernetesConfig:
    return KubernetesConfig(kubeconfig=str(kubeconfig))
