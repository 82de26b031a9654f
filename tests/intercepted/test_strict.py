"""Strict mode with real Envoys, iptables and a namespace for each workload."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from smi_xds.demo import http1
from tests.intercepted.worlds import ROUTES, allow, pod, service, split
from tests.kube.netns import in_netns
from tests.support.intercepted import InterceptedMesh, eventually_closed, intercepted_mesh
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

PORTS = (
    "{name: http, port: 80, targetPort: 8080}, {name: tcp-echo, port: 7000}, "
    "{name: tcp-server-first-db, port: 7001}"
)
WEB, V1, V2 = "10.96.0.1", "10.96.0.2", "10.96.0.3"
OPEN, EMPTY, OWN_SLICE = "10.96.0.4", "10.96.0.5", "10.96.0.6"

WORLD = "".join(
    (
        pod("client", "10.244.0.10"),
        pod("thief", "10.244.0.11", egress="closed"),
        pod("v1", "10.244.0.12", account="web", app="web", extra=", version: v1"),
        pod("v2", "10.244.0.13", account="web", app="web", extra=", version: v2"),
        pod("bare", "10.244.0.14", sidecar=""),
        service("web", WEB, PORTS, select="app: web"),
        service("web-v1", V1, PORTS, select="app: web, version: v1"),
        service("web-v2", V2, PORTS, select="app: web, version: v2"),
        service("open", OPEN, "{name: http, port: 80, targetPort: 8080}", select="app: bare"),
        service("empty", EMPTY, "{name: http, port: 80}, {name: tcp, port: 90}", select="app: no"),
        f"""
apiVersion: v1
kind: Service
metadata: {{name: own-slice, namespace: test}}
spec:
  clusterIPs: [{OWN_SLICE}]
  ports: [{{name: http, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: own-slice-1, namespace: test, labels: {{kubernetes.io/service-name: own-slice}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [10.244.0.14]}}]
---""",
        ROUTES,
        allow("http", "client", "web", "HTTPRouteGroup/api"),
        allow("tcp", "client", "web", "TCPRoute/connections"),
        allow("self", "web", "web", "TCPRoute/all"),
        split("canary", "web", web_v1=3, web_v2=1),
    )
)


async def start_applications(mesh: InterceptedMesh) -> None:
    for name in ("v1", "v2", "bare"):
        await mesh.serve_http(name, 8080)
        await mesh.serve_echo(name, 7000)
        await mesh.serve_greeting(name, 7001)
        await mesh.serve_http(name, 9999)


@in_netns(addresses=())
async def test_who_is_allowed_gets_in_and_nobody_else(tmp_path: Path) -> None:
    """Requests and connections are judged by identity; who is denied gets no byte."""
    async with intercepted_mesh(WORLD, tmp_path) as mesh:
        await start_applications(mesh)
        await _check_requests(mesh)
        await _check_connections(mesh)
        await _check_ways_out(mesh)
        await _check_guards(mesh)
        await eventually_async(lambda: _logs(mesh))


async def _check_requests(mesh: InterceptedMesh) -> None:
    # Any Host, even none of ours: the address decides.
    allowed = await mesh.get("client", WEB, 80, "/api/x", host="www.example.com")
    assert allowed.status == 200
    assert "sa/client" in allowed.seen["x-forwarded-client-cert"]
    assert (await mesh.get("client", WEB, 80, "/other")).status == 403  # judged over there
    assert (await mesh.get("client", WEB, 80, "/api/../other")).status == 403
    denied = await mesh.get("thief", WEB, 80, "/api/x")  # by its own sidecar, which knows no more
    assert (denied.status, denied.body) == (
        403,
        b"smi-xds: no TrafficTarget allows this identity to call test/web:80\n",
    )
    # Three to one; five standard deviations of a binomial distribution of 80.
    found = await mesh.shares("client", WEB, 80, 80, path="/api")
    assert set(found) == {"v1", "v2"}
    assert 41 <= found["v1"] <= 79
    # A workload calls its own service, and may well get itself.
    assert set(await mesh.shares("v1", WEB, 80, 30)) == {"v1", "v2"}
    assert (await mesh.get("client", EMPTY, 80)).status == 503


async def _check_connections(mesh: InterceptedMesh) -> None:
    assert await mesh.first_line("client", V1, 7000, "hello\n") == b"v1: hello\n"
    assert await mesh.first_line("client", V2, 7001) == b"v2\n"
    greetings = Counter([await mesh.first_line("client", WEB, 7001) for _ in range(80)])
    assert set(greetings) == {b"v1\n", b"v2\n"}
    assert 41 <= greetings[b"v1\n"] <= 79  # three to one, as above
    for port in (7000, 7001):
        assert await mesh.first_line("thief", V1, port, "hello\n") == b""
    # Around the services: in plaintext, which strict mode takes from nobody.
    for source in ("bare", "client"):
        assert (await mesh.get(source, "10.244.0.12", 8080, "/api")).status == 0
        assert (await mesh.get(source, "10.244.0.12", 9999)).status == 0  # of no service
    assert await mesh.first_line("bare", "10.244.0.12", 7001) == b""
    assert await mesh.first_line("client", EMPTY, 90, "hello\n") == b""


async def _check_ways_out(mesh: InterceptedMesh) -> None:
    for address in (OPEN, OWN_SLICE):
        for source in ("client", "thief"):  # services are no egress
            assert (await mesh.get(source, address, 80)).answered_by == "bare"
    assert (await mesh.get("client", "10.244.0.14", 9999)).answered_by == "bare"
    assert (await mesh.get("thief", "10.244.0.14", 9999)).status == 0


async def _check_guards(mesh: InterceptedMesh) -> None:
    for address, port in (
        ("127.0.0.1", 15001),
        ("127.0.0.1", 15006),
        ("10.244.0.14", 15001),
        ("10.244.0.14", 15006),
    ):
        assert await mesh.first_line("client", address, port, "hello\n") == b""
    for port in (15000, 15001, 15006):
        assert await mesh.first_line("bare", "10.244.0.10", port, "hello\n") == b""
    before = _connections(mesh)
    assert await mesh.first_line("client", "127.0.0.1", 15001, "hello\n") == b""
    assert sum(_connections(mesh)) - sum(before) == 1


def _connections(mesh: InterceptedMesh) -> tuple[int, ...]:
    """How many connections came to 15001 and to 15006 of the client."""
    stats = mesh.stats("client", "downstream_cx_total")
    return tuple(
        stats[f"listener.{it}.downstream_cx_total"] for it in ("127.0.0.1_15001", "0.0.0.0_15006")
    )


async def _logs(mesh: InterceptedMesh) -> bool:
    seen = [it for it in mesh.access_log("client") if it.get("backend") == "test/web-v1:7000"]
    assert seen, "nothing yet"
    assert seen[0]["source"] == "spiffe://cluster.local/ns/test/sa/client"
    assert seen[0]["destination"] == "spiffe://cluster.local/ns/test/sa/web"
    refused = [it for it in mesh.access_log("thief") if it.get("backend") == "denied"]
    return {it["source"] for it in refused} == {"spiffe://cluster.local/ns/test/sa/thief"}


@in_netns(addresses=())
async def test_a_change_leaves_connections_of_others_alone(tmp_path: Path) -> None:
    """Services, rights and ports come and go while connections to others stay open."""
    async with intercepted_mesh(WORLD, tmp_path) as mesh:
        await start_applications(mesh)
        reader, writer = await mesh.pods["client"].connect(V1, 7000)
        kept = http1.Connection(*await mesh.pods["client"].connect(V1, 80))
        request = http1.request("GET", "/api", host="web", headers={})

        async def alive() -> None:
            writer.write(b"still there?\n")
            async with asyncio.timeout(20):
                assert await reader.readline() == b"v1: still there?\n"

        await alive()
        assert (await kept.send(request)).first_line[1] == "200"
        extra = service("extra", "10.96.0.9", "{name: tcp-more, port: 9999}", select="app: web")
        rights = allow("more", "thief", "web", "HTTPRouteGroup/api")
        for change in (
            lambda text: f"{text}{extra}",  # one more listener outside, one more chain inside
            lambda text: text.replace("10.96.0.9", "10.96.0.99"),
            lambda text: f"{text}{rights}",
            lambda text: text.replace("pathRegex: /api", "pathRegex: /api/.*"),
            lambda text: text.replace(extra.replace("10.96.0.9", "10.96.0.99"), ""),
        ):
            await mesh.edit(change)
            await alive()
        # A right that is taken away ends with the next request, or within the drain time.
        assert (await kept.send(request)).first_line[1] == "403"
        await mesh.edit(lambda text: text.replace("ports: [7000, 7001]", "ports: [7001]"))
        assert await eventually_closed(reader)
        writer.close()
        kept.close()
