"""StatefulSets behind headless services: each pod by itself, by its address and by its name."""

from pathlib import Path

import pytest

from smi_xds.mesh.model import PortRef
from smi_xds.values import ServiceRef
from tests.intercepted.worlds import ROUTES, allow, pod, service
from tests.kube.netns import in_netns
from tests.support.intercepted import InterceptedMesh, intercepted_mesh

pytestmark = pytest.mark.envoy

PODS = {"db-0": "10.244.0.11", "db-1": "10.244.0.12"}
BOUND = "10.244.0.14"

WORLD = "".join(
    (
        pod("client", "10.244.0.10"),
        pod("thief", "10.244.0.13"),
        pod("old-vm", BOUND, account="client", sidecar="bound"),
        *(
            pod(name, address, account="db", app="db", spec=f", hostname: {name}, subdomain: db")
            for name, address in PODS.items()
        ),
        service(
            "db",
            "None",
            "{name: http, port: 80, targetPort: 8080}, "
            "{name: tcp-server-first-sql, port: 5432, targetPort: 7001}",
            select="app: db",
        ),
        # Another one on the same pods: Envoy would refuse a second listener for an address.
        service("db-peers", "None", "{name: http, port: 8080}", select="app: db"),
        ROUTES,
        allow("all", "client", "db", "TCPRoute/all"),
    )
)


@in_netns(addresses=())
async def test_each_pod_is_called_by_itself(tmp_path: Path) -> None:
    """A caller that resolved one pod gets that one, by mTLS and with its rights."""
    async with intercepted_mesh(WORLD, tmp_path) as mesh:
        for name in PODS:
            await mesh.serve_http(name, 8080)
            await mesh.serve_greeting(name, 7001)
        for name, address in PODS.items():
            found = await mesh.get("client", address, 8080)
            assert found.answered_by == name
            assert "sa/client" in found.seen["x-forwarded-client-cert"]
            assert await mesh.first_line("client", address, 7001) == f"{name}\n".encode()
            assert (await mesh.get("thief", address, 8080)).status == 403
            assert await mesh.first_line("thief", address, 7001) == b""
        await _check_names(mesh)
        await _check_that_others_cannot_speak_for_it(mesh)


async def _check_names(mesh: InterceptedMesh) -> None:
    """Where nothing is intercepted, the name is the Host, and a port of its own for TCP."""
    for name in PODS:
        for host in (f"{name}.db.test:80", f"{name}.db.test.svc.cluster.local.", f"{name}.db"):
            assert (await mesh.get("old-vm", BOUND, 15001, host=host)).answered_by == name, host
        port = mesh.server.mesh.bound_ports[PortRef(ServiceRef("test", "db"), 5432, pod=name)]
        assert await mesh.first_line("old-vm", BOUND, port) == f"{name}\n".encode()
    whole = {
        (await mesh.get("old-vm", BOUND, 15001, host="db.test")).answered_by for _ in range(20)
    }
    assert whole == set(PODS)


async def _check_that_others_cannot_speak_for_it(mesh: InterceptedMesh) -> None:
    """The way out of a bound sidecar is for its own host: it lends its identity to nobody."""
    request = "GET / HTTP/1.1\r\nHost: db.test\r\n\r\n"
    port = mesh.server.mesh.bound_ports[PortRef(ServiceRef("test", "db"), 5432, pod="db-0")]
    assert await mesh.first_line("thief", BOUND, 15001, request) == b""
    assert await mesh.first_line("thief", BOUND, port) == b""
    assert (await mesh.first_line("old-vm", BOUND, 15001, request)).startswith(b"HTTP/1.1 200")
