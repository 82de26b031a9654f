"""Publishing without a pause: the first at once, the rest together."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from smi_xds.ads import holdoff
from smi_xds.ads.cache import Cache
from smi_xds.ads.holdoff import Telling
from smi_xds.xds.resources import EMPTY, ResourceSet
from tests.support.wait import eventually_async


class Recorder(Cache):
    """A cache that only writes down."""

    __slots__ = ("rounds",)

    def __init__(self) -> None:
        super().__init__()
        self.rounds: list[tuple[str, ...]] = []

    def publish_for(
        self,
        nodes: Collection[str],
        snapshot: Mapping[str, ResourceSet],
        *,
        since: float | None = None,
    ) -> int:
        assert since is not None
        assert all(node in snapshot for node in nodes)
        self.rounds.append(tuple(nodes))
        return len(self.rounds)


SETS = dict.fromkeys(("a", "b", "c"), EMPTY)


async def test_the_first_is_told_at_once_and_the_rest_together() -> None:
    """A node that changes twice meanwhile is told once, and a later change starts anew."""
    cache = Recorder()
    telling = Telling(cache, SETS)
    for node in ("a", "b", "c", "b"):
        telling.changed(node)
    assert cache.rounds == [("a",)]
    await eventually_async(lambda: cache.rounds[1:] == [("b", "c")])
    await asyncio.sleep(2 * holdoff.HOLD_OFF)
    telling.changed("c")
    assert cache.rounds == [("a",), ("b", "c"), ("c",)]


async def test_what_waits_can_be_told_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and nothing is told where nothing waits."""
    monkeypatch.setattr(holdoff, "HOLD_OFF", 3600.0)
    cache = Recorder()
    telling = Telling(cache, SETS)
    telling.now()
    telling.changed("a")
    telling.changed("b")
    telling.now()
    telling.now()
    assert cache.rounds == [("a",), ("b",)]


def test_a_loop_that_ended_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a loop all is told at once; in the next one what waits is told by a timer of its."""
    monkeypatch.setattr(holdoff, "HOLD_OFF", 0.05)
    cache = Recorder()
    telling = Telling(cache, SETS)

    async def change(*nodes: str) -> None:
        for node in nodes:
            telling.changed(node)

    async def change_and_wait() -> None:
        telling.changed("c")
        await eventually_async(lambda: len(cache.rounds) > 1)

    asyncio.run(change("a", "b"))
    assert cache.rounds == [("a",)]
    asyncio.run(change_and_wait())
    assert cache.rounds == [("a",), ("b", "c")]
    telling.changed("a")
    assert cache.rounds[2:] == [("a",)]
