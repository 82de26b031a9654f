"""Real Envoys do what the oracle says, where nobody knows of a sidecar."""

from pathlib import Path

import pytest

from tests.kube.netns import in_netns
from tests.oracle.exploring import explore_some
from tests.oracle.intercepted import playing
from tests.oracle.known import first_documents


@pytest.mark.envoy
@in_netns(addresses=())
async def test_envoys_do_what_the_oracle_says(tmp_path: Path) -> None:
    """Services are called by their addresses, and callers are known by theirs."""
    async with playing(tmp_path, first_documents()) as fleet:
        await explore_some(fleet, meshes=10)
