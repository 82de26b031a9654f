"""Every example does what its `expected.toml` says, with real Envoys."""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import LiveMesh, Reply, live_mesh
from tests.support.udp import PATIENCE, SILENCE, udp_applications, udp_session

EXAMPLES = sorted(
    path.parent for path in (Path(__file__).parent.parent / "examples").glob("*/expected.toml")
)
REQUESTS_FOR_SHARES = 400


@pytest.mark.envoy
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
async def test_example(example: Path, tmp_path: Path) -> None:
    """An example is answered, denied, split and complained about as it says."""
    expected = tomllib.loads((example / "expected.toml").read_text())
    async with live_mesh(example, tmp_path) as mesh:
        codes = sorted({str(problem.code) for problem in mesh.server.mesh.problems})
        assert codes == sorted(expected.get("problems", []))
        for request in expected.get("request", []):
            await _check_request(mesh, request)
        for connection in expected.get("connection", []):
            greeting = await mesh.greeting(connection["from"], connection["service"])
            wanted = connection["answered_by"]
            assert greeting.decode() == (f"{wanted}\n" if wanted else ""), connection
        if datagrams := expected.get("datagram", []):
            await _check_datagrams(mesh, datagrams)


async def _check_datagrams(mesh: LiveMesh, datagrams: list[Mapping[str, str]]) -> None:
    async with udp_applications(mesh):
        for datagram in datagrams:
            wanted = datagram["answered_by"]
            patience = PATIENCE if wanted else SILENCE
            async with udp_session(mesh, datagram["from"], datagram["service"]) as session:
                answer = await session.ask(b"?", patience=patience)
            assert answer.decode() == (f"{wanted}:?" if wanted else ""), datagram


async def _check_request(mesh: LiveMesh, request: Mapping[str, Any]) -> None:
    reply = await _ask(mesh, request)
    assert reply.status == request["status"], request
    for name, value in request.get("sees", {}).items():
        assert value in reply.seen[name], request
    if shares := request.get("answered_by"):
        await _check_shares(mesh, request, shares)


async def _ask(mesh: LiveMesh, request: Mapping[str, Any]) -> Reply:
    if not request["from"]:
        return await mesh.get_directly(request["address"], request["path"])
    return await mesh.get(
        request["from"],
        request["host"],
        request["path"],
        method=request.get("method", "GET"),
        headers=request.get("headers"),
    )


async def _check_shares(
    mesh: LiveMesh, request: Mapping[str, Any], shares: Mapping[str, float]
) -> None:
    found: dict[str, int] = {}
    for _ in range(REQUESTS_FOR_SHARES):
        name = (await _ask(mesh, request)).answered_by
        found[name] = found.get(name, 0) + 1
    assert set(found) <= set(shares), request
    for name, share in shares.items():
        # Five standard deviations of a binomial distribution.
        slack = 5 * math.sqrt(REQUESTS_FOR_SHARES * share * (1 - share))
        assert abs(found.get(name, 0) - REQUESTS_FOR_SHARES * share) <= slack, (request, found)


def test_every_example_is_complete() -> None:
    """An example has a README that the index lists, objects, and what is expected."""
    folders = sorted(path for path in EXAMPLES[0].parent.iterdir() if path.is_dir())
    index = (EXAMPLES[0].parent / "README.md").read_text()

    assert folders == EXAMPLES
    for folder in folders:
        assert (folder / "README.md").read_text().startswith("# ")
        assert f"({folder.name})" in index
        assert list(folder.glob("*.yaml"))
