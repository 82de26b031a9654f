"""UDP where TCP is redirected: local ports for datagrams, and the same tunnels."""

import socket
from pathlib import Path

import pytest

from smi_xds.mesh.model import PortRef
from smi_xds.values import ServiceRef
from tests.intercepted.worlds import allow, pod, service
from tests.kube.netns import in_netns
from tests.support.intercepted import InterceptedMesh, intercepted_mesh
from tests.support.udp import PATIENCE, SILENCE, answering, session_on

pytestmark = pytest.mark.envoy

WORLD = "".join(
    (
        pod("client", "10.244.0.10"),
        pod("intruder", "10.244.0.11"),
        pod("dns", "10.244.0.12"),
        service(
            "dns",
            "10.96.0.1",
            "{name: dns, port: 53, protocol: UDP, targetPort: 5353}",
            select="app: dns",
        ),
        """
apiVersion: specs.smi-spec.io/v1alpha4
kind: UDPRoute
metadata: {name: dns, namespace: test}
spec: {matches: {ports: [5353]}}
---""",
        allow("client", "client", "dns", "UDPRoute/dns"),
    )
)


async def asked(mesh: InterceptedMesh, source: str, data: bytes, *, patience: float) -> bytes:
    """What comes back to a pod from its own local port for the service."""
    ref = PortRef(ServiceRef("test", "dns"), 53, udp=True)
    here = mesh.pods[source].make_socket("127.0.0.1", socket.SOCK_DGRAM)
    here.connect(("127.0.0.1", mesh.server.mesh.bound_ports[ref]))
    async with session_on(here) as session:
        return await session.ask(data, patience=patience)


@in_netns(addresses=())
async def test_a_local_port_leads_through_the_tunnel(tmp_path: Path) -> None:
    """Past the redirection of TCP, by the pod's identity; the intruder has no such port."""
    async with intercepted_mesh(WORLD, tmp_path) as mesh:
        here = mesh.pods["dns"].make_socket("0.0.0.0", socket.SOCK_DGRAM)
        here.bind(("0.0.0.0", 5353))
        async with answering("dns", here):
            data = b"x" * 8_000
            assert await asked(mesh, "client", data, patience=PATIENCE) == b"dns:" + data
            assert await asked(mesh, "intruder", data, patience=SILENCE) == b""
            assert mesh.stats("dns", "http.tunnel.rbac.allowed") == {"http.tunnel.rbac.allowed": 1}
