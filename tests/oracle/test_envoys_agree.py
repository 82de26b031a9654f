"""Real Envoys do what the oracle says of random meshes, hostile requests included.

Where traffic is intercepted: `tests/intercepted/test_oracle.py`.
"""

from pathlib import Path

import pytest

from tests.oracle.exploring import explore_some
from tests.oracle.fleet import playing
from tests.oracle.known import first_documents


@pytest.mark.envoy
async def test_envoys_do_what_the_oracle_says(tmp_path: Path) -> None:
    """Whoever must answer does, nobody else ever does, and shares are those of the weights."""
    async with playing(tmp_path, first_documents()) as fleet:
        await explore_some(fleet, meshes=20)
