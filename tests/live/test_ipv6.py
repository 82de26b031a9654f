"""Bound sidecars at IPv6 addresses."""

from pathlib import Path

import pytest

from tests.kube.netns import in_netns
from tests.support.live import live_mesh

pytestmark = pytest.mark.envoy

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: test
  labels: {{app: {name}}}
  annotations:
    smi-xds.io/sidecar: bound
    smi-xds.io/address: "fd00:1::{number}"
    smi-xds.io/app-address: 127.1.0.1{number}
spec: {{serviceAccountName: {name}}}
---"""

WORLD = (
    POD.format(name="client", number=2)
    + POD.format(name="thief", number=3)
    + POD.format(name="web", number=4)
    + """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: test}
spec:
  selector: {app: web}
  ports: [{name: http, port: 8080}, {name: tcp, port: 5432}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: all, namespace: test}
spec: {}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: test}
spec:
  destination: {kind: ServiceAccount, name: web, namespace: test}
  sources: [{kind: ServiceAccount, name: client, namespace: test}]
  rules: [{kind: TCPRoute, name: all}]
"""
)


@in_netns(addresses=tuple(f"fd00:1::{number}/128" for number in (2, 3, 4)))
async def test_addresses_may_be_ipv6(tmp_path: Path) -> None:
    """Requests and connections from one IPv6 address to another, judged as ever."""
    async with live_mesh(WORLD, tmp_path) as mesh:
        assert (await mesh.get("test/client", "web.test:8080")).answered_by == "web"
        assert await mesh.greeting("test/client", "test/web:5432") == b"web\n"
        assert (await mesh.get("test/thief", "web.test:8080")).status == 403
        assert await mesh.greeting("test/thief", "test/web:5432") == b""
