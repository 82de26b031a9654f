"""Callers selected by their labels, with real Envoys: an identity together with an address."""

from pathlib import Path

import pytest

from tests.intercepted.worlds import ROUTES, pod, service
from tests.kube.netns import in_netns
from tests.support.intercepted import InterceptedMesh, intercepted_mesh
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

WEB = "10.96.0.1"
PORTS = "{name: http, port: 80, targetPort: 8080}, {name: tcp-server-first-db, port: 7001}"

# Two pods with one certificate, of which one is selected, and one that may call from anywhere.
WORLD = "".join(
    (
        pod("blue", "10.244.0.10", account="client", app="blue"),
        pod("green", "10.244.0.11", account="client", app="green"),
        pod("job", "10.244.0.12"),
        pod("web", "10.244.0.13"),
        service("web", WEB, PORTS, select="app: web"),
        ROUTES,
        """
apiVersion: access.smi-spec.io/v1alpha4
kind: IdentityBinding
metadata: {name: callers, namespace: test}
spec:
  schemes:
    podLabelSelector: {matchLabels: {app: blue}}
    spiffeIdentities: ["spiffe://cluster.local/ns/test/sa/job"]
---
apiVersion: access.smi-spec.io/v1alpha4
kind: TrafficTarget
metadata: {name: callers, namespace: test}
spec:
  destination: {kind: ServiceAccount, name: web}
  sources: [{kind: IdentityBinding, group: access.smi-spec.io, name: callers}]
  rules: [{kind: TCPRoute, name: all}]
""",
    )
)


@in_netns(addresses=())
async def test_of_one_account_the_selected_pod_gets_in(tmp_path: Path) -> None:
    """Requests and connections alike; a label that changes lets the other pod in, too."""
    async with intercepted_mesh(WORLD, tmp_path) as mesh:
        await mesh.serve_http("web", 8080)
        await mesh.serve_greeting("web", 7001)
        assert await _gets(mesh, "blue") == (200, b"web\n")
        assert await _gets(mesh, "job") == (200, b"web\n")
        assert await _gets(mesh, "green") == (403, b"")

        await mesh.edit(lambda text: text.replace("labels: {app: green}", "labels: {app: blue}"))

        async def both() -> bool:
            return await _gets(mesh, "green") == (200, b"web\n")

        await eventually_async(both, deadline=20)
        assert await _gets(mesh, "blue") == (200, b"web\n")


async def _gets(mesh: InterceptedMesh, source: str) -> tuple[int, bytes]:
    """What a request is answered with, and what a server says first."""
    return (
        (await mesh.get(source, WEB, 80)).status,
        await mesh.first_line(source, WEB, 7001),
    )
