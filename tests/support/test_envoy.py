"""The Envoy helper itself."""

import os
from pathlib import Path

import pytest

from tests.support.envoy import envoy
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy

NODE: dict[str, object] = {"node": {"id": "a/b", "cluster": "test"}}


async def test_starts_answers_and_is_gone_afterwards() -> None:
    """Inside the block the admin port answers; after it the process is gone."""
    async with envoy(NODE) as proc:
        assert '"state": "LIVE"' in await eventually_async(lambda: proc.admin_get("/server_info"))
        assert (await proc.stats("server.live")) == {"server.live": 1}
    with pytest.raises(ProcessLookupError):
        os.kill(proc.pid, 0)


async def test_a_refused_bootstrap_is_told(tmp_path: Path) -> None:
    """An Envoy that ends at its start is an error at once, and its log is kept."""
    log = tmp_path / "envoy.log"

    with pytest.raises(RuntimeError, match="ended with 1"):
        async with envoy({"no_such_field": 1}, log=log):
            pytest.fail("must not start")

    assert "no_such_field" in log.read_text()
