"""`smi-xds serve` dies without a word and comes back: its sidecars notice nothing."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from smi_xds.config import parse_address
from smi_xds.debug.client import list_proxies
from smi_xds.demo.addresses import free_block
from tests.support.command import Shop, serving, shop, write_objects
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy


# Counters of what was done to clusters and listeners, and what waits for something.
_TOUCHED = "_(added|modified|removed|created|rejected|warming|clusters|in_place_updated)$"


async def _touched(mesh: Shop) -> dict[str, int]:
    """What was replaced, refused or is warming, in each sidecar."""
    found: dict[str, int] = {}
    for name in mesh.sidecars:
        stats = await mesh.stats(name, f"^(cluster|listener)_manager.*{_TOUCHED}")
        found |= {f"{name} {stat}": value for stat, value in stats.items()}
    return found


def _all_synced(server: str) -> bool:
    """Whether each proxy has answered all that this server has for it."""
    proxies = list_proxies(parse_address(server, flag="server"))
    return [each["state"] for each in proxies] == ["STATE_SYNCED"] * 2


@pytest.mark.parametrize("protocol", ["delta", "sotw"])
async def test_a_killed_server_comes_back_unnoticed(
    protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed under load: no request fails, and nothing is refused, replaced or warmed again."""
    with free_block() as block:
        write_objects(tmp_path, block)
        async with serving(tmp_path) as first:
            flags = ("--protocol", protocol)
            async with shop(tmp_path, first, block, capsys=capsys, flags=flags) as mesh:
                before = await _touched(mesh)
                first.process.kill()
                await first.exit_code()
                await mesh.goes_on()

                async with serving(tmp_path, address=first.address) as second:
                    synced = partial(asyncio.to_thread, _all_synced, second.address)
                    await eventually_async(synced, deadline=30)
                    await mesh.goes_on()
                    after = await _touched(mesh)
    assert set(mesh.answers) == {200}
    assert after == before
    still = ("rejected", "warming")
    assert {value for name, value in after.items() if any(s in name for s in still)} == {0}
