"""Leaves are kept, renewed in time whatever the clock does, and forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smi_xds.identity import ca
from smi_xds.identity.issuer import Issuer, wall_clock
from smi_xds.problems import IdentityError
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.identity import NOW, mk_authority

AUTHORITY = mk_authority()
HOUR = timedelta(hours=1)


def mk_identity(name: str) -> SpiffeId:
    return SpiffeId.of("cluster.local", ServiceAccountRef("bookstore", name))


BUYER, THIEF = mk_identity("bookbuyer"), mk_identity("bookthief")


class FakeClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    """It stands at a fixed time."""
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> Issuer:
    """Without leaves yet."""
    return Issuer(AUTHORITY, clock=clock)


def test_a_leaf_is_signed_once_and_kept(issuer: Issuer, clock: FakeClock) -> None:
    """Every stream of an identity gets the very same leaf until its renewal."""
    first = issuer.leaf(BUYER)
    clock.now = first.renew_at - timedelta(seconds=1)

    assert issuer.leaf(BUYER) is first
    assert issuer.leaf(THIEF) is not first


def test_a_leaf_that_is_due_is_replaced_when_asked_for(issuer: Issuer, clock: FakeClock) -> None:
    """A stream that opens at the renewal gets the new leaf at once."""
    first = issuer.leaf(BUYER)
    clock.now = first.renew_at

    second = issuer.leaf(BUYER)

    assert second.private_key != first.private_key
    assert second.not_after > first.not_after


def test_the_next_renewal_is_that_of_the_earliest_leaf(issuer: Issuer, clock: FakeClock) -> None:
    """It is what a waiter waits for; without leaves there is nothing to wait for."""
    assert issuer.next_renewal() is None

    first = issuer.leaf(BUYER)
    clock.now += HOUR
    issuer.leaf(THIEF)

    assert issuer.next_renewal() == first.renew_at


def test_only_what_is_due_is_due(issuer: Issuer, clock: FakeClock) -> None:
    """A leaf is due from its renewal on, not a second before."""
    first = issuer.leaf(BUYER)
    clock.now += HOUR * 2
    issuer.leaf(THIEF)

    assert issuer.due(first.renew_at - timedelta(seconds=1)) == set()
    assert issuer.due(first.renew_at) == {BUYER}


def test_renewing_makes_a_new_leaf_and_moves_the_deadline(issuer: Issuer, clock: FakeClock) -> None:
    """Afterwards nothing is due, and the new leaf is what everybody gets."""
    first = issuer.leaf(BUYER)
    clock.now = first.renew_at

    renewed = issuer.renew(issuer.due(clock.now))

    assert renewed == {BUYER}
    assert issuer.leaf(BUYER) is not first
    assert issuer.due(clock.now) == set()
    assert issuer.next_renewal() == issuer.leaf(BUYER).renew_at


def test_holders_are_told_even_if_a_newcomer_had_the_leaf_replaced(
    issuer: Issuer, clock: FakeClock
) -> None:
    """A leaf that was replaced on the way stays due until its renewal was announced, once."""
    first = issuer.leaf(BUYER)
    clock.now = first.renew_at + timedelta(seconds=1)
    second = issuer.leaf(BUYER)

    assert issuer.due(clock.now) == {BUYER}
    assert issuer.renew({BUYER}) == {BUYER}
    assert issuer.leaf(BUYER) is second
    assert issuer.due(clock.now) == set()


@pytest.mark.parametrize("asked_meanwhile", [False, True])
def test_a_clock_that_goes_back_makes_leaves_due(
    issuer: Issuer, clock: FakeClock, asked_meanwhile: bool
) -> None:
    """A leaf of the future is of no use now: it is replaced, and its holders are told."""
    first = issuer.leaf(BUYER)
    clock.now -= HOUR
    if asked_meanwhile:
        assert issuer.leaf(BUYER).not_before < clock.now

    assert issuer.due(clock.now) == {BUYER}
    assert issuer.renew({BUYER}) == {BUYER}
    assert issuer.leaf(BUYER).not_before < clock.now < first.not_before
    assert issuer.due(clock.now) == set()


def test_a_small_step_back_is_within_the_skew(issuer: Issuer, clock: FakeClock) -> None:
    """A corrected clock does not renew the mesh."""
    first = issuer.leaf(BUYER)
    clock.now -= timedelta(minutes=4)

    assert issuer.due(clock.now) == set()
    assert issuer.leaf(BUYER) is first


def test_a_clock_that_jumps_ahead_never_serves_an_expired_leaf(
    issuer: Issuer, clock: FakeClock
) -> None:
    """After a laptop slept for a week the next leaf is a valid one."""
    issuer.leaf(BUYER)
    clock.now += timedelta(days=7)

    leaf = issuer.leaf(BUYER)

    assert leaf.not_before < clock.now < leaf.renew_at


def test_unused_identities_are_forgotten(issuer: Issuer, clock: FakeClock) -> None:
    """Their keys are gone, they are not renewed, and who comes back gets a fresh leaf."""
    first, kept = issuer.leaf(BUYER), issuer.leaf(THIEF)

    issuer.retain({THIEF, mk_identity("never-seen")})

    assert issuer.due(NOW + timedelta(days=2)) == {THIEF}
    assert issuer.renew({BUYER}) == set()
    assert issuer.leaf(THIEF) is kept
    assert issuer.leaf(BUYER) is not first


def test_a_foreign_identity_is_refused_and_not_kept(issuer: Issuer) -> None:
    """What the authority does not sign leaves no trace."""
    with pytest.raises(IdentityError, match="not of trust domain"):
        issuer.leaf(SpiffeId("elsewhere", "/ns/a/sa/b"))

    assert issuer.next_renewal() is None


_steps = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from([BUYER, THIEF])),
    st.tuples(st.just("wait"), st.timedeltas(timedelta(0), timedelta(hours=30))),
    st.tuples(st.just("run"), st.none()),
    st.tuples(st.just("back"), st.timedeltas(timedelta(0), timedelta(hours=30))),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(_steps, max_size=30))
def test_nobody_is_left_with_a_leaf_that_ends(
    steps: list[tuple[str, SpiffeId | timedelta | None]],
) -> None:
    """Whatever the clock and newcomers do: after each round all holders have the current leaf."""
    clock = FakeClock()
    issuer = Issuer(mk_authority(now=NOW - timedelta(days=100)), clock=clock)
    held: dict[SpiffeId, ca.Leaf] = {}
    for step, argument in steps:
        match step, argument:
            case "ask", SpiffeId():
                leaf = issuer.leaf(argument)
                assert leaf.not_before <= clock.now < leaf.renew_at
                held.setdefault(argument, leaf)
            case "wait", timedelta():
                clock.now += argument
            case "back", timedelta():
                clock.now -= argument
            case _:
                for identity in issuer.renew(issuer.due(clock.now)):
                    held[identity] = issuer.leaf(identity)
                for leaf in held.values():
                    assert leaf is issuer.leaf(leaf.identity)
                    assert leaf.not_before <= clock.now < leaf.renew_at <= leaf.not_after


@contextlib.asynccontextmanager
async def running(
    issuer: Issuer, renewed: Callable[[frozenset[SpiffeId]], None]
) -> AsyncIterator[None]:
    """The issuer's loop, for as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(issuer.run(renewed))
        yield
        task.cancel()


async def test_the_loop_renews_what_comes_due(clock: FakeClock) -> None:
    """Once the clock passes the renewal, the holders are named, and only they."""
    issuer = Issuer(AUTHORITY, clock=clock, lifetime=timedelta(seconds=1))
    told = asyncio.Event()
    names: list[frozenset[SpiffeId]] = []

    def renewed(identities: frozenset[SpiffeId]) -> None:
        names.append(identities)
        told.set()

    async with asyncio.timeout(30), running(issuer, renewed):
        first = issuer.leaf(BUYER)
        clock.now = first.renew_at
        await told.wait()

    assert names == [{BUYER}]
    assert issuer.leaf(BUYER) is not first


async def test_the_loop_wakes_from_a_nap_for_what_came_meanwhile(clock: FakeClock) -> None:
    """A leaf that was asked for, and a clock that jumped, while it slept are noticed soon."""
    issuer = Issuer(AUTHORITY, clock=clock, lifetime=timedelta(seconds=1))
    naps: list[frozenset[SpiffeId]] = []
    told = asyncio.Event()

    def renewed(identities: frozenset[SpiffeId]) -> None:
        naps.append(identities)
        told.set()

    async with asyncio.timeout(30), running(issuer, renewed):
        await asyncio.sleep(0)  # nothing to do: the loop sleeps
        leaf = issuer.leaf(BUYER)
        clock.now += timedelta(days=1)
        await told.wait()
        told.clear()
        issuer.leaf(THIEF)
        clock.now -= timedelta(days=2)
        await told.wait()

    assert naps == [{BUYER}, {BUYER, THIEF}]
    assert issuer.leaf(BUYER).not_after < leaf.not_after


@pytest.mark.parametrize(
    "lifetime, until, seconds",
    [
        (timedelta(hours=24), timedelta(hours=-1), 30),
        (timedelta(hours=24), timedelta(seconds=-7), 7),
        (timedelta(hours=24), timedelta(seconds=1), 0),
        (timedelta(seconds=10), timedelta(hours=-1), 0.5),
    ],
)
def test_a_nap_is_short_and_ends_with_the_renewal(
    clock: FakeClock, lifetime: timedelta, until: timedelta, seconds: float
) -> None:
    """At most 30 s or a twentieth of a life, and never past what is due next."""
    issuer = Issuer(AUTHORITY, clock=clock, lifetime=lifetime)
    assert issuer.nap() == min(timedelta(seconds=30), lifetime / 20)

    clock.now = issuer.leaf(BUYER).renew_at + until

    assert issuer.nap() == timedelta(seconds=seconds)


async def test_the_loop_lets_others_run_between_slices(clock: FakeClock) -> None:
    """However many are due at once, no one waits for more than a slice of them."""
    issuer = Issuer(AUTHORITY, clock=clock)
    identities = {mk_identity(f"sa-{number}") for number in range(100)}
    for identity in identities:
        issuer.leaf(identity)
    clock.now += timedelta(hours=23)
    told: set[SpiffeId] = set()
    seen: list[int] = []

    async with asyncio.timeout(30), running(issuer, told.update):
        while told != identities:
            seen.append(len(told))
            await asyncio.sleep(0)

    assert max(after - before for before, after in pairwise(seen)) <= 4
    assert issuer.due(clock.now) == set()


async def test_who_is_forgotten_during_a_renewal_is_not_announced(clock: FakeClock) -> None:
    """A workload that went away between two slices gets no new key."""
    issuer = Issuer(AUTHORITY, clock=clock, lifetime=timedelta(seconds=1))
    identities = [mk_identity(f"sa-{number}") for number in range(10)]
    for identity in identities:
        issuer.leaf(identity)
    clock.now += HOUR
    slices: list[frozenset[SpiffeId]] = []
    again = asyncio.Event()

    def renewed(changed: frozenset[SpiffeId]) -> None:
        slices.append(changed)
        if changed & slices[0] and len(slices) > 1:
            again.set()
        issuer.retain(changed)
        clock.now += HOUR  # what is kept is due in the next round

    async with asyncio.timeout(30), running(issuer, renewed):
        await again.wait()

    assert slices == [set(identities[:4])] * 2


async def test_the_loop_ends_with_a_root_that_ended(clock: FakeClock) -> None:
    """Without a valid root there is nothing to serve: the error reaches whoever started it."""
    issuer = Issuer(AUTHORITY, clock=clock)
    issuer.leaf(BUYER)
    clock.now = AUTHORITY.not_after

    with pytest.raises(IdentityError, match="root certificate expired"):
        async with asyncio.timeout(30):
            await issuer.run(lambda _: None)


def test_the_wall_clock_is_aware() -> None:
    """Certificates are judged in UTC."""
    assert wall_clock().tzinfo is UTC
