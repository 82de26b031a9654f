"""How long new streams wait: a burst at once, then one after another, and not without limit."""

import asyncio

import pytest

from smi_xds.ads.admission import Admission
from smi_xds.ads.limits import DEFAULTS


def test_a_burst_comes_at_once_and_the_rest_in_order() -> None:
    """Three at once, then one every tenth of a second."""
    admission = Admission(rate=10, burst=3, longest=60)

    waits = [admission.turn(100.0) for _ in range(6)]

    assert waits == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])


def test_the_bucket_fills_again_up_to_the_burst() -> None:
    """However long nobody came, no more than a burst is free."""
    admission = Admission(rate=10, burst=2, longest=60)
    for _ in range(4):
        admission.turn(0.0)

    assert [admission.turn(0.35) for _ in range(2)] == pytest.approx([0, 0.05])
    assert [admission.turn(1000.0) for _ in range(3)] == pytest.approx([0, 0, 0.1])


def test_the_line_is_bounded() -> None:
    """Who would wait longer than allowed is told so, and takes nobody's turn."""
    admission = Admission(rate=10, burst=1, longest=0.25)

    assert [admission.turn(0.0) for _ in range(5)] == pytest.approx([0, 0.1, 0.2, None, None])
    assert admission.turn(0.1) == pytest.approx(0.2)


async def test_who_leaves_the_line_gives_its_turn_back() -> None:
    """A client that hangs up while it waits costs nobody anything."""
    admission = Admission(rate=0.01, burst=1, longest=150)
    assert await admission.admit()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(admission.admit())
        await asyncio.sleep(0)
        assert not await admission.admit(), "the line is full"
        waiting.cancel()

    wait = admission.turn(asyncio.get_running_loop().time())

    assert wait == pytest.approx(100, abs=1)


def test_a_storm_of_two_thousand_is_let_in_by_default() -> None:
    """None of 2,000 that come at once is refused, and all are in within Envoy's patience."""
    limits = DEFAULTS
    admission = Admission(rate=limits.rate, burst=limits.burst, longest=limits.longest_wait)

    waits = [admission.turn(0.0) for _ in range(2000)]

    assert None not in waits
    assert max(wait for wait in waits if wait is not None) < 10
