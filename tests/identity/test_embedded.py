"""Leaves of our own authority are kept, renewed in time whatever the clock does, and forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from smi_xds.identity import ca
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.embedded import AT_ONCE, EmbeddedIssuer
from smi_xds.identity.issuer import wall_clock
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.authorities import mk_renewed_chain
from tests.support.identity import NOW, mk_authority
from tests.support.wait import eventually_async

AUTHORITY = mk_authority()
HOUR = timedelta(hours=1)


def mk_identity(name: str) -> SpiffeId:
    return SpiffeId.of("cluster.local", ServiceAccountRef("bookstore", name))


BUYER, THIEF = mk_identity("bookbuyer"), mk_identity("bookthief")
MANY = [mk_identity(f"sa-{number:04}") for number in range(AT_ONCE * 4)]


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
def issuer(clock: FakeClock) -> EmbeddedIssuer:
    """Without leaves yet."""
    return EmbeddedIssuer(AUTHORITY, clock=clock)


def leaf_of(issuer: EmbeddedIssuer, identity: SpiffeId) -> ca.Leaf:
    """What it has for one, of all that are in use."""
    return issuer.ask({BUYER, THIEF, identity}).leaves[identity]


@contextlib.asynccontextmanager
async def running(
    issuer: EmbeddedIssuer, changed: Callable[[], object] = lambda: None
) -> AsyncIterator[None]:
    """The issuer's loop, for as long as the block lasts."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(issuer.run(changed))
        yield
        task.cancel()


def test_a_few_leaves_are_signed_at_once_and_kept(issuer: EmbeddedIssuer) -> None:
    """Whoever asks again gets the very same leaf, and nothing has changed."""
    first = issuer.ask({BUYER, THIEF})
    changes = issuer.changes

    assert first.leaves.keys() == {BUYER, THIEF}
    assert issuer.ask({BUYER, THIEF}).leaves == first.leaves
    assert issuer.changes == changes


async def test_many_leaves_are_pending_and_come_slice_by_slice(issuer: EmbeddedIssuer) -> None:
    """However many are wanted at once, others wait for four signatures at most."""
    assert issuer.ask(MANY).leaves == {}
    seen: list[int] = []
    told: list[int] = []

    async with running(issuer, lambda: told.append(issuer.changes)):
        while issuer.changes < len(MANY):
            seen.append(issuer.changes)
            await asyncio.sleep(0)
        await eventually_async(lambda: told[-1:] == [len(MANY)])

    assert max(after - before for before, after in pairwise(seen)) <= 4
    assert issuer.ask(MANY).leaves.keys() == set(MANY)


async def test_who_is_forgotten_meanwhile_is_not_signed(issuer: EmbeddedIssuer) -> None:
    """A workload that went away while it was pending gets no key."""
    issuer.ask(MANY)

    async with running(issuer):
        await eventually_async(lambda: issuer.changes)
        issuer.ask(MANY[-3:])
        before = issuer.changes
        await eventually_async(lambda: not issuer.missing())

    assert issuer.ask(MANY[-3:]).leaves.keys() == set(MANY[-3:])
    assert issuer.changes == before


async def test_a_leaf_is_renewed_by_the_loop(issuer: EmbeddedIssuer, clock: FakeClock) -> None:
    """Until then the former one is handed out; afterwards the new one, and that is told once."""
    told: list[int] = []
    first = leaf_of(issuer, BUYER)
    clock.now = first.renew_at

    assert leaf_of(issuer, BUYER) is first
    async with running(issuer, lambda: told.append(issuer.changes)):
        await eventually_async(lambda: told)

    assert leaf_of(issuer, BUYER) is not first
    assert issuer.due() == []
    assert len(told) == 1


def test_only_what_is_due_is_due(issuer: EmbeddedIssuer, clock: FakeClock) -> None:
    """A leaf is due from its renewal on, not a second before."""
    first = issuer.ask({BUYER}).leaves[BUYER]
    clock.now += HOUR * 2
    issuer.ask({BUYER, THIEF})

    clock.now = first.renew_at - timedelta(seconds=1)
    assert issuer.due() == []
    clock.now = first.renew_at
    assert issuer.due() == [BUYER]


def test_a_clock_that_goes_back_has_leaves_replaced(
    issuer: EmbeddedIssuer, clock: FakeClock
) -> None:
    """A leaf of the future is of no use now; a small step is within the skew."""
    first = leaf_of(issuer, BUYER)
    clock.now -= timedelta(minutes=4)
    assert leaf_of(issuer, BUYER) is first

    clock.now -= HOUR
    second = leaf_of(issuer, BUYER)
    assert second.not_before < clock.now < first.not_before


def test_a_clock_that_jumps_ahead_never_serves_an_expired_leaf(
    issuer: EmbeddedIssuer, clock: FakeClock
) -> None:
    """After a laptop slept for a week the next leaf is a valid one."""
    leaf_of(issuer, BUYER)
    clock.now += timedelta(days=7)

    leaf = leaf_of(issuer, BUYER)

    assert leaf.not_before < clock.now < leaf.renew_at


def test_unused_identities_are_forgotten(issuer: EmbeddedIssuer) -> None:
    """Their keys are gone, and who comes back gets a fresh leaf."""
    before = issuer.ask({BUYER, THIEF}).leaves
    assert issuer.ask({THIEF, BUYER}).leaves[BUYER] is before[BUYER]

    assert issuer.ask({THIEF}).leaves == {THIEF: before[THIEF]}
    assert issuer.ask({BUYER, THIEF}).leaves[BUYER] is not before[BUYER]


def test_a_refused_identity_stands_alone(issuer: EmbeddedIssuer) -> None:
    """The reason is given, all others are served, and asking again changes nothing."""
    foreign = SpiffeId("elsewhere", "/ns/a/sa/b")
    standing = issuer.ask({BUYER, foreign})
    changes = issuer.changes

    assert standing.leaves.keys() == {BUYER}
    assert list(standing.refused) == [foreign]
    assert "not of trust domain" in standing.refused[foreign]
    assert issuer.ask({BUYER, foreign}).refused == standing.refused
    assert issuer.changes == changes
    assert issuer.ask({BUYER}).refused == {}


async def test_another_signer_replaces_all_leaves(clock: FakeClock) -> None:
    """Those of the former one are handed out until theirs is there; no one is left behind."""
    current = CurrentAuthority(AUTHORITY)
    issuer = EmbeddedIssuer(current, clock=clock)
    before = issuer.ask({BUYER, THIEF}).leaves

    async with running(issuer):
        current.replace(mk_authority())
        assert issuer.trust_bundle == current.trust_bundle
        assert issuer.ask({BUYER, THIEF}).leaves == before
        await eventually_async(lambda: not issuer.due())

    after = issuer.ask({BUYER, THIEF}).leaves
    assert all(after[identity] is not before[identity] for identity in before)


async def test_a_chain_that_was_renewed_replaces_all_leaves(clock: FakeClock) -> None:
    """They carry it: with the former one they would be believed by nobody once that has ended."""
    before, after = mk_renewed_chain()
    current = CurrentAuthority(before)
    issuer = EmbeddedIssuer(current, clock=clock, lifetime=30 * 24 * HOUR)
    old = leaf_of(issuer, BUYER)

    async with running(issuer):
        current.replace(after)
        assert not issuer.is_settled
        await eventually_async(lambda: issuer.is_settled)

    new = leaf_of(issuer, BUYER)
    _, *above = x509.load_pem_x509_certificates(new.certificate_chain)
    assert tuple(above) == after.intermediates
    assert old.not_after == before.intermediates[1].not_valid_after_utc, "no leaf outlives its path"
    assert new.not_after == NOW + 30 * 24 * HOUR


def test_another_authority_may_sign_what_the_former_refused(clock: FakeClock) -> None:
    """A trust domain that changes is that of the identities, a moment later."""
    current = CurrentAuthority(AUTHORITY)
    issuer = EmbeddedIssuer(current, clock=clock)
    foreign = SpiffeId("elsewhere", "/ns/a/sa/b")
    assert issuer.ask({foreign}).refused

    current.replace(mk_authority(trust_domain="elsewhere"))

    assert issuer.ask({foreign}).leaves.keys() == {foreign}


async def test_a_root_that_ended_refuses_and_leaves_what_there_is(clock: FakeClock) -> None:
    """The loop goes on, and says why there are no new leaves."""
    issuer = EmbeddedIssuer(AUTHORITY, clock=clock)
    clock.now = AUTHORITY.not_after - timedelta(seconds=10)
    assert issuer.ask({BUYER}).leaves
    clock.now = AUTHORITY.not_after
    told: list[int] = []

    async with running(issuer, lambda: told.append(issuer.changes)):
        await eventually_async(lambda: told)

    assert "expired" in issuer.ask({BUYER}).refused[BUYER]
    assert issuer.nap() > timedelta(0)


_steps = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from([BUYER, THIEF])),
    st.tuples(st.just("wait"), st.timedeltas(timedelta(0), timedelta(hours=30))),
    st.tuples(st.just("back"), st.timedeltas(timedelta(0), timedelta(hours=30))),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(_steps, max_size=30))
def test_nobody_is_given_a_leaf_that_is_not_valid(
    steps: list[tuple[str, SpiffeId | timedelta]],
) -> None:
    """Whatever the clock does: who asks gets leaves of this time, all that are few."""
    clock = FakeClock()
    issuer = EmbeddedIssuer(mk_authority(now=NOW - timedelta(days=100)), clock=clock)
    wanted: set[SpiffeId] = set()
    for step, argument in steps:
        match step, argument:
            case "ask", SpiffeId():
                wanted.add(argument)
            case "wait", timedelta():
                clock.now += argument
            case _, timedelta():
                clock.now -= argument
            case _:
                raise AssertionError(step)
        leaves = issuer.ask(frozenset(wanted)).leaves
        assert leaves.keys() == wanted
        assert all(leaf.not_before <= clock.now < leaf.not_after for leaf in leaves.values())


@pytest.mark.parametrize(
    "lifetime, until, seconds",
    [
        (timedelta(hours=24), timedelta(hours=-1), 30),
        (timedelta(hours=24), timedelta(seconds=-7), 7),
        (timedelta(hours=24), timedelta(seconds=1), 30),
        (timedelta(seconds=10), timedelta(hours=-1), 0.5),
    ],
)
def test_a_nap_is_short_and_ends_with_the_renewal(
    clock: FakeClock, lifetime: timedelta, until: timedelta, seconds: float
) -> None:
    """At most 30 s or a twentieth of a life, and never past what is due next; what was due and
    could not be signed is tried again after one."""
    issuer = EmbeddedIssuer(AUTHORITY, clock=clock, lifetime=lifetime)
    assert issuer.nap() == min(timedelta(seconds=30), lifetime / 20)

    clock.now = issuer.ask({BUYER}).leaves[BUYER].renew_at + until

    assert issuer.nap() == timedelta(seconds=seconds)


def test_the_wall_clock_is_aware() -> None:
    """Certificates are judged in UTC."""
    assert wall_clock().tzinfo is UTC
