"""Strict mode with real Envoys, iptables and a namespace for each workload."""

from pathlib import Path

import pytest

from tests.intercepted.worlds import ROUTES, allow, pod, service, split
from tests.kube.netns import in_netns
from tests.support.intercepted import InterceptedMesh, intercepted_mesh

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
async def test_nobody_gets_in_but_who_is_allowed(tmp_path: Path) -> None:
    """Requests and connections are judged by identity; what is denied gets no byte."""
    async with intercepted_mesh(WORLD, tmp_path) as mesh:
        await start_applications(mesh)
        assert (await mesh.get("client", WEB, 80, "/api/x")).status == 200
