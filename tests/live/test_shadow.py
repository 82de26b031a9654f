"""Shadow access: real Envoys judge, count and log, and let everyone in."""

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from smi_xds.demo import http1
from tests.live.test_policy import HTTP_TARGET, TCP_TARGET, WORKLOADS
from tests.support.live import LiveMesh, live_mesh
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

SPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: test, annotations: {smi-xds.io/access: MODE}}
"""


def objects(mode: str, *targets: str) -> str:
    return "---".join((WORKLOADS, SPACE.replace("MODE", mode), *targets))


async def judged(mesh: LiveMesh, port: str) -> tuple[int, int]:
    """How much the server's sidecar counts as allowed and as denied, in the shadow."""
    stats = await mesh.stats("test/server", "rbac.shadow_")
    return stats[f"{port}.rbac.shadow_allowed"], stats[f"{port}.rbac.shadow_denied"]


async def test_what_strict_would_deny_passes_is_counted_and_logged(tmp_path: Path) -> None:
    """A request that a rule allows and two that none does: all are answered, and told apart."""
    async with live_mesh(objects("shadow", HTTP_TARGET), tmp_path) as mesh:
        for path in ("/allowed", "/secret", "/secret"):
            assert (await mesh.get("test/caller", "server.test:8080", path)).status == 200

        assert await judged(mesh, "http.inbound|8080") == (1, 2)

        async def told() -> list[dict[str, object]]:
            lines = mesh.access_log("test/server", "inbound")
            return lines if len(lines) == 3 else []

        lines = await eventually_async(told, deadline=20)

    assert [(line["path"], line["shadow"], line.get("shadow_policy")) for line in lines] == [
        ("/allowed", "allowed", "test/http"),
        ("/secret", "denied", None),
        ("/secret", "denied", None),
    ]


async def test_connections_are_judged_in_the_shadow_as_well(tmp_path: Path) -> None:
    """A TCP caller without a right gets through and counts as denied, with one as allowed."""
    async with live_mesh(objects("shadow"), tmp_path) as mesh:
        assert await mesh.greeting("test/caller", "test/server:9000") == b"server\n"

        async def denied() -> bool:
            return await judged(mesh, "inbound|9000") == (0, 1)

        await eventually_async(denied, deadline=20)
        await mesh.write("tcp.yaml", TCP_TARGET)

        async def allowed() -> bool:
            await mesh.greeting("test/caller", "test/server:9000")
            return (await judged(mesh, "inbound|9000"))[0] > 0

        await eventually_async(allowed, deadline=20)

        def logged() -> list[object]:
            lines = mesh.access_log("test/server", "inbound")
            return [line["shadow_policy"] for line in lines if line.get("shadow") == "allowed"]

        async def told() -> list[object]:
            return logged()

        assert set(await eventually_async(told, deadline=20)) == {"test/tcp"}


async def test_the_road_to_strict_and_back_fails_no_request(tmp_path: Path) -> None:
    """Strict, shadow and strict again, while a caller keeps calling what it may."""
    async with live_mesh(objects("strict", HTTP_TARGET), tmp_path) as mesh:
        stop, found = asyncio.Event(), Counter[int]()

        async def load() -> None:
            while not stop.is_set():
                found[(await mesh.get("test/caller", "server.test:8080", "/allowed")).status] += 1

        # The load's own connection is busy: this one asks for what only shadow mode allows.
        address = mesh.workload("test/caller").address
        other = await http1.Connection.open(address, 15001)
        secret = http1.request("GET", "/secret", host="server.test:8080", headers={})

        async def answered(status: str) -> bool:
            return (await other.send(secret)).first_line[1] == status

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load())
            for mode, status in (("shadow", "200"), ("strict", "403")) * 3:
                text = objects(mode, HTTP_TARGET)
                await mesh.edit("objects.yaml", lambda _, text=text: text)  # type: ignore[misc] # bound now
                await eventually_async(partial(answered, status), deadline=20)
            stop.set()

        assert not other.was_closed
        other.close()
    assert set(found) == {200}
    assert found[200] > 10
