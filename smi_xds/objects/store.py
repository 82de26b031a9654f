"""The store: events of all sources in, one frozen picture out. One writer, no clock, no I/O.

Each source owns what it said. An object that two sources give is taken from the one that stands
first in the store's list, whatever came first in time. An object that cannot be read keeps its
last good version for as long as its source still has it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeAlias, assert_never

from smi_xds.objects.groups import Groups
from smi_xds.objects.parse import MeshObject
from smi_xds.objects.views import Objects
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Who says it: a source, and the part of it that lists and reports on its own (a kind)."""

    source: str
    part: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """An object is there, in this state."""

    object: MeshObject


@dataclass(frozen=True, slots=True)
class Failed:
    """An object is there, but cannot be read; its last good version stays."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object is gone."""

    ref: ObjectRef


@dataclass(frozen=True, slots=True)
class Replaced:
    """All that this origin has. Objects that a problem names keep their last good version."""

    objects: tuple[MeshObject, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Reported:
    """How the origin itself fares (away, forbidden, …): takes the place of its last report."""

    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Synced:
    """The source has said all that it has, at least once."""


Event: TypeAlias = Applied | Failed | Deleted | Replaced | Reported | Synced


class Sink(Protocol):
    """Where a source's events go; those of one call take effect together."""

    def apply(self, origin: Origin, events: Sequence[Event], /) -> None: ...


class Source(Protocol):
    """Something that turns the outside into events."""

    @property
    def name(self) -> str:
        """How `Origin.source` and the list given to the store call it."""

    async def run(self, sink: Sink) -> NoReturn:
        """Say everything once, then `Synced`, then every change; SourceError where it cannot."""


class _Holding:
    """What one origin has said."""

    def __init__(self) -> None:
        self.objects: dict[ObjectRef, MeshObject] = {}
        self.failed: dict[ObjectRef, tuple[Problem, ...]] = {}
        self.reported: tuple[Problem, ...] = ()


class Store:
    """Takes events, gives pictures."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._ranks = {source: rank for rank, source in enumerate(sources)}
        self._waiting = set(self._ranks)
        self._holdings: dict[Origin, _Holding] = {}
        self._effective: dict[ObjectRef, MeshObject] = {}
        self._duplicates: dict[ObjectRef, tuple[Problem, ...]] = {}
        self._groups = Groups()
        self._picture: Objects | None = None
        self._problems: tuple[Problem, ...] | None = ()

    @property
    def synced(self) -> bool:
        """Whether every source has said all that it has."""
        return not self._waiting

    def apply(self, origin: Origin, event: Event) -> bool:
        """Take one event; whether it changed the picture."""
        holding = self._holding(origin)
        match event:
            case Applied(it):
                changed = self._fail(holding, it.ref, ()) | self._put(holding, it)
            case Failed(problem):
                changed = self._fail(holding, problem.ref, (problem,))
            case Deleted(ref):
                changed = self._fail(holding, ref, ()) | self._drop(holding, ref)
            case Replaced(objects, problems):
                changed = self._replace(holding, objects, problems)
            case Reported(problems):
                changed = self._report(holding, problems)
            case Synced():
                self._waiting.discard(origin.source)
                changed = False
            case never:
                assert_never(never)
        if changed:
            self._picture = None
        return changed

    def objects(self) -> Objects:
        """The picture; the very same object while nothing changes."""
        if self._picture is None:
            self._picture = self._groups.picture(self._all_problems())
        return self._picture

    def find(self, ref: ObjectRef) -> MeshObject | None:
        """One object as it is at this moment, without a picture of all."""
        return self._effective.get(ref)

    def _holding(self, origin: Origin) -> _Holding:
        holding = self._holdings.get(origin)
        if holding is None:
            if origin.source not in self._ranks:
                raise ValueError(f"the store knows no source {origin.source!r}")
            self._holdings[origin] = holding = _Holding()
            order = sorted(self._holdings, key=lambda o: (self._ranks[o.source], o.part))
            self._holdings = {o: self._holdings[o] for o in order}
        return holding

    def _put(self, holding: _Holding, it: MeshObject) -> bool:
        old = holding.objects.get(it.ref)
        if old is it or old == it:  # an equal object is no event: the old one stays
            return False
        holding.objects[it.ref] = it
        return self._settle(it.ref)

    def _drop(self, holding: _Holding, ref: ObjectRef) -> bool:
        if holding.objects.pop(ref, None) is None:
            return False
        return self._settle(ref)

    def _fail(self, holding: _Holding, ref: ObjectRef, problems: tuple[Problem, ...]) -> bool:
        if holding.failed.get(ref, ()) == problems:
            return False
        if problems:
            holding.failed[ref] = problems
        else:
            del holding.failed[ref]
        self._problems = None
        return True

    def _report(self, holding: _Holding, problems: tuple[Problem, ...]) -> bool:
        if holding.reported == problems:
            return False
        holding.reported = problems
        self._problems = None
        return True

    def _replace(
        self, holding: _Holding, objects: tuple[MeshObject, ...], problems: tuple[Problem, ...]
    ) -> bool:
        failed: dict[ObjectRef, tuple[Problem, ...]] = {}
        for problem in problems:
            failed[problem.ref] = (*failed.get(problem.ref, ()), problem)
        changed = failed != holding.failed
        if changed:
            holding.failed = failed
            self._problems = None
        gone = holding.objects.keys() - {it.ref for it in objects} - failed.keys()
        for it in objects:
            changed |= self._put(holding, it)
        for ref in gone:
            changed |= self._drop(holding, ref)
        return changed

    def _settle(self, ref: ObjectRef) -> bool:
        """Decide anew which origin's object counts."""
        holders = [o for o, holding in self._holdings.items() if ref in holding.objects]
        changed = self._tell_duplicates(ref, holders)
        old = self._effective.get(ref)
        new = self._holdings[holders[0]].objects[ref] if holders else None
        if old is new or old == new:
            return changed
        if new is None:
            del self._effective[ref]
        else:
            self._effective[ref] = new
        self._groups.replace(old, new)
        return True

    def _tell_duplicates(self, ref: ObjectRef, holders: list[Origin]) -> bool:
        problems = tuple(
            Problem(
                ref=ref,
                field="",
                code=ProblemCode.DUPLICATE_OBJECT,
                message=f"{loser.source} gives it too; the one of {holders[0].source} counts",
                cure="Remove one of them.",
            )
            for loser in holders[1:]
        )
        if self._duplicates.get(ref, ()) == problems:
            return False
        if problems:
            self._duplicates[ref] = problems
        else:
            del self._duplicates[ref]
        self._problems = None
        return True

    def _all_problems(self) -> tuple[Problem, ...]:
        if self._problems is None:
            found = set().union(*self._duplicates.values())
            for holding in self._holdings.values():
                found.update(holding.reported, *holding.failed.values())
            self._problems = tuple(sorted(found))
        return self._problems
