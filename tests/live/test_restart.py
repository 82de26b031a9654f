"""`smi-xds serve` dies without a word and comes back: its sidecars notice nothing."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from smi_xds.config import parse_address
from smi_xds.debug.client import list_proxies
from smi_xds.demo import http1
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


async def test_the_mode_of_the_whole_mesh_is_changed_by_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From strict mTLS to permissive and back, under load: no request fails, plaintext follows."""
    with free_block() as block:
        write_objects(tmp_path, block)
        async with serving(tmp_path) as first, shop(tmp_path, first, block, capsys=capsys) as mesh:
            assert not await _takes_plaintext(f"{block}.3")
            first.terminate()
            await first.exit_code()
            for mode, is_taken in (("permissive", True), ("strict", False)):
                flags = ("--mtls-mode", mode)
                async with serving(tmp_path, address=first.address, flags=flags) as server:

                    async def follows(expected: bool = is_taken) -> bool:
                        return await _takes_plaintext(f"{block}.3") is expected

                    await eventually_async(follows, deadline=30)
                    await mesh.goes_on()
                    server.terminate()
                    await server.exit_code()
    assert set(mesh.answers) == {200}


async def _takes_plaintext(address: str) -> bool:
    request = http1.request("GET", "/", host="web.shop:8080", headers={})
    try:
        connection = await http1.Connection.open(address, 8080)
        try:
            return (await connection.send(request)).first_line[1] == "200"
        finally:
            connection.close()
    except http1.HttpError:
        return False
