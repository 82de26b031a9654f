"""What is to be written to which object, and when: the state of the one who writes, without I/O.

A write changes an object's resourceVersion, and makes the next PUT of who read it before fail:
Flagger, for one, does not try again. So each change of a spec is answered once, when it has been
left alone for a while and the proxies have answered, and words alone are changed rarely.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from smi_xds.mesh.model import Mesh
from smi_xds.objects.smi import SmiObject
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.objects.views import Objects
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ProxyId, ServiceRef
from smi_xds.writeback.concern import Concerns, smi_objects
from smi_xds.writeback.conditions import (
    PENDING,
    Conditions,
    Tally,
    Truth,
    Type,
    conditions_of,
    is_told,
    is_told_in_essence,
)
from smi_xds.writeback.tally import Fleet

# Seconds after a change of a spec was seen in which its object is not touched: writers that read
# an object and put it back do so within two.
QUIET: Final = 2.5
# Seconds for which a proxy may owe an answer before it is told.
PATIENCE: Final = 10.0
# Seconds for which what proxies have must stay as it is before it is told, where the object itself
# did not change: pods come and go, and servers are started anew.
SETTLE: Final = 10.0
# Seconds between two writes of which the second changes words alone: a rollout of a hundred pods
# is no hundred writes to each object.
WORDS: Final = 60.0
# Seconds between tries of what is refused, growing.
FIRST_RETRY, LONGEST_RETRY = 1.0, 300.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the API server has of an object."""

    uid: str
    generation: int
    status: Mapping[str, Any] | None = None

    @property
    def conditions(self) -> Sequence[Mapping[str, Any]]:
        """The conditions in its status, whoever wrote them."""
        found = (self.status or {}).get("conditions")
        return [it for it in found if isinstance(it, dict)] if isinstance(found, list) else []

    def is_about(self, generation: int) -> bool:
        """Whether something was said of this generation."""
        return any(it.get("observedGeneration") == generation for it in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is looked at: a mesh, the number of the round that brought it, and its proxies."""

    mesh: Mesh
    round: int
    fleet: Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What one object is to say; `told` None where it has to be read before."""

    ref: ObjectRef
    uid: str
    generation: int
    conditions: Conditions
    told: Told | None


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One object: what is known of it, what it is to say, and when that may be written."""

    uid: str
    generation: int
    since: float
    """When this generation was first seen."""
    round: int
    """The round that brought it, or a later one."""
    asked: float
    """When other replicas are asked from, who may not have seen this generation before."""
    told: Told | None
    is_read: bool = True
    """Whether this generation could be parsed."""
    must_read: bool = False
    """Whether the API server has to be asked what it has before anything is written."""
    is_dropped: bool = False
    """It was not found when it was to be written."""
    problems: tuple[Problem, ...] = ()
    reported: frozenset[Problem] = frozenset()
    """The problems that the object, or an event, told of."""
    wanted: Conditions = ()
    changed: float = 0.0
    """When what is to be said last changed."""
    worded: float = 0.0
    """When its words did."""
    written: float = -math.inf
    tried: float = -math.inf
    failures: int = 0
    due: float | None = None
    """When to write; None where there is nothing to write."""
    seen: int = 0
    """The look at which it was last there."""


@dataclass(slots=True)
class Desk:
    """What there is to write for one leader, from when it became one."""

    news: dict[Problem, str] = field(default_factory=dict)
    """Problems to tell in events, with the uid of their object."""
    unchanged: int = 0
    """How often what was to be said was said already."""
    _entries: dict[ObjectRef, _Entry] = field(default_factory=dict)
    _told: Mapping[ObjectRef, Told] = field(default_factory=dict)
    _unknown: frozenset[str] = frozenset()
    """Kinds of which it is not known what they say."""
    _others: Mapping[Problem, str] = field(default_factory=dict)
    _fresh: dict[Problem, float] = field(default_factory=dict)
    _looks: int = 0

    # ------------------------------------------------------------------ what is

    def take(self, told: Mapping[ObjectRef, Told], *, unknown: Collection[str] = ()) -> None:
        """Take what all objects say; where somebody changed that, it is put right.

        Of kinds that are `unknown`, each object has to be read before it is written.
        """
        self._told, self._unknown = told, frozenset(unknown)
        for ref, entry in self._entries.items():
            found = told.get(ref)
            if found is not None and (entry.is_dropped or found != entry.told):
                entry.told, entry.must_read, entry.is_dropped = found, False, False
                entry.wanted = ()  # so that the next look plans anew
                if not entry.is_read and found.uid == entry.uid:
                    entry.generation = found.generation

    def look(self, sight: Sight, now: float) -> Iterator[None]:
        """Compare what objects say with what is; yields after each object, to be interrupted."""
        self._looks += 1
        objects, concerns = sight.mesh.objects, Concerns(sight.mesh)
        assert objects is not None, "a mesh that was built of objects"
        problems = _by_object(sight.mesh.problems)
        unread = _by_object(it for it in objects.problems if _is_unread(it))
        for it in smi_objects(objects):
            if it.uid:
                entry = self._entry(it, sight, now)
                if it.ref in unread:
                    self._see_unread(entry, tuple(unread.pop(it.ref)), now)
                else:
                    entry.is_read = True
                    tally = sight.fleet.tally(concerns.of(it), entry.round, since=entry.asked)
                    found = tuple(problems.get(it.ref, ()))
                    wanted = conditions_of(it.generation, found, tally, namespace=it.namespace)
                    self._see(entry, found, wanted, now)
            yield
        for ref, refused in unread.items():
            known = self._entries.get(ref) or self._enter(ref, "", 0, sight, now)
            self._see_unread(known, tuple(refused), now)
            yield
        self._entries = {r: it for r, it in self._entries.items() if it.seen == self._looks}
        self._see_others(objects, problems, now)

    def _entry(self, it: SmiObject, sight: Sight, now: float) -> _Entry:
        entry = self._entries.get(it.ref)
        if entry is None or entry.uid != it.uid:
            entry = self._enter(it.ref, it.uid, it.generation, sight, now)
        elif entry.generation != it.generation:
            entry.generation, entry.since, entry.round = it.generation, now, sight.round
            entry.asked = now
            entry.failures = 0
        return entry

    def _enter(self, ref: ObjectRef, uid: str, generation: int, sight: Sight, now: float) -> _Entry:
        told = self._told.get(ref)
        if told is not None and uid and told.uid != uid:
            told = None
        entry = self._entries[ref] = _Entry(
            uid=uid,
            generation=generation,
            since=now,
            round=sight.round,
            # What a leader before us told of it, all had seen by then.
            asked=-math.inf if told is not None and told.is_about(generation) else now,
            told=told,
            must_read=ref.kind in self._unknown,
        )
        return entry

    def _see_unread(self, entry: _Entry, problems: tuple[Problem, ...], now: float) -> None:
        """Which generation that is, the API server has to say."""
        if entry.is_read or entry.problems != problems:
            entry.is_read, entry.must_read, entry.since = False, True, now
        self._see(entry, problems, _unread_conditions(entry.generation, problems), now)

    def _see(
        self, entry: _Entry, problems: tuple[Problem, ...], wanted: Conditions, now: float
    ) -> None:
        entry.seen = self._looks
        entry.problems = problems
        if entry.wanted == wanted:
            return
        if [it.essence for it in entry.wanted] != [it.essence for it in wanted]:
            entry.changed = now
        entry.wanted, entry.worded = wanted, now
        self._plan(entry)

    def _see_others(
        self, objects: Objects, problems: Mapping[ObjectRef, Sequence[Problem]], now: float
    ) -> None:
        """Problems of pods and services: they have no conditions of ours, and get events."""
        there = {
            problem: uid
            for ref, found in problems.items()
            if (uid := _uid(objects, ref))
            for problem in found
        }
        self._fresh = {it: at for it, at in self._fresh.items() if it in there}
        self._fresh.update(dict.fromkeys(there.keys() - self._others.keys(), now))
        self._others = there

    def ripen(self, now: float) -> None:
        """Pick out the problems that have lasted long enough to be told."""
        for problem in [it for it, at in self._fresh.items() if now - at >= QUIET]:
            del self._fresh[problem]
            self.news[problem] = self._others[problem]

    # ------------------------------------------------------------------ what is to be written

    def _plan(self, entry: _Entry) -> None:
        told = entry.told.conditions if entry.told is not None else ()
        if not entry.must_read and is_told(entry.wanted, told):
            self._settled(entry)
            return
        entry.due = max(entry.since + QUIET, self._ripe(entry, told), _retry(entry))

    def _ripe(self, entry: _Entry, told: Sequence[Mapping[str, Any]]) -> float:
        wanted = entry.wanted
        programmed = next(it for it in wanted if it.type is Type.PROGRAMMED)
        if programmed.reason == PENDING:
            return entry.changed + PATIENCE
        if is_told_in_essence(wanted, told):
            return max(entry.worded + SETTLE, entry.written + WORDS)
        others = tuple(it for it in wanted if it is not programmed)
        if programmed.status is not Truth.TRUE and is_told_in_essence(others, told):
            return entry.changed + SETTLE
        return entry.changed + QUIET

    def _settled(self, entry: _Entry) -> None:
        """It says what it is to say, whoever wrote it: a leader before us, for instance."""
        entry.due = None
        entry.reported = frozenset(entry.problems)
        self.unchanged += 1

    def due(self, now: float) -> list[ObjectRef]:
        """The objects to write now, the one that waits for the longest time first."""
        found = [
            (entry.due, ref)
            for ref, entry in self._entries.items()
            if entry.due is not None and entry.due <= now
        ]
        return [ref for _, ref in sorted(found)]

    @property
    def queue(self) -> int:
        """How many objects are to be written, now or soon."""
        return sum(entry.due is not None for entry in self._entries.values())

    def draft(self, ref: ObjectRef, now: float) -> Draft | None:
        """What to write to it now, if anything."""
        entry = self._entries.get(ref)
        if entry is None or entry.due is None or entry.due > now:
            return None
        told = entry.told or Told(entry.uid, entry.generation)
        return Draft(
            ref=ref,
            uid=entry.uid,
            generation=entry.generation,
            conditions=entry.wanted,
            told=None if entry.must_read else told,
        )

    # ------------------------------------------------------------------ what came of it

    def found(self, ref: ObjectRef, told: Told) -> None:
        """It was read, as `draft` asked for."""
        entry = self._entries.get(ref)
        if entry is None:
            return
        entry.told, entry.must_read = told, False
        if not entry.is_read and entry.uid in ("", told.uid):
            entry.uid, entry.generation = told.uid, told.generation
            entry.wanted = _unread_conditions(told.generation, entry.problems)
            self._plan(entry)
        elif (entry.uid, entry.generation) == (told.uid, told.generation):
            self._plan(entry)
        else:
            # It is another one by now: the watch will say so, and then it is left alone at first.
            entry.due = None

    def written(self, ref: ObjectRef, told: Told, now: float) -> None:
        """It says now what it was to say."""
        entry = self._entries.get(ref)
        if entry is None:
            return
        entry.told, entry.written, entry.failures = told, now, 0
        self._report(entry)
        self._plan(entry)

    def unsure(self, ref: ObjectRef, now: float) -> None:
        """It is not what it was taken for: read it before the next try, later each time."""
        if (entry := self._entries.get(ref)) is not None:
            entry.must_read = True
            self.retry(ref, now)

    def retry(self, ref: ObjectRef, now: float) -> None:
        """It could not be written, others perhaps can: it is tried again, later each time."""
        if (entry := self._entries.get(ref)) is not None:
            entry.failures += 1
            entry.tried = now
            entry.due = _retry(entry)

    def put_off(self, ref: ObjectRef, until: float) -> None:
        """It cannot be written for now."""
        if (entry := self._entries.get(ref)) is not None:
            entry.due = until

    def drop(self, ref: ObjectRef) -> None:
        """It is gone: nothing is to be written until it changes, or is listed again."""
        if (entry := self._entries.get(ref)) is not None:
            entry.due, entry.is_dropped = None, True

    def report(self, ref: ObjectRef) -> None:
        """Tell of its problems in events alone."""
        if (entry := self._entries.get(ref)) is not None:
            self._report(entry)

    def _report(self, entry: _Entry) -> None:
        for problem in entry.problems:
            if problem not in entry.reported:
                self.news[problem] = entry.uid
        entry.reported = frozenset(entry.problems)


def _retry(entry: _Entry) -> float:
    if not entry.failures:
        return 0.0
    return entry.tried + min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(entry.failures - 1, 10))


def _unread_conditions(generation: int, problems: Sequence[Problem]) -> Conditions:
    return conditions_of(generation, problems, Tally(), namespace="", is_read=False)


def _is_unread(problem: Problem) -> bool:
    """Whether it says that an object of ours could not be parsed."""
    return problem.code is not ProblemCode.DUPLICATE_OBJECT and problem.ref.kind in SMI_KINDS


def _uid(objects: Objects, ref: ObjectRef) -> str:
    """Of an object that gets events alone; empty where it gets none."""
    if ref.kind == "Pod":
        pod = objects.pods.get(ProxyId(ref.namespace, ref.name))
        return pod.pod.uid if pod is not None else ""
    if ref.kind == "Service":
        service = objects.services.get(ServiceRef(ref.namespace, ref.name))
        return service.service.uid if service is not None else ""
    return ""


def _by_object(problems: Iterable[Problem]) -> dict[ObjectRef, list[Problem]]:
    found: dict[ObjectRef, list[Problem]] = defaultdict(list)
    for problem in problems:
        found[problem.ref].append(problem)
    return dict(found)
