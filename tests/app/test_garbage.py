"""The garbage collector after the first sync."""

import gc
from collections.abc import Iterator

import pytest

from smi_xds.app import garbage


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    thresholds, was_enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    (gc.enable if was_enabled else gc.disable)()


def test_what_lives_is_left_alone_and_garbage_is_still_found() -> None:
    """Objects of the start are frozen; a round's worth of new ones starts no collection."""
    gc.disable()
    garbage.settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    before = gc.get_stats()[0]["collections"]
    held = [[number] for number in range(20_000)]
    assert gc.get_stats()[0]["collections"] == before
    held += [[number] for number in range(60_000)]
    assert gc.get_stats()[0]["collections"] > before
    assert len(held) == 80_000
