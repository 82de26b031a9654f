"""When rounds begin, and what waits for the latest."""

import asyncio
import time

import pytest

from smi_xds.app.pulse import HOLD_OFF, LONGEST_HOLD_OFF, Latest, Pulse


async def test_a_change_in_quiet_times_is_served_at_once() -> None:
    """The first change waits for nothing."""
    pulse = Pulse()
    pulse.ring()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(pulse.next())
        await asyncio.sleep(0)

        assert waiting.done()


async def test_changes_during_a_round_make_one_more() -> None:
    """However many came meanwhile, the next round has them all, from the first on."""
    pulse = Pulse()
    pulse.ring()
    await pulse.next()
    pulse.ring()
    first = time.perf_counter()
    pulse.ring()
    pulse.served()
    began = await pulse.next()

    assert began <= first
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * HOLD_OFF):
            await pulse.next()


async def test_a_stream_of_changes_is_not_put_off_for_ever() -> None:
    """Changes that never cease are served after the longest hold-off."""
    pulse = Pulse()
    pulse.served()

    async def keep_ringing() -> None:
        while True:
            pulse.ring()
            await asyncio.sleep(HOLD_OFF / 3)

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        ringing = tasks.create_task(keep_ringing())
        began = await pulse.next()
        waited = time.perf_counter() - began
        ringing.cancel()

    assert waited >= min(HOLD_OFF, LONGEST_HOLD_OFF)


async def test_after_a_long_round_as_much_time_is_left_for_others() -> None:
    """The next begins no sooner after the last than that took, up to the longest hold-off."""
    pulse = Pulse()
    pulse.ring()
    await pulse.next()
    begun = time.perf_counter()
    while time.perf_counter() - begun < 2 * HOLD_OFF:
        pass  # a round that takes as long
    taken = time.perf_counter() - begun
    pulse.served()
    served = time.perf_counter()
    await asyncio.sleep(HOLD_OFF)
    pulse.ring()
    await pulse.next()

    assert time.perf_counter() - served >= min(taken, LONGEST_HOLD_OFF) - 0.001


async def test_a_latest_value_wakes_all_who_wait_for_a_newer_one() -> None:
    """Every reader gets the newest value, and nobody one that is not newer."""
    latest: Latest[str] = Latest()
    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(latest.newer_than(0)) for _ in range(3)]
        await asyncio.sleep(0)
        latest.set("one")

    assert [reader.result() for reader in readers] == ["one"] * 3
    assert latest.number == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await latest.newer_than(1)


async def test_a_slow_reader_skips_what_is_no_longer_true() -> None:
    """Two values set in a row: the reader sees the second."""
    latest: Latest[str] = Latest()
    latest.set("one")
    latest.set("two")

    assert await latest.newer_than(0) == "two"
    assert latest.value == "two"
