"""Shares of TCP splits whose backends have pods in common."""

import math
from collections import Counter
from pathlib import Path

import pytest

from tests.support.live import live_mesh

pytestmark = pytest.mark.envoy

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: test
  labels: {{app: db, version: {name}}}
  annotations:
    smi-xds.io/sidecar: bound
    smi-xds.io/access: permissive
    smi-xds.io/address: 127.1.0.{number}
    smi-xds.io/app-address: 127.1.0.1{number}
spec: {{serviceAccountName: {name}}}
---"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: test}}
spec:
  selector: {{{selector}}}
  ports: [{{name: tcp, port: 5432}}]
---"""

WORLD = "".join(
    (
        *(POD.format(name=name, number=n) for n, name in enumerate(("client", "v1", "v2"), 2)),
        SERVICE.format(name="all", selector="app: db"),
        SERVICE.format(name="two", selector="version: v2"),
        """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: s, namespace: test}
spec: {service: all, backends: [{service: all, weight: 1}, {service: two, weight: 1}]}
""",
    )
).replace("labels: {app: db, version: client}", "labels: {app: client}")


async def test_a_root_that_is_its_own_backend_gets_its_share(tmp_path: Path) -> None:
    """Half of the connections go to both pods evenly, the other half to the second alone."""
    async with live_mesh(WORLD, tmp_path) as mesh:
        count = 200
        found = Counter([await mesh.greeting("test/client", "test/all:5432") for _ in range(count)])
        slack = 5 * math.sqrt(count * 0.25 * 0.75)
        assert set(found) == {b"v1\n", b"v2\n"}
        assert abs(found[b"v1\n"] - count * 0.25) <= slack, found
