"""The cache: one picture, and only those are told whom it concerns."""

import time
from dataclasses import dataclass, field

from smi_xds.ads.cache import Cache
from smi_xds.xds.resources import EMPTY, ResourceSet
from tests.ads.play import resources


@dataclass(eq=False)
class Recorder:
    """A stream that only writes down."""

    resources: ResourceSet = EMPTY
    told: list[tuple[ResourceSet, bool]] = field(default_factory=list)

    def changed(self, resources: ResourceSet, *, is_known: bool) -> None:
        self.resources = resources
        self.told.append((resources, is_known))


def test_nothing_is_served_before_the_first_round() -> None:
    """An empty picture is a picture; none is not."""
    cache = Cache()
    before = cache.is_ready

    assert [cache.publish({}), cache.publish({})] == [1, 2]
    assert (before, cache.is_ready) == (False, True)


def test_only_streams_with_another_set_are_told() -> None:
    """Sets are compared by identity; every stream of the node is told."""
    cache, a, a2, b = Cache(), Recorder(), Recorder(), Recorder()
    one, other = resources("cluster a 1"), resources("cluster a 1")
    for node, watcher in (("a", a), ("a", a2), ("b", b)):
        cache.watch(node, watcher)

    cache.publish({"a": one, "b": one})
    cache.publish({"a": other, "b": one})

    assert a.told == a2.told == [(one, True), (other, True)]
    assert b.told == [(one, True)]
    assert cache.get("a") is other


def test_a_node_that_is_gone_gets_an_empty_set() -> None:
    """And is told that it is not known."""
    cache, a = Cache(), Recorder()
    cache.watch("a", a)

    cache.publish({"a": resources("cluster a 1")})
    cache.publish({})
    cache.publish({})

    assert a.told[1:] == [(EMPTY, False)]
    assert cache.get("a") is None


def test_a_stream_that_ended_is_not_told() -> None:
    """Nor is anything kept for its node."""
    cache, a, a2 = Cache(), Recorder(), Recorder()
    cache.watch("a", a)
    cache.watch("a", a2)
    cache.unwatch("a", a)
    cache.unwatch("a", a)
    cache.publish({"a": resources("cluster a 1")})
    cache.unwatch("a", a2)
    cache.unwatch("never", a2)

    assert not a.told
    assert len(a2.told) == 1
    assert not cache._watchers


def test_observers_frame_a_round() -> None:
    """They are told before and after the streams."""
    cache, seen = Cache(), list[str]()

    class Observer:
        def round_begins(self, number: int, _since: float | None = None) -> None:
            seen.append(f"begins {number}")

        def round_published(self, number: int) -> None:
            seen.append(f"published {number}")

    class Stream(Recorder):
        def changed(self, resources: ResourceSet, *, is_known: bool) -> None:
            super().changed(resources, is_known=is_known)
            seen.append("told")

    cache.observe(Observer())
    cache.watch("a", Stream())
    cache.publish({"a": resources("cluster a 1")})

    assert seen == ["begins 1", "told", "published 1"]

    seen.clear()
    cache.observe(Observer())
    assert seen == ["begins 1", "published 1"], "what came before is made up for"


def test_five_thousand_nodes_cost_little() -> None:
    """A round in which one of 5,000 changed takes milliseconds (the bound is generous)."""
    cache, one = Cache(), resources("cluster a 1")
    snapshot = {f"default/{n}": one for n in range(5000)}
    watchers = {node: Recorder(one) for node in snapshot}
    for node, watcher in watchers.items():
        cache.watch(node, watcher)

    begin = time.perf_counter()
    cache.publish({**snapshot, "default/7": resources("cluster a 2")})

    assert time.perf_counter() - begin < 0.25
    assert [node for node, watcher in watchers.items() if watcher.told] == ["default/7"]
