"""Real Envoys do what the oracle says: 20 random meshes, some with hostile requests."""

import asyncio
from pathlib import Path

import pytest

from tests.oracle.exploring import Explorer
from tests.oracle.fleet import playing
from tests.oracle.known import KNOWN_VERSIONS, first_documents

SEED = 2026
MESHES = 20
QUESTIONS = 30


@pytest.mark.envoy
async def test_envoys_do_what_the_oracle_says(tmp_path: Path) -> None:
    """Whoever must answer does, nobody else ever does, and shares are those of the weights."""
    print(f"seed {SEED}")  # noqa: T201 - `python -m tests.oracle --seed` repeats it
    async with playing(tmp_path, first_documents()) as fleet:
        explorer = Explorer(fleet, asyncio.get_running_loop(), KNOWN_VERSIONS)
        await explorer.explore(seed=SEED, meshes=MESHES, questions=QUESTIONS)

    tally = explorer.tally
    print(tally)  # noqa: T201 - shown where it fails
    assert tally.meshes >= MESHES
    assert tally.outcomes["allowed"] >= MESHES * QUESTIONS / 10, tally
    assert tally.outcomes["denied"] >= MESHES * QUESTIONS / 10, tally
