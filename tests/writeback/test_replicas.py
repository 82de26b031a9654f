"""What the leader hears of the proxies of other replicas."""

import random
import string
from http import HTTPStatus
from typing import Any

import pytest
from structlog.testing import capture_logs

from smi_xds.ads.session import Node, Rejected
from smi_xds.ads.status import Status
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.values import ProxyId
from smi_xds.writeback.concern import EVERYONE, Concern
from smi_xds.writeback.conditions import Tally
from smi_xds.writeback.replicas import (
    ANNOTATION,
    Announcer,
    Place,
    Remote,
    Replicas,
    Report,
    encoded,
    remote_from,
    report_of,
)
from smi_xds.writeback.tally import GRACE, fleet_of
from tests.support.objects import NS, spiffe
from tests.writeback.fakes import FakeApi, FakeClock
from tests.writeback.test_tally import API, WEB, WEB_1, WEB_2, mk_mesh, mk_plane, response

PLACE = Place("smi-xds", "smi-xds-leader")
REPORT = Report(("shop/web-1", "shop/web-2"), ("shop/web-2",), {"shop/web-1": "no"})


class Follower:
    """One that tells, and what it tells."""

    def __init__(self, api: FakeApi, clock: FakeClock, identity: str = "b") -> None:
        self.report, self.rounds = REPORT, 0
        self.announcer = Announcer(
            api,
            PLACE,
            identity=identity,
            report=lambda: self.report,
            rounds=lambda: self.rounds,
            clock=clock,
            wall_clock=lambda: 1_800_000_000.0,
        )


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def heard_of(replicas: Replicas) -> int:
    return len(replicas.remotes)


def writes(api: FakeApi) -> list[str]:
    return [it for it in api.methods() if it != "GET"]


def test_a_report_says_who_has_what() -> None:
    """All, those behind and new ones among them, those who refuse."""
    plane, one, _ = mk_plane()
    plane.open(API)
    plane.status.sent(one, response(), 10)
    plane.status.nacked(one, Rejected(response(), "no" * 1000, frozenset("x")))
    found = report_of(plane.status.streams.values())

    assert found.nodes == ("shop/api", "shop/web-1", "shop/web-2")
    assert found.behind == ("shop/api",)
    assert list(found.refusing) == ["shop/web-1"]
    assert len(found.refusing["shop/web-1"]) == 500
    assert report_of(()) == Report()


def test_a_report_arrives_as_it_was_sent() -> None:
    """In an annotation."""
    assert remote_from(encoded(REPORT), 7.0) == Remote(
        7.0, frozenset({WEB_1, WEB_2}), frozenset({WEB_2}), {WEB_1: "no"}
    )


@pytest.mark.parametrize(
    "text", ["", "?", "eA==", encoded(Report(("no-proxy",), ("x",), {"y": "z"})), "é"]
)
def test_what_is_no_report_is_of_nobody(text: str) -> None:
    """Whoever wrote it."""
    assert remote_from(text, 7.0) == Remote(7.0, frozenset())


def test_thousands_fit_and_more_are_not_told() -> None:
    """An object has room for 256 kB of annotations."""
    chance = random.Random(0)

    def named(number: int) -> Report:
        letters = string.ascii_lowercase
        names = ("".join(chance.choices(letters, k=15)) for _ in range(number))
        return Report(tuple(f"namespace/service-{it}" for it in names))

    assert encoded(named(5_000))
    assert encoded(named(50_000)) == ""


async def test_it_tells_when_there_is_something_new(api: FakeApi, clock: FakeClock) -> None:
    """For a while after each round, when its proxies change, and as a sign of life."""
    follower = Follower(api, clock)
    clock.now += 100.0
    said = []
    for step in range(20):
        if step == 8:
            follower.rounds += 1
        if step == 15:
            follower.report = Report()
        await follower.announcer.step()
        said.append(len(writes(api)))
        clock.now += 2.0

    assert [b - a for a, b in zip([0, *said], said, strict=False)] == [
        *(1, 0, 1, 0, 1, 0, 1, 0),
        *(1, 1, 1, 1, 1, 0, 1),
        *(1, 0, 1, 0, 1),
    ]
    [lease] = api.objects.values()
    assert lease["metadata"]["labels"] == {"smi-xds.io/replica-of": "smi-xds-leader"}
    assert lease["spec"]["holderIdentity"] == "b"
    assert writes(api)[:2] == ["POST", "PUT"]


async def test_what_was_removed_or_changed_is_put_right(api: FakeApi, clock: FakeClock) -> None:
    """At the next look; and what it left before a restart of the same pod is taken over."""
    follower = Follower(api, clock)
    clock.now += 100.0
    await follower.announcer.step()
    [path] = api.objects
    del api.objects[path]
    clock.now += 5.0
    await follower.announcer.step()
    assert api.objects == {}
    await follower.announcer.step()
    assert path in api.objects
    api.put(path, api.objects[path])
    clock.now += 5.0
    for _ in range(2):
        await follower.announcer.step()
    again = Follower(api, clock)
    await again.announcer.step()

    assert list(api.objects) == [path]


async def test_who_leads_or_ends_takes_it_back(api: FakeApi, clock: FakeClock) -> None:
    """Nothing where nothing was told; and it is no matter where that fails."""
    follower = Follower(api, clock)
    await follower.announcer.withdraw()
    assert api.calls == []
    clock.now += 100.0
    await follower.announcer.step()
    await follower.announcer.withdraw()
    assert api.objects == {}
    await follower.announcer.step()
    assert len(api.objects) == 1
    api.fail = lambda _method, _path: UnreachableError("refused")
    await follower.announcer.withdraw()


async def test_without_the_right_each_side_says_so_once(api: FakeApi, clock: FakeClock) -> None:
    """The leader counts its own then."""
    follower, replicas = Follower(api, clock), Replicas(api, PLACE, clock=clock)
    api.fail = lambda _method, _path: RefusedError(HTTPStatus.FORBIDDEN, "may not")
    clock.now += 100.0
    with capture_logs() as logs:
        for _ in range(3):
            await follower.announcer.step()
            await replicas.step()
    api.fail = lambda _method, _path: UnreachableError("refused")
    await follower.announcer.step()
    await replicas.step()

    assert [it["event"] for it in logs] == ["replica_unheard"] * 2
    assert heard_of(replicas) == 0


async def test_old_credentials_are_read_again(api: FakeApi, clock: FakeClock) -> None:
    """A replica that does not lead has no writer that would do it."""
    follower, replicas = Follower(api, clock), Replicas(api, PLACE, clock=clock)
    api.fail = lambda _method, _path: RefusedError(HTTPStatus.UNAUTHORIZED, "who?")
    clock.now += 100.0
    await follower.announcer.step()
    assert api.renewals == 1
    await replicas.step()
    assert api.renewals == 2


async def test_the_leader_hears_the_others(api: FakeApi, clock: FakeClock) -> None:
    """When they say something; who is silent is not counted, and removed in the end."""
    follower, replicas = Follower(api, clock), Replicas(api, PLACE, clock=clock)
    api.put(f"{PLACE.folder}/smi-xds-leader", {"metadata": {"name": "smi-xds-leader"}, "spec": {}})
    clock.now += 100.0
    await follower.announcer.step()
    await replicas.step()
    heard = clock.now
    first = replicas.remotes
    clock.now += 5.0
    await replicas.step()
    assert (replicas.remotes, replicas.heard) == (first, 1)
    assert [it.heard for it in first] == [heard]
    await follower.announcer.step()
    await replicas.step()
    assert [it.heard for it in replicas.remotes] == [clock.now]
    clock.now += 21.0
    await replicas.step()
    assert heard_of(replicas) == 0
    clock.now += 300.0
    await replicas.step()
    assert list(api.objects) == [f"{PLACE.folder}/smi-xds-leader"]
    assert replicas.heard == 2


async def test_who_is_gone_is_forgotten(api: FakeApi, clock: FakeClock) -> None:
    """At once, where it took its leave."""
    follower, replicas = Follower(api, clock), Replicas(api, PLACE, clock=clock)
    clock.now += 100.0
    await follower.announcer.step()
    await replicas.step()
    await follower.announcer.withdraw()
    await replicas.step()
    assert heard_of(replicas) == 0

    await follower.announcer.step()
    await replicas.step()
    assert heard_of(replicas) == 1
    replicas.begin()
    assert heard_of(replicas) == 0


async def test_answers_that_are_none(api: FakeApi, clock: FakeClock) -> None:
    """Change nothing; a lease without our annotation is of nobody's proxies."""
    replicas = Replicas(api, PLACE, clock=clock)
    name: dict[str, Any] = {"name": "x", "labels": {"smi-xds.io/replica-of": "smi-xds-leader"}}
    api.put(f"{PLACE.folder}/x", {"metadata": {**name, "annotations": None}})
    await replicas.step()
    assert [it.nodes for it in replicas.remotes] == [frozenset()]
    del api.objects[f"{PLACE.folder}/x"]["metadata"]["resourceVersion"]
    await replicas.step()

    assert heard_of(replicas) == 1
    assert ANNOTATION.startswith("smi-xds.io/")


def test_proxies_of_other_replicas_are_counted() -> None:
    """With what is said of them there; of who has moved here, what is known here counts."""
    status = Status()
    status.round_begins(1)
    status.round_published(1)
    status.settled(status.opened(Node(str(WEB_1)), is_delta=True, peer="", is_known=True))
    strangers = frozenset({ProxyId("else", "where")})
    remote = Remote(100.0, frozenset({WEB_1, WEB_2, API}) | strangers, frozenset({WEB_1, API}))
    refusing = Remote(100.0, frozenset({WEB_2}), refusing={WEB_2: "no"})

    fleet = fleet_of(mk_mesh(), status.streams.values(), [remote])
    assert fleet.tally(WEB, 1) == Tally(configured=2, connected=2, applied=2)
    assert fleet.tally(EVERYONE, 1).waiting == API
    fleet = fleet_of(mk_mesh(), status.streams.values(), [refusing])
    assert fleet.tally(WEB, 1) == Tally(
        configured=2, connected=2, applied=1, refusing=WEB_2, error="no"
    )


def test_others_are_believed_when_they_must_have_seen_it() -> None:
    """What was heard before is about what was before."""
    remote = Remote(100.0, frozenset({WEB_1, WEB_2}))
    fleet = fleet_of(mk_mesh(), (), [remote])
    single = Concern(proxies=frozenset({WEB_2}))

    assert fleet.tally(WEB, 1, since=100.0 - GRACE).applied == 2
    assert fleet.tally(WEB, 1, since=100.0).applied == 0
    assert fleet.tally(WEB, 1, since=100.0).waiting == WEB_1
    assert fleet.tally(single, 1, since=100.0) == Tally(configured=1, connected=1, waiting=WEB_2)
    assert fleet.tally(Concern(frozenset({spiffe("api", NS)})), 1, since=100.0) == Tally(
        configured=1
    )
