"""UDP as real Envoys carry it: who is answered, by whom, and what a denied caller sees."""

import asyncio
import math
import urllib.request
from pathlib import Path

import pytest

from smi_xds.problems import ProblemCode
from tests.support.live import LiveMesh, live_mesh
from tests.support.udp import (
    SILENCE,
    Session,
    ask,
    shares,
    udp_application,
    udp_applications,
    udp_session,
)
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

CALLER = "test/caller"


def pod(name: str, number: int) -> str:
    """A bound pod that runs as the account of its own name."""
    return f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: test
  labels: {{app: {name}}}
  annotations:
    smi-xds.io/sidecar: bound
    smi-xds.io/address: 127.1.0.{number}
    smi-xds.io/app-address: 127.1.0.{100 + number}
spec: {{serviceAccountName: {name}}}
---"""


def service(name: str) -> str:
    """A Service with two UDP ports, one of which has a TCP port of the same number beside it."""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: test}}
spec:
  selector: {{app: {name}}}
  ports:
    - {{name: dns, port: 53, protocol: UDP, targetPort: 5353}}
    - {{name: stats, port: 8125, protocol: UDP}}
    - {{name: tcp-dns, port: 53, targetPort: 5353}}
---"""


def target(destination: str, *sources: str, route: str = "dns") -> str:
    """A TrafficTarget for UDP to the pods of one account."""
    listed = ", ".join(f"{{kind: ServiceAccount, name: {source}}}" for source in sources)
    return f"""
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: {destination}-{route}, namespace: test}}
spec:
  destination: {{kind: ServiceAccount, name: {destination}}}
  rules: [{{kind: UDPRoute, name: {route}}}]
  sources: [{listed}]
---"""


def split(one: int, two: int) -> str:
    """A TrafficSplit of the Service `dns`, which has no pods of its own."""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: dns, namespace: test}}
spec: {{ports: [{{name: dns, port: 53, protocol: UDP}}]}}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{name: dns, namespace: test}}
spec:
  service: dns
  backends: [{{service: one, weight: {one}}}, {{service: two, weight: {two}}}]
---"""


ROUTES = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: UDPRoute
metadata: {name: dns, namespace: test}
spec: {matches: {ports: [5353]}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: UDPRoute
metadata: {name: everything, namespace: test}
spec: {}
---"""

WORLD = "".join(
    (
        pod("caller", 2),
        pod("intruder", 3),
        pod("one", 4),
        pod("two", 5),
        service("one"),
        service("two"),
        ROUTES,
    )
)


async def stat(mesh: LiveMesh, name: str, counter: str) -> int:
    """A counter of a sidecar."""
    address = f"http://{mesh.sidecars[name].admin_host}:15000/stats?filter={counter}"

    def fetch() -> str:
        with urllib.request.urlopen(address, timeout=10) as answer:
            body: bytes = answer.read()
        return body.decode()

    lines = (await asyncio.to_thread(fetch)).splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines)


async def test_datagrams_reach_the_services_that_a_udp_route_admits(tmp_path: Path) -> None:
    """One port or all of them, by the target port; up to 65 kB each way; nobody else's arrive."""
    objects = WORLD + target("one", "caller") + target("two", "caller", route="everything")
    async with live_mesh(objects, tmp_path) as mesh, udp_applications(mesh):
        assert await ask(mesh, CALLER, "test/one:53", b"hello") == b"one:hello"
        assert await ask(mesh, CALLER, "test/two:53", b"hello") == b"two:hello"
        assert await ask(mesh, CALLER, "test/two:8125", b"hello") == b"two:hello"
        for size in (8_000, 65_000):
            data = bytes(number % 251 for number in range(size))
            assert await ask(mesh, CALLER, "test/one:53", data) == b"one:" + data

        for source, place in ((CALLER, "test/one:8125"), ("test/intruder", "test/one:53")):
            async with udp_session(mesh, source, place) as session:
                assert await session.ask(b"hello", patience=SILENCE) == b""


async def test_sessions_are_split_by_weights(tmp_path: Path) -> None:
    """A session stays where it began; new ones follow the weights, and a new weight at once."""
    count, objects = 200, WORLD + target("one", "caller") + target("two", "caller")
    async with live_mesh(objects + split(3, 1), tmp_path) as mesh, udp_applications(mesh):
        found = await shares(mesh, CALLER, "test/dns:53", count)
        # Five standard deviations of a binomial distribution.
        assert abs(found["one"] - count * 0.75) <= 5 * math.sqrt(count * 0.75 * 0.25), found
        assert found["one"] + found["two"] == count

        async with udp_session(mesh, CALLER, "test/dns:53") as session:
            first = await session.ask(b"?")
            await mesh.edit("objects.yaml", lambda _: objects + split(0, 1))

            async def all_at_two() -> bool:
                # Envoy says yes to new weights a moment before its worker has them.
                return set(await shares(mesh, CALLER, "test/dns:53", 20)) == {"two"}

            await eventually_async(all_at_two)
            assert await session.ask(b"?") == first


async def test_a_destination_judges_for_itself(tmp_path: Path) -> None:
    """Sessions that a split sends where the caller has no right are silent, counted and logged."""
    async with (
        live_mesh(WORLD + target("one", "caller") + split(0, 1), tmp_path) as mesh,
        udp_applications(mesh),
    ):
        async with udp_session(mesh, CALLER, "test/dns:53") as session:
            assert await session.ask(b"?", patience=SILENCE) == b""

        assert await stat(mesh, "test/two", "http.tunnel.rbac.denied") == 1
        assert await stat(mesh, CALLER, "sess_tunnel_failure") == 1

        def logged() -> list[dict[str, object]]:
            return mesh.access_log("test/two", "inbound")

        (line,) = await eventually_async(logged, deadline=20)
        assert (line["status"], line["source"]) == (403, "spiffe://cluster.local/ns/test/sa/caller")
        assert line["details"] == "rbac_access_denied_matched_policy[none]"


async def test_in_the_shadow_datagrams_arrive_and_are_counted(tmp_path: Path) -> None:
    """Nobody is silenced; whoever would be is a number."""
    async with (
        live_mesh(WORLD + target("one", "caller"), tmp_path, access="shadow") as mesh,
        udp_applications(mesh),
    ):
        assert await ask(mesh, CALLER, "test/one:53") == b"one:?"
        assert await ask(mesh, "test/intruder", "test/one:53") == b"one:?"
        assert await stat(mesh, "test/one", "http.tunnel.rbac.shadow_allowed") == 1
        assert await stat(mesh, "test/one", "http.tunnel.rbac.shadow_denied") == 1


async def test_a_revoked_caller_is_silenced_in_its_open_session(tmp_path: Path) -> None:
    """Within the drain time of 10 s, though its sidecar still has the way to get there."""
    objects = WORLD + target("one", "caller") + split(0, 1)
    async with (
        live_mesh(objects + target("two", "caller", "intruder"), tmp_path) as mesh,
        udp_applications(mesh),
        udp_session(mesh, CALLER, "test/dns:53") as session,
        udp_session(mesh, "test/intruder", "test/dns:53") as other,
    ):
        assert (await session.ask(b"?"), await other.ask(b"?")) == (b"two:?", b"two:?")
        await mesh.edit("objects.yaml", lambda _: objects + target("two", "intruder"))

        async def silenced() -> bool:
            return await session.ask(b"?", patience=SILENCE) == b""

        await eventually_async(silenced, deadline=25)
        assert await answers(other)  # of whoever still may, a session goes on by a new stream


async def answers(session: Session) -> bool:
    """Whether a session is answered, if need be at the second try."""
    return bool(await session.ask(b"?", patience=2) or await session.ask(b"?"))


OUTSIDE = """
apiVersion: v1
kind: Pod
metadata:
  name: legacy
  namespace: test
  labels: {app: legacy}
  annotations: {smi-xds.io/address: 127.1.0.6}
spec: {serviceAccountName: legacy}
---"""


async def test_outside_the_mesh_datagrams_go_as_they_are(tmp_path: Path) -> None:
    """Where nobody has a sidecar there is no tunnel; one that comes later is the only one used."""
    objects = WORLD + OUTSIDE + service("legacy")
    async with live_mesh(objects, tmp_path) as mesh, udp_applications(mesh):
        address = f"{mesh.block}.6"
        async with udp_application("legacy", address, 5353):
            data = b"x" * 8_000
            assert await ask(mesh, CALLER, "test/legacy:53", data) == b"legacy:" + data

            joined = objects.replace("{app: one}", "{app: legacy}") + target("one", "caller")
            await mesh.edit("objects.yaml", lambda _: joined)
            codes = {problem.code for problem in mesh.server.mesh.problems}
            assert codes == {ProblemCode.UDP_OUTSIDE_MESH}
            answered = {(await ask(mesh, CALLER, "test/legacy:53"))[:3] for _ in range(10)}
            assert answered == {b"one"}
