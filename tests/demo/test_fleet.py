"""The applications as processes, without Envoys: a store stands where its sidecar would be."""

import asyncio
import os
import signal
from collections.abc import Sequence

import pytest

from smi_xds.demo.addresses import free_block
from smi_xds.demo.apps import BETA_SUFFIX, Call, Spec
from smi_xds.demo.fleet import Counted, Fleet, running_fleet
from smi_xds.demo.tally import RESET, EdgeKey
from smi_xds.problems import ServeError
from tests.support.wait import eventually_async

SIDECAR_PORT = 15001  # where an application looks for its sidecar

CALL = Call(service="store", host="store.shop", method="GET", path="/buy")
EDGE = EdgeKey("buyer", "store", "store")


def mk_specs(prefix: str, *, warehouse: bool = False, connections: int = 2) -> list[Spec]:
    restock = Call(service="warehouse", host="w", method="POST", path="/restock")
    return [
        Spec(
            name="buyer",
            address=f"{prefix}.1",
            sidecar=f"{prefix}.2",
            call=CALL,
            connections=connections,
        ),
        Spec(
            name="store",
            address=f"{prefix}.2",
            sidecar=f"{prefix}.3",
            port=SIDECAR_PORT,
            call=restock if warehouse else None,
            calling_paths=("/buy",) if warehouse else (),
        ),
    ]


async def turn_after(
    fleet: Fleet, requests: int, rate: float, *, beta: Sequence[str] = ()
) -> Counted:
    """Let the buyer call until it has made so many requests; return what was counted."""
    await fleet.turn({"buyer": rate}, beta=beta)
    await eventually_async(
        lambda: (
            sum(e.requests for k, e in fleet.now().tally.edges.items() if k.service == "store")
            >= requests
        )
    )
    return await fleet.turn({})


async def test_requests_are_counted_by_who_answered() -> None:
    """A caller counts what it asked; nobody counts while the rate is 0."""
    with free_block() as prefix:
        async with (
            asyncio.TaskGroup() as tasks,
            running_fleet(mk_specs(prefix), tasks=tasks) as fleet,
        ):
            counted = await turn_after(fleet, 50, 500)
            idle = await turn_after(fleet, 0, 0)

    assert counted.tally.edges[EDGE].codes.keys() == {"200"}
    assert counted.opened == {"buyer": 2, "store": 0}
    assert counted.seconds["buyer"] > 0
    assert idle.tally.edges == {}


async def test_connections_are_kept_from_epoch_to_epoch() -> None:
    """What is open stays open: a later epoch opens nothing."""
    with free_block() as prefix:
        async with (
            asyncio.TaskGroup() as tasks,
            running_fleet(mk_specs(prefix), tasks=tasks) as fleet,
        ):
            await turn_after(fleet, 20, 500)
            later = await turn_after(fleet, 20, 500)

    assert later.opened["buyer"] == 0


async def test_every_second_request_may_carry_the_header() -> None:
    """Readers of the beta are counted as a source of their own, on the same connections."""
    with free_block() as prefix:
        async with (
            asyncio.TaskGroup() as tasks,
            running_fleet(mk_specs(prefix), tasks=tasks) as fleet,
        ):
            counted = await turn_after(fleet, 100, 500, beta=["buyer"])

    plain = counted.tally.requests("buyer")
    beta = counted.tally.requests("buyer" + BETA_SUFFIX)
    assert abs(plain - beta) <= 2


async def test_a_call_that_fails_behind_an_application_is_seen_before_it() -> None:
    """A store whose warehouse is away answers 502, and counts a reset itself."""
    with free_block() as prefix:
        async with (
            asyncio.TaskGroup() as tasks,
            running_fleet(mk_specs(prefix, warehouse=True), tasks=tasks) as fleet,
        ):
            counted = await turn_after(fleet, 5, 100)

    assert counted.tally.codes("buyer").keys() == {"502"}
    assert counted.tally.codes("store").keys() == {RESET}


async def test_nobody_there_is_a_reset() -> None:
    """A caller without a sidecar counts resets, and goes on."""
    with free_block() as prefix:
        [buyer, _] = mk_specs(prefix)
        async with (
            asyncio.TaskGroup() as tasks,
            running_fleet([buyer], tasks=tasks) as fleet,
        ):
            counted = await turn_after(fleet, 3, 100)

    assert counted.tally.codes("buyer").keys() == {RESET}


async def test_an_application_that_ends_ends_the_demo() -> None:
    """Its death is an error with its name, not silence."""

    async def lose_one() -> None:
        with free_block() as prefix:
            async with (
                asyncio.TaskGroup() as tasks,
                running_fleet(mk_specs(prefix), tasks=tasks) as fleet,
            ):
                os.kill(fleet.processes["store"], signal.SIGKILL)
                await asyncio.sleep(30)

    with pytest.raises(ExceptionGroup) as raised:
        await lose_one()

    assert raised.group_contains(ServeError, match="the application store ended")


def test_two_runs_do_not_share_addresses() -> None:
    """A block that is taken is not given out again until it is free."""
    with free_block() as first, free_block() as second:
        assert first != second
    with free_block() as third:
        assert third == first
