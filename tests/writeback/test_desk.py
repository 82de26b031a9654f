"""What is to be written, and when."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.smi import TrafficSplit
from smi_xds.objects.store import Applied, Failed, Origin, Replaced, Store
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ProxyId
from smi_xds.writeback.concern import Concern
from smi_xds.writeback.conditions import Tally, conditions_of, merged
from smi_xds.writeback.desk import PATIENCE, QUIET, SETTLE, WORDS, Desk, Draft, Sight, Told
from smi_xds.writeback.tally import Fleet
from tests.support.objects import mk_pod, mk_port, mk_service, mk_split, with_slices

SPLIT = replace(mk_split("web", "web", {"web": 1}), uid="u-1", generation=1)
REF = SPLIT.ref
WELL = Tally(configured=1, connected=1, applied=1)
PENDING = Tally(configured=1, connected=1, waiting=ProxyId("shop", "a"))
NOW = "2027-01-15T08:00:00Z"


class FakeFleet(Fleet):
    """Everyone says the same of each object."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(workloads={}, configured={})
        object.__setattr__(self, "said", tally)

    said: Tally
    __slots__ = ("said",)

    def tally(self, concern: Concern, number: int, *, since: float = 0.0) -> Tally:
        return self.said


class Office:
    """A desk, a store of objects, and a clock."""

    def __init__(self, *objects: MeshObject) -> None:
        self.desk = Desk()
        self.now = 100.0
        self.tally = WELL
        self.store = Store(["test"])
        self.origin = Origin("test")
        self.build = MeshBuilder(MeshSettings())
        self.store.apply(self.origin, Replaced(with_slices([mk_service("web"), *objects])))
        self.round = 1

    def apply(self, it: MeshObject) -> None:
        self.store.apply(self.origin, Applied(it))
        self.round += 1

    def mesh(self) -> Mesh:
        return self.build(self.store.objects())

    def look(self, *, after: float = 0.0) -> list[ObjectRef]:
        """Look after some time; what is due then."""
        self.now += after
        sight = Sight(mesh=self.mesh(), round=self.round, fleet=FakeFleet(self.tally))
        for _ in self.desk.look(sight, self.now):
            pass
        self.desk.ripen(self.now)
        return self.desk.due(self.now)

    def wait(self, seconds: float) -> list[ObjectRef]:
        self.now += seconds
        return self.desk.due(self.now)

    def draft(self, ref: ObjectRef = REF) -> Draft:
        draft = self.desk.draft(ref, self.now)
        assert draft is not None
        return draft

    def write(self, ref: ObjectRef = REF) -> Told:
        """Write what is due, as the API server would take it."""
        draft = self.draft(ref)
        told = draft.told or Told(draft.uid, draft.generation)
        status = {"conditions": merged(draft.conditions, told.conditions, now=NOW)}
        written = Told(draft.uid, draft.generation, status)
        self.desk.written(ref, written, self.now)
        return written


def told_of(split: TrafficSplit, tally: Tally = WELL, problems: Iterable[Problem] = ()) -> Told:
    conditions = conditions_of(split.generation, tuple(problems), tally, namespace=split.namespace)
    return Told(split.uid, split.generation, {"conditions": merged(conditions, (), now=NOW)})


def mk_problem(message: str = "bad", ref: ObjectRef = REF) -> Problem:
    return Problem(ref, "spec", ProblemCode.INVALID_OBJECT, message, "Mend it.")


def again(split: TrafficSplit, generation: int) -> TrafficSplit:
    return replace(split, generation=generation)


def test_a_new_object_is_written_once_and_not_at_once() -> None:
    """Never within two seconds of a change of its spec, and never again for nothing."""
    office = Office(SPLIT)
    at_once = office.look()
    early = office.wait(2.0)
    due = office.wait(QUIET - 2.0)
    draft = office.draft()
    office.write()

    assert (at_once, early, due) == ([], [], [REF])
    assert (draft.uid, draft.generation, draft.told) == ("u-1", 1, Told("u-1", 1))
    assert office.desk.queue == 0
    assert office.look(after=1000.0) == []
    assert office.desk.draft(REF, office.now) is None


def test_every_change_of_the_spec_puts_it_off() -> None:
    """Whoever writes each second is not disturbed."""
    office = Office(SPLIT)
    office.look()
    for generation in (2, 3, 4):
        office.apply(again(SPLIT, generation))
        assert office.look(after=1.5) == []
    assert office.wait(QUIET - 0.1) == []
    assert office.wait(0.1) == [REF]
    assert office.draft().generation == 4


def test_what_a_leader_before_us_wrote_is_not_written_again() -> None:
    """And its problems are not told in events again."""
    office = Office(SPLIT)
    office.desk.take({REF: told_of(SPLIT)})
    office.look()

    assert office.desk.queue == 0
    assert office.desk.unchanged == 1
    assert office.desk.news == {}


def test_an_object_made_anew_is_another_one() -> None:
    """Even with the same generation and content: what was told of the old one is gone with it."""
    office = Office(SPLIT)
    office.desk.take({REF: told_of(SPLIT)})
    office.look()
    office.apply(replace(SPLIT, uid="u-2"))
    office.look(after=1.0)

    assert office.wait(QUIET) == [REF]
    assert office.draft().told == Told("u-2", 1)


def test_files_are_not_written_to() -> None:
    """They have no uid."""
    office = Office(replace(SPLIT, uid=""))

    assert office.look() == office.look(after=100.0) == []
    assert office.desk.queue == 0


def test_objects_that_go_are_forgotten() -> None:
    """With what was to be written to them."""
    office = Office(SPLIT)
    office.look()
    office.store.apply(office.origin, Replaced(()))

    assert office.look(after=10.0) == []
    for act in (office.desk.unsure, office.desk.retry):
        act(REF, office.now)
    office.desk.put_off(REF, 0.0)
    office.desk.drop(REF)
    office.desk.report(REF)
    office.desk.found(REF, Told("u-1", 1))
    office.desk.written(REF, Told("u-1", 1), 0.0)
    assert office.desk.queue == 0


def test_proxies_have_time_to_answer() -> None:
    """What they owe is told after a while only, and what they gave at once."""
    office = Office(SPLIT)
    office.tally = PENDING
    office.look()
    assert office.wait(QUIET) == []
    office.tally = WELL
    office.look(after=0.5)
    assert office.wait(QUIET) == [REF]

    late = Office(SPLIT)
    late.tally = PENDING
    late.look()
    assert late.wait(PATIENCE - 0.1) == []
    assert late.wait(0.1) == [REF]
    late.write()
    late.tally = WELL
    late.look(after=1.0)
    # That it is well now is good news.
    assert late.wait(QUIET) == [REF]


def test_proxies_that_leave_are_told_when_they_stay_away() -> None:
    """A server that was started anew has none at first."""
    office = Office(SPLIT)
    office.desk.take({REF: told_of(SPLIT)})
    office.tally = Tally(configured=1)
    office.look()

    assert office.wait(SETTLE - 0.1) == []
    office.tally = WELL
    assert office.look(after=1.0) == []
    assert office.desk.queue == 0
    office.tally = Tally(configured=1)
    office.look(after=1.0)
    assert office.wait(SETTLE) == [REF]


def test_words_alone_are_changed_rarely() -> None:
    """Not while they go on changing, and not more than once a minute."""
    office = Office(SPLIT)
    office.look()
    office.wait(QUIET)
    office.write()
    for number in range(2, 30):
        office.tally = Tally(configured=number, connected=number, applied=number)
        assert office.look(after=5.0) == []
    assert office.wait(SETTLE) == [REF]
    office.write()
    office.tally = WELL
    office.look(after=1.0)
    assert office.wait(WORDS - 2.0) == []
    assert office.wait(1.0) == [REF]


def test_problems_that_come_are_told_in_conditions_and_events() -> None:
    """Events when the condition is written: what lasts for a moment is told in neither."""
    broken = replace(mk_split("web", "web", {"web": 1, "gone": 1}), uid="u-1", generation=2)
    office = Office(SPLIT)
    office.look()
    office.wait(QUIET)
    office.write()
    office.apply(broken)
    office.look(after=1.0)
    before = dict(office.desk.news)
    office.wait(QUIET)
    office.write()

    assert before == {}
    assert [(it.code, uid) for it, uid in office.desk.news.items()] == [
        (ProblemCode.MISSING_BACKEND, "u-1")
    ]
    office.desk.news.clear()
    # The name comes to exist: soon, as nobody changed the object.
    office.apply(mk_service("gone"))
    office.look(after=1.0)
    assert office.wait(QUIET) == [REF]
    office.write()
    assert office.desk.news == {}
    office.store.apply(office.origin, Replaced(with_slices([mk_service("web"), broken])))
    office.look(after=1.0)
    office.wait(QUIET)
    office.write()
    assert len(office.desk.news) == 1


def test_an_object_that_cannot_be_read_is_asked_for() -> None:
    """The API server says which generation that is, and what it says of it already."""
    office = Office(SPLIT)
    office.look()
    office.wait(QUIET)
    office.write()
    office.store.apply(office.origin, Failed(mk_problem()))
    office.look(after=1.0)
    assert office.wait(QUIET) == [REF]
    assert office.draft().told is None

    office.desk.found(REF, replace(told_of(SPLIT), generation=2))
    draft = office.draft()
    assert (draft.uid, draft.generation) == ("u-1", 2)
    assert [it.reason for it in draft.conditions] == [
        "InvalidObject",
        "ResolvedRefs",
        "InvalidObject",
    ]
    assert {it.generation for it in draft.conditions} == {2}
    office.write()
    assert office.look(after=100.0) == []
    # It is mended.
    office.apply(again(SPLIT, 3))
    office.look(after=1.0)
    assert office.wait(QUIET) == [REF]
    assert office.draft().generation == 3


def test_what_could_never_be_read() -> None:
    """There is no object, only its name; a file of that name is none of the API server's."""
    office = Office()
    office.store.apply(office.origin, Failed(mk_problem()))
    office.look()
    assert office.wait(QUIET) == [REF]
    office.desk.drop(REF)
    assert office.look(after=100.0) == []

    office.store.apply(office.origin, Failed(mk_problem("worse")))
    office.look(after=1.0)
    assert office.wait(QUIET) == [REF]
    office.desk.found(REF, Told("u-9", 4))
    assert office.draft().uid == "u-9"
    office.write()
    assert [(it.message, uid) for it, uid in office.desk.news.items()] == [("worse", "u-9")]
    # Written again, as wrong as before: the list tells.
    office.desk.take({REF: Told("u-9", 5)})
    office.look(after=1.0)
    assert office.wait(QUIET) == [REF]
    assert office.draft().generation == 5


def test_what_is_another_object_by_now_is_left_alone() -> None:
    """Until the watch says so."""
    office = Office(SPLIT)
    office.look()
    office.wait(QUIET)
    office.desk.unsure(REF, office.now)
    assert office.wait(1.0) == [REF]
    assert office.draft().told is None
    office.desk.found(REF, Told("u-1", 2))

    assert office.desk.queue == 0
    assert office.look(after=100.0) == []
    office.apply(again(SPLIT, 2))
    office.look(after=1.0)
    assert office.wait(QUIET) == [REF]


def test_what_was_read_may_be_right() -> None:
    """As a write whose answer was lost had its effect."""
    office = Office(SPLIT)
    office.look()
    office.wait(QUIET)
    office.desk.unsure(REF, office.now)
    office.wait(1.0)
    office.desk.found(REF, told_of(SPLIT))

    assert office.desk.queue == 0
    # Or wrong, by somebody else's hand.
    other = Office(SPLIT)
    other.look()
    other.wait(QUIET)
    other.desk.unsure(REF, other.now)
    other.wait(1.0)
    foreign = Told("u-1", 1, {"conditions": [{"type": "Ready"}, 7], "more": True})
    other.desk.found(REF, foreign)
    assert other.draft().told == foreign
    assert foreign.conditions == [{"type": "Ready"}]


def test_tries_become_rare() -> None:
    """From one second to five minutes; a change of the spec begins anew."""
    office = Office(SPLIT)
    office.look()
    office.wait(QUIET)
    for _ in range(12):
        office.desk.retry(REF, office.now)
    assert office.wait(299.0) == []
    assert office.wait(1.0) == [REF]
    office.desk.retry(REF, office.now)
    office.apply(again(SPLIT, 2))
    office.look(after=1.0)
    assert office.wait(QUIET) == [REF]


def test_what_somebody_else_changed_is_put_right() -> None:
    """Found when all is listed again."""
    office = Office(SPLIT)
    office.look()
    office.wait(QUIET)
    written = office.write()
    office.desk.take({REF: written})
    assert office.look(after=1.0) == []
    assert office.desk.queue == 0
    office.desk.take({REF: Told("u-1", 1, {"conditions": None})})
    office.look(after=1.0)

    assert office.wait(QUIET) == [REF]
    office.desk.put_off(REF, office.now + 60.0)
    assert (office.wait(59.0), office.wait(1.0)) == ([], [REF])


def test_the_one_that_waits_longest_is_first() -> None:
    """Of those that are due."""
    later = replace(SPLIT, name="later", service="other", uid="u-2")
    office = Office(SPLIT)
    office.look()
    office.apply(later)
    office.look(after=1.0)

    assert office.wait(QUIET) == [REF, later.ref]


@pytest.mark.parametrize("kind", ["Pod", "Service"])
def test_problems_of_pods_and_services_are_told_in_events(kind: str) -> None:
    """Once, when they have lasted for a moment; they have no conditions of ours."""
    pods: dict[str, Any] = {
        "Pod": replace(mk_pod("p", sidecar="nonsense"), uid="u-p"),
        "Service": replace(mk_service("p", mk_port(80, "x", target="nowhere")), uid="u-p"),
    }
    backing = () if kind == "Pod" else (replace(mk_pod("p"), uid="u-q"),)
    office = Office(pods[kind], *backing)
    office.look()
    assert office.desk.news == {}
    office.look(after=QUIET)
    news = dict(office.desk.news)
    office.desk.news.clear()
    office.look(after=100.0)

    assert {(it.ref.kind, uid) for it, uid in news.items()} == {(kind, "u-p")}
    assert office.desk.news == {}


def test_problems_of_who_is_not_in_the_api_server_are_not_told() -> None:
    """There is nobody to tell."""
    office = Office(mk_pod("p", sidecar="nonsense"))
    ghost = mk_problem(ref=ObjectRef("Pod", "shop", "ghost"))
    lost = mk_problem(ref=ObjectRef("Service", "shop", "ghost"))
    for problem in (ghost, lost, mk_problem(ref=ObjectRef("Namespace", "", "shop"))):
        office.store.apply(office.origin, Failed(problem))
    office.look()
    office.look(after=100.0)

    assert office.desk.news == {}


def test_events_alone_where_no_status_is_kept() -> None:
    """By CRDs of others."""
    office = Office(replace(mk_split("web", "web", {"gone": 1}), uid="u-1", generation=1))
    office.look()
    office.wait(QUIET)
    office.desk.report(REF)
    office.desk.report(REF)

    assert [it.code for it in office.desk.news] == [ProblemCode.MISSING_BACKEND]
