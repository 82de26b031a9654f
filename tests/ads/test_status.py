"""The account of streams and rounds."""

import asyncio

import pytest

from smi_xds.ads.session import Acked, Node, Rejected, Response, Stale
from smi_xds.ads.session.pictures import Picture
from smi_xds.ads.status import Status, StreamStatus, Sync, TypeStatus
from smi_xds.xds.resources import CLUSTER


class Clock:
    """Time as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def response(serial: int) -> Response:
    """A response of clusters."""
    return Response(
        type=CLUSTER,
        serial=serial,
        version=f"v{serial}",
        resources=(),
        told=Picture(CLUSTER, {}),
        replaced={},
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def status(clock: Clock) -> Status:
    return Status(clock=clock, wall_clock=lambda: clock.now + 1000)


def opened(status: Status, node: str = "default/a") -> StreamStatus:
    """A stream that begins."""
    return status.opened(Node(node), is_delta=True, peer="ipv4:1.2.3.4:5", is_known=True)


def publish(status: Status, number: int, *streams: StreamStatus) -> None:
    """A round that concerns these streams."""
    status.round_begins(number)
    for stream in streams:
        status.changed(stream, is_known=True, is_due=True)
    status.round_published(number)


async def is_converged(status: Status) -> bool:
    """Whether nobody is waited for."""
    try:
        async with asyncio.timeout(0.01):
            await status.converged()
    except TimeoutError:
        return False
    return True


def test_a_type_goes_through_its_states(status: Status, clock: Clock) -> None:
    """Idle, stale while unanswered, synced, stale, NACKED with text, synced without."""
    stream = opened(status)
    status.stale(stream, Stale(CLUSTER, "0"))
    clusters = stream.types[CLUSTER]
    seen = [clusters.sync]
    status.sent(stream, response(1), 100)
    seen.append(clusters.sync)
    clock.now = 1.0
    status.acked(stream, Acked(response(1)))
    seen.append(clusters.sync)
    status.sent(stream, response(2), 50)
    seen.append(clusters.sync)
    status.nacked(stream, Rejected(response(2), "no", frozenset({"x"})))
    seen.append(clusters.sync)

    assert seen == [Sync.IDLE, Sync.STALE, Sync.SYNCED, Sync.STALE, Sync.NACKED]
    assert clusters == TypeStatus(
        nonce_sent="2",
        version_sent="v2",
        sent_at=1.0,
        nonce_acked="1",
        version_acked="v1",
        acked_at=1.0,
        nonce_nacked="2",
        nacked_at=1.0,
        error="no",
        refused=frozenset({"x"}),
        responses=2,
        bytes=150,
        last_bytes=50,
        acks=1,
        nacks=1,
        stale=1,
    )
    status.sent(stream, response(3), 50)
    status.acked(stream, Acked(response(3), frozenset({"x"})))
    assert (clusters.sync, clusters.error) == (Sync.NACKED, "no")
    status.sent(stream, response(3), 50)
    status.acked(stream, Acked(response(3)))
    assert (clusters.sync, clusters.error) == (Sync.SYNCED, "")


async def test_a_round_ends_with_its_last_stream(status: Status, clock: Clock) -> None:
    """The time is that of the last answer; streams that it does not concern do not count."""
    a, b, c = opened(status, "a"), opened(status, "b"), opened(status, "c")
    publish(status, 1, a, b, c)
    for each in (a, b, c):
        status.settled(each)
    clock.now = 10.0
    publish(status, 2, a, b)
    last = status.rounds[-1]

    clock.now = 10.5
    status.settled(a)
    status.settled(a)
    assert (last.waiting, last.streams, last.converged_at) == (1, 2, None)
    assert not await is_converged(status)
    clock.now = 11.0
    status.settled(b)

    assert (last.published_at, last.waiting, last.converged_at) == (10.0, 0, 11.0)
    assert await status.converged() is last


async def test_a_stream_that_is_behind_is_behind_with_later_rounds(
    status: Status, clock: Clock
) -> None:
    """It ends all of them at once, whether they concerned it or not."""
    a, b = opened(status, "a"), opened(status, "b")
    publish(status, 1, a, b)
    clock.now = 1.0
    status.settled(b)
    publish(status, 2, b)
    status.settled(b)
    clock.now = 2.0
    publish(status, 3)

    clock.now = 3.0
    status.settled(a)

    assert [(r.number, r.waiting, r.converged_at) for r in status.rounds] == [
        (1, 0, 3.0),
        (2, 0, 3.0),
        (3, 0, 3.0),
    ]


async def test_a_round_that_concerns_nobody_is_over_at_once(status: Status, clock: Clock) -> None:
    """With all streams up to date, and without any."""
    clock.now = 5.0
    publish(status, 1)

    assert (await status.converged()).converged_at == 5.0


async def test_a_stream_that_ends_is_not_waited_for(status: Status) -> None:
    """Nor shown any more."""
    publish(status, 1)
    a = opened(status)
    assert not await is_converged(status)

    status.closed(a)

    assert await is_converged(status)
    assert not status.streams


async def test_a_stream_that_comes_later_is_waited_for_but_not_counted(status: Status) -> None:
    """A round that is over stays over; the next one counts a newcomer that is not ready."""
    publish(status, 1)
    a = opened(status)
    assert (a.behind_since, status.rounds[-1].waiting) == (2, 0)
    publish(status, 2, a)
    assert status.rounds[-1].waiting == 1
    status.settled(a)
    assert [each.waiting for each in status.rounds] == [0, 0]


async def test_quiet_waits_for_what_follows(status: Status) -> None:
    """An answer after which the proxy asks for more does not end the wait."""
    publish(status, 1)
    a = opened(status)

    async def follow() -> None:
        status.settled(a)
        await asyncio.sleep(0)
        status.fell_behind(a)
        status.acked(a, Acked(response(1)))
        await asyncio.sleep(0.05)
        status.settled(a)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(follow())
        await status.converged(quiet=0.02)
        assert not a.behind_since


def test_a_change_of_nothing_that_was_asked_for_is_no_change(status: Status, clock: Clock) -> None:
    """The time of the last change is that of one that matters to the proxy."""
    publish(status, 1)
    a = opened(status)
    status.settled(a)
    clock.now = 7.0
    status.changed(a, is_known=False, is_due=False)

    assert (a.connected_at, a.changed_at, a.is_known) == (1000.0, 1000.0, False)
    status.changed(a, is_known=True, is_due=True)
    assert (a.changed_at, a.is_known) == (1007.0, True)


def test_rounds_are_bounded(status: Status) -> None:
    """A stream that never answers does not make them pile up, nor break when it does."""
    publish(status, 1)
    a = opened(status)
    for number in range(2, 1000):
        publish(status, number, a)

    status.settled(a)

    assert len(status.rounds) == 256
    assert all(each.converged_at is not None for each in status.rounds)
