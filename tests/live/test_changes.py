"""Configuration changes under load: nobody notices but the shares."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.support.live import LiveMesh, live_mesh

pytestmark = pytest.mark.envoy

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


async def _load(mesh: LiveMesh, stop: asyncio.Event) -> Counter[str]:
    found: Counter[str] = Counter()
    while not stop.is_set():
        reply = await mesh.get("canary/client", "web.canary:8080")
        found[reply.answered_by or str(reply.status)] += 1
    return found


async def test_a_split_moves_back_and_forth_without_a_failed_request(tmp_path: Path) -> None:
    """Forty changes of weight under load, with only answers of the two versions."""
    async with live_mesh(EXAMPLES / "03-canary", tmp_path) as mesh:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(_load(mesh, stop))
            for weights in [("0", "100"), ("50", "50"), ("100", "0"), ("90", "10")] * 10:
                await mesh.edit("split.yaml", lambda text, w=weights: _with(text, *w))  # type: ignore[misc] # bound now
            stop.set()

    assert set(load.result()) == {"web-v1", "web-v2"}


async def test_a_backend_comes_and_goes_without_a_failed_request(tmp_path: Path) -> None:
    """Clusters and endpoints are there before a route names them, and go after it."""
    async with live_mesh(EXAMPLES / "03-canary", tmp_path) as mesh:
        whole = (mesh.folder / "split.yaml").read_text()
        without = whole.split("    - service: web-v2")[0]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(_load(mesh, stop))
            for text in [without, whole] * 10:
                await mesh.edit("split.yaml", lambda _, t=text: t)  # type: ignore[misc] # bound now
            stop.set()

    assert set(load.result()) == {"web-v1", "web-v2"}


async def test_a_bad_edit_changes_nothing_but_the_problems(tmp_path: Path) -> None:
    """A file that stops parsing keeps its last good objects, and says so."""
    async with live_mesh(EXAMPLES / "03-canary", tmp_path) as mesh:
        await mesh.edit("access.yaml", lambda text: text + "\n  this: is: not: yaml")

        assert [str(p.code) for p in mesh.server.mesh.problems] == ["InvalidYAML"]
        assert (await mesh.get("canary/client", "web.canary:8080")).status == 200


def _with(text: str, first: str, second: str) -> str:
    head, *parts = text.split("weight: ")
    weights = [first, second]
    tails = [part.split("\n", 1)[1] if "\n" in part else "" for part in parts]
    return head + "".join(f"weight: {w}\n{t}" for w, t in zip(weights, tails, strict=True))
