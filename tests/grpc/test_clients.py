"""The xDS clients built into grpcio and grpc-go, beside real sidecars, over mTLS."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from smi_xds.ads.status import Sync
from tests.support.grpc_clients import (
    KINDS,
    PATIENCE,
    SIGNED,
    Calls,
    GrpcClient,
    grpc_application,
    grpc_client,
)
from tests.support.live import LiveMesh, live_mesh
from tests.support.wait import eventually_async

pytestmark = [pytest.mark.envoy, pytest.mark.parametrize("kind", KINDS)]

REQUESTS = 2_000

WORKLOADS = """
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  annotations: {smi-xds.io/sidecar: bound}
---
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: shop, annotations: {smi-xds.io/sidecar: proxyless}}
spec: {serviceAccountName: job}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, annotations: {smi-xds.io/sidecar: proxyless}}
spec: {serviceAccountName: other}
---
apiVersion: v1
kind: Pod
metadata:
  name: old
  namespace: shop
  labels: {app: cart, version: old}
  annotations: {smi-xds.io/address: 127.1.0.3, smi-xds.io/app-address: 127.1.0.103}
spec: {serviceAccountName: cart}
---
apiVersion: v1
kind: Pod
metadata:
  name: new
  namespace: shop
  labels: {app: cart, version: new}
  annotations: {smi-xds.io/address: 127.1.0.4, smi-xds.io/app-address: 127.1.0.104}
spec: {serviceAccountName: cart}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  selector: {app: cart}
  ports: [{name: grpc, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: cart-old, namespace: shop}
spec:
  selector: {version: old}
  ports: [{name: grpc, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: cart-new, namespace: shop}
spec:
  selector: {version: new}
  ports: [{name: grpc, port: 8080}]
"""

ALLOWED = """
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: who, namespace: shop}
spec:
  matches:
  - {name: who, pathRegex: "/test.Echo/Who$", methods: [POST]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: job-cart, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: cart}
  rules: [{kind: HTTPRouteGroup, name: who}]
  sources: [{kind: ServiceAccount, name: job}]
"""


def split(old: int, new: int, *, matches: str = "") -> str:
    return f"""
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{name: cart-{"matched" if matches else "all"}, namespace: shop}}
spec:
  service: cart
  backends:
  - {{service: cart-old, weight: {old}}}
  - {{service: cart-new, weight: {new}}}
  matches: [{matches}]
"""


TESTERS = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: testers, namespace: shop}
spec:
  matches:
  - name: testers
    headers: {x-tester: "y(es)?"}
"""


def is_share(calls: Calls, share: float) -> bool:
    """Whether `old` answered that share of all calls, within five standard deviations."""
    slack = 5 * math.sqrt(calls.total * share * (1 - share))
    return not calls.failed and abs(calls.served["old"] - calls.total * share) <= slack


async def eventually_answers(
    client: GrpcClient, target: str, expected: Callable[[Calls], bool]
) -> None:
    """Call until one comes to what is expected; how soon a client knows is its own affair."""

    async def check() -> bool:
        return expected(await client.call(target, timeout=1))

    await eventually_async(check, deadline=PATIENCE)


def no_nacks(mesh: LiveMesh) -> bool:
    return all(
        it.sync is not Sync.NACKED and it.nacks == 0
        for stream in mesh.server.status.streams.values()
        for it in stream.types.values()
    )


async def test_a_split_is_divided_by_weight(kind: str, tmp_path: Path) -> None:
    """50/50, then 90/10 on the same channel; no call fails, and nothing is refused."""
    async with (
        live_mesh(WORKLOADS + ALLOWED, tmp_path, application=grpc_application) as mesh,
        grpc_client(kind, mesh, "shop/job", tmp_path) as client,
    ):
        assert mesh.server.mesh.problems == ()
        await mesh.write("split.yaml", split(50, 50))
        half = await client.call("cart.shop:8080", count=REQUESTS)
        assert is_share(half, 0.5), half

        await mesh.edit("split.yaml", lambda _: split(90, 10))
        await mesh.server.converged(["shop/job"])
        most = await client.call("cart.shop:8080", count=REQUESTS)
        assert is_share(most, 0.9), most
        assert no_nacks(mesh)


async def test_a_split_with_matches_goes_by_header(kind: str, tmp_path: Path) -> None:
    """Calls with the header go where the matching split says, all others to the other one."""
    async with (
        live_mesh(WORKLOADS + ALLOWED, tmp_path, application=grpc_application) as mesh,
        grpc_client(kind, mesh, "shop/job", tmp_path) as client,
    ):
        await mesh.write("testers.yaml", TESTERS)
        matches = "{kind: HTTPRouteGroup, name: testers}"
        await mesh.write("matched.yaml", split(0, 1, matches=matches))
        await mesh.write("all.yaml", split(1, 0))
        assert mesh.server.mesh.problems == ()

        target = "cart.shop.svc.cluster.local:8080"
        tester = await client.call(target, count=50, metadata={"x-tester": "yes"})
        assert (tester.served, tester.failed) == ({"new": 50}, {})
        others = await client.call(target, count=50, metadata={"x-tester": "yesterday"})
        assert (others.served, others.failed) == ({"old": 50}, {})


async def test_an_absent_service_heals_when_it_is_added(kind: str, tmp_path: Path) -> None:
    """Until then calls fail within their time-out; the channel need not be made anew."""
    async with (
        live_mesh(WORKLOADS + ALLOWED, tmp_path, application=grpc_application) as mesh,
        grpc_client(kind, mesh, "shop/job", tmp_path) as client,
    ):
        absent = await client.call("later.shop:9090", timeout=2)
        assert absent.failed.keys() <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert not absent.served

        await mesh.write(
            "later.yaml",
            """
apiVersion: v1
kind: Service
metadata: {name: later, namespace: shop}
spec:
  selector: {version: new}
  ports: [{name: grpc, port: 9090, targetPort: 8080}]
""",
        )
        await eventually_answers(client, "later.shop:9090", lambda calls: calls.served["new"] == 1)


async def test_what_no_traffic_target_allows_is_denied(kind: str, tmp_path: Path) -> None:
    """By the client itself, at once; a TrafficTarget opens it on the same channel and closes it."""
    async with (
        live_mesh(WORKLOADS, tmp_path, application=grpc_application) as mesh,
        grpc_client(kind, mesh, "shop/job", tmp_path) as client,
    ):
        denied = await client.call("cart.shop:8080", count=5)
        assert denied.failed == {"PERMISSION_DENIED": 5}
        assert "fault" in denied.detail.lower(), "said by the client, nobody was called"

        await mesh.write("allowed.yaml", ALLOWED)
        await eventually_answers(client, "cart.shop:8080", lambda calls: not calls.failed)
        # The destination judges what the client does not: the method that no match names.
        calls = await client.call("cart.shop:8080", method="/test.Echo/Other")
        assert calls.failed == {"PERMISSION_DENIED": 1}

        (mesh.folder / "allowed.yaml").unlink()
        await eventually_answers(
            client, "cart.shop:8080", lambda calls: calls.failed["PERMISSION_DENIED"] == 1
        )
        assert no_nacks(mesh)


async def test_the_certificate_says_who_calls(kind: str, tmp_path: Path) -> None:
    """Who asks for another's configuration is judged by its own certificate all the same."""
    async with (
        live_mesh(WORKLOADS + ALLOWED, tmp_path, application=grpc_application) as mesh,
        grpc_client(kind, mesh, "shop/other", tmp_path),
        grpc_client(
            kind, mesh, "shop/job", tmp_path, certificates=tmp_path / "shop" / "other"
        ) as impostor,
    ):
        calls = await impostor.call("cart.shop:8080")
        assert calls.failed == {"PERMISSION_DENIED": 1}
        assert "fault" not in calls.detail.lower(), "said by the sidecar"


GHOST = """
apiVersion: v1
kind: Pod
metadata:
  name: ghost
  namespace: shop
  labels: {app: ghost}
  annotations: {smi-xds.io/address: 127.1.0.4}
spec: {serviceAccountName: ghost}
---
apiVersion: v1
kind: Service
metadata: {name: ghost, namespace: shop}
spec:
  selector: {app: ghost}
  ports: [{name: grpc, port: 8080}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: job-ghost, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: ghost}
  rules: [{kind: HTTPRouteGroup, name: who}]
  sources: [{kind: ServiceAccount, name: job}]
"""


async def test_a_server_must_prove_who_it_is(kind: str, tmp_path: Path) -> None:
    """Nothing is sent to a server of the mesh that is not among the identities of the service."""
    async with (
        live_mesh(WORKLOADS + ALLOWED, tmp_path, application=grpc_application) as mesh,
        grpc_client(kind, mesh, "shop/job", tmp_path) as client,
    ):
        # At that address answers the sidecar of another pod, with a valid certificate.
        await mesh.write("ghost.yaml", GHOST)
        assert (await client.call("cart.shop:8080")).failed == {}

        calls = await client.call("ghost.shop:8080", count=3)
        assert calls.failed == {"UNAVAILABLE": 3}


@pytest.mark.parametrize("credentials", ["xds", "insecure"])
async def test_strict_services_take_no_plaintext(
    kind: str, credentials: str, tmp_path: Path
) -> None:
    """A client without certificates, or without xDS credentials, reaches nothing."""
    certificates = None if credentials == "xds" else SIGNED
    async with (
        live_mesh(WORKLOADS + ALLOWED, tmp_path, application=grpc_application) as mesh,
        grpc_client(
            kind,
            mesh,
            "shop/job",
            tmp_path,
            certificates=certificates,
            credentials=credentials,
        ) as client,
    ):
        calls = await client.call("cart.shop:8080", timeout=2)
        assert calls.failed.keys() <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert not calls.served


async def test_permissive_services_are_called_in_plaintext(kind: str, tmp_path: Path) -> None:
    """Where neither access nor mTLS is strict, a client needs no certificates at all."""
    async with (
        live_mesh(
            WORKLOADS,
            tmp_path,
            application=grpc_application,
            access="permissive",
            mtls="permissive",
        ) as mesh,
        grpc_client(kind, mesh, "shop/job", tmp_path, certificates=None) as client,
    ):
        calls = await client.call("cart.shop:8080", count=20)
        assert (calls.served.total(), calls.failed) == (20, {})
        assert no_nacks(mesh)


async def test_with_strict_access_alone_a_client_has_to_say_who_it_is(
    kind: str, tmp_path: Path
) -> None:
    """mTLS is optional there for whoever needs no name; a client that is listed uses it."""
    async with (
        live_mesh(
            WORKLOADS + ALLOWED, tmp_path, application=grpc_application, mtls="permissive"
        ) as mesh,
        grpc_client(kind, mesh, "shop/job", tmp_path) as client,
    ):
        assert (await client.call("cart.shop:8080", count=5)).failed == {}
