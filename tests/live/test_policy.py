"""Policy as real Envoys enforce it: who is let in, and what a denied caller sees."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.live import live_mesh
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

WORKLOADS = """
apiVersion: v1
kind: Pod
metadata:
  name: caller
  namespace: test
  annotations:
    smi-xds.io/sidecar: bound
    smi-xds.io/address: 127.1.0.2
    smi-xds.io/app-address: 127.1.0.102
spec: {serviceAccountName: caller}
---
apiVersion: v1
kind: Pod
metadata:
  name: server
  namespace: test
  labels: {app: server}
  annotations:
    smi-xds.io/sidecar: bound
    smi-xds.io/address: 127.1.0.3
    smi-xds.io/app-address: 127.1.0.103
spec: {serviceAccountName: server}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: test}
spec:
  selector: {app: server}
  ports:
    - {name: http, port: 8080}
    - {name: tcp-server-first-db, port: 9000}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: routes, namespace: test}
spec:
  matches:
    - {name: allowed, pathRegex: /allowed}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: db, namespace: test}
spec: {matches: {ports: [9000]}}
"""

HTTP_TARGET = """
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: http, namespace: test}
spec:
  destination: {kind: ServiceAccount, name: server}
  rules: [{kind: HTTPRouteGroup, name: routes}]
  sources: [{kind: ServiceAccount, name: caller}]
"""

TCP_TARGET = """
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: tcp, namespace: test}
spec:
  destination: {kind: ServiceAccount, name: server}
  rules: [{kind: TCPRoute, name: db}]
  sources: [{kind: ServiceAccount, name: caller}]
"""


@pytest.mark.parametrize(
    "path",
    [
        "/secret",
        "/allowed/../secret",
        "/allowed/./../secret",
        "/allowed/%2e%2e/secret",
        "/allowed/%2E./secret",
        "//secret",
        "/allowed//../..//secret",
    ],
)
async def test_a_path_is_judged_as_what_it_is(path: str, tmp_path: Path) -> None:
    """Dot segments and double slashes are resolved before the rules look."""
    async with live_mesh(WORKLOADS + "---" + HTTP_TARGET, tmp_path) as mesh:
        assert (await mesh.get("test/caller", "server.test:8080", "/allowed/x")).status == 200

        assert (await mesh.get("test/caller", "server.test:8080", path)).status == 403


async def test_an_escaped_slash_is_answered_by_a_redirect(tmp_path: Path) -> None:
    """`%2F` is neither judged nor forwarded: the client is sent to the path that it means."""
    async with live_mesh(WORKLOADS + "---" + HTTP_TARGET, tmp_path) as mesh:
        reply = await mesh.get("test/caller", "server.test:8080", "/allowed%2F..%2Fsecret")

        assert reply.status == 307
        assert reply.headers["location"].endswith("/secret")


async def test_access_follows_the_traffic_target_on_an_open_connection(tmp_path: Path) -> None:
    """Allowed, denied and allowed again, without the connection being closed once."""
    async with live_mesh(WORKLOADS + "---" + HTTP_TARGET, tmp_path) as mesh:
        for target, status in (("", 403), (HTTP_TARGET, 200)) * 3:
            await mesh.edit("objects.yaml", lambda _, t=target: WORKLOADS + "---" + t)  # type: ignore[misc] # bound now
            connection = mesh.connections.get("test/caller")

            async def has(status: int = status) -> bool:
                reply = await mesh.get("test/caller", "server.test:8080", "/allowed")
                return reply.status == status

            await eventually_async(has, deadline=5)
            assert connection in (None, mesh.connections["test/caller"])
            for _ in range(50):
                assert await has()


async def test_a_denied_tcp_caller_gets_no_byte_of_a_server_that_speaks_first(
    tmp_path: Path,
) -> None:
    """Straight to the sidecar's port, with the mesh's own TLS and without: not one byte."""
    async with live_mesh(EXAMPLES / "05-tcp", tmp_path) as mesh:
        database = mesh.workload("data/db")
        assert await mesh.greeting("data/api", "data/db:3306") == b"db\n"
        assert await mesh.greeting("data/intruder", "data/db:3306") == b""

        reader, writer = await asyncio.open_connection(database.address, 3306)
        writer.write(b"let me in\n")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_a_tcp_caller_is_let_in_and_thrown_out(tmp_path: Path) -> None:
    """A new TrafficTarget opens a port; without it new connections get nothing again."""
    async with live_mesh(WORKLOADS, tmp_path) as mesh:
        assert await mesh.greeting("test/caller", "test/server:9000") == b""

        await mesh.write("tcp.yaml", TCP_TARGET)

        async def greeted() -> bool:
            return await mesh.greeting("test/caller", "test/server:9000") == b"server\n"

        await eventually_async(greeted, deadline=10)
        await mesh.edit("tcp.yaml", lambda text: text.replace("name: caller", "name: nobody"))

        async def refused() -> bool:
            return await mesh.greeting("test/caller", "test/server:9000") == b""

        await eventually_async(refused, deadline=10)


async def test_the_access_log_names_who_called_whom_and_what_decided(tmp_path: Path) -> None:
    """One JSON object a request: identities, route, backend, flags, and the TrafficTarget."""
    async with live_mesh(WORKLOADS + "---" + HTTP_TARGET, tmp_path) as mesh:
        await mesh.get("test/caller", "server.test:8080", "/allowed")
        await mesh.get("test/caller", "server.test:8080", "/secret")

        async def lines() -> list[dict[str, object]]:
            return mesh.access_log("test/server", "inbound")

        async def both() -> bool:
            return len(await lines()) == 2

        await eventually_async(both, deadline=20)
        allowed, denied = await lines()

    assert allowed["source"] == "spiffe://cluster.local/ns/test/sa/caller"
    assert allowed["destination"] == "spiffe://cluster.local/ns/test/sa/server"
    assert allowed["policy"] == "test/http"
    assert allowed["status"] == 200
    assert allowed["backend"] == "inbound|8080"
    assert denied["status"] == 403
    assert denied["details"] == "rbac_access_denied_matched_policy[none]"
