"""What the files of some folders say, through all that happens to files while they are edited.

Sync and without a clock of its own: `scan` is told the time and says when to be called again.

* A file that cannot be read or parsed, or became empty, keeps its last good objects: a Problem.
* What may be half-written is left alone until it has been quiet for SETTLE.
* What vanished (a file, or an object of one) is believed to be gone after GRACE.
* A folder that vanished keeps everything until it is back.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from smi_xds.objects.derive import derive_slices
from smi_xds.objects.kube import EndpointSlice, Pod, Service
from smi_xds.objects.parse import MeshObject
from smi_xds.problems import Problem, ProblemCode, SourceError
from smi_xds.sources.reading import Text, file_ref, read_file, unreadable
from smi_xds.sources.walk import FoundFile, Signature, Unreadable, walk
from smi_xds.values import ObjectRef

SETTLE = 0.05
"""Seconds. Who truncates and writes takes well under a millisecond between two writes."""

GRACE = 0.3
"""Seconds. An editor that moves the old file away has written the new one within milliseconds."""


@dataclass(frozen=True, slots=True)
class Contents:
    """All objects of the folders, derived EndpointSlices among them, and all problems, sorted."""

    objects: tuple[MeshObject, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class _Record:
    """What is known of one file: the signature it was last read at, what it said, what is wrong."""

    label: str
    signature: Signature | None = None
    good: Text = field(default_factory=Text)
    trouble: Problem | None = None
    unsettled: Signature | None = None
    unsettled_since: float = 0.0


class Folder:
    """The state of some folders, read as one; one writer."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = tuple(dict.fromkeys(roots))
        self._records: dict[Path, _Record] = {}
        self._unreadable: list[Unreadable] = []
        self._given: dict[ObjectRef, MeshObject] = {}
        self._leaving: dict[ObjectRef, float] = {}
        self.look_again: float | None = None
        """When to scan again although nothing happened: something is settling or leaving."""

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders (or files) that are read."""
        return self._roots

    def load(self) -> Contents:
        """Read all for the first time; SourceError where a folder is not there."""
        found, self._unreadable = walk(self._roots)
        for it in self._unreadable:
            if it.path in self._roots:
                raise SourceError(f"--files {it.path}: {it.reason}; give a folder that is there")
        for file in found:
            # Nobody is expected to write right now: nothing is taken for half-written.
            record = self._records[file.path] = _Record(file.label)
            _take(record, file, read_file(file.path, label=file.label))
        return self._give(now=0.0)

    def scan(self, *, now: float, touched: Collection[Path] = ()) -> Contents | None:
        """Look at all files; the contents where these may have changed.

        `touched` are files that are known to have been written, whatever their times say.
        """
        self.look_again = None
        found, unreadable_now = walk(self._roots)
        changed = unreadable_now != self._unreadable or bool(self._leaving)
        self._unreadable = unreadable_now
        for path in self._records.keys() - {file.path for file in found}:
            if not self._is_hidden(path):
                del self._records[path]
                changed = True
        for file in found:
            changed |= self._update(file, now=now, is_touched=file.path in touched)
        return self._give(now=now) if changed else None

    def _is_hidden(self, path: Path) -> bool:
        """Whether it may still be there: it, or a folder above it, cannot be looked at."""
        return any(path.is_relative_to(it.path) for it in self._unreadable)

    def _update(self, file: FoundFile, *, now: float, is_touched: bool) -> bool:
        record = self._records.setdefault(file.path, _Record(file.label))
        if record.signature == file.signature and not is_touched:
            return False
        read = read_file(file.path, label=file.label)
        if _may_be_half_written(read, file=file, before=record.signature):
            if record.unsettled != file.signature:
                record.unsettled, record.unsettled_since = file.signature, now
            if now < record.unsettled_since + SETTLE:
                self._wake(record.unsettled_since + SETTLE)
                return False
        _take(record, file, read)
        return True

    def _wake(self, when: float) -> None:
        self.look_again = when if self.look_again is None else min(when, self.look_again)

    def _give(self, *, now: float) -> Contents:
        problems = [unreadable(it.label, it.reason) for it in self._unreadable]
        objects = _unite(sorted(self._records.values(), key=_label), problems)
        failed = {problem.ref for problem in problems}
        leaving: dict[ObjectRef, float] = {}
        for ref in sorted(self._given.keys() - objects.keys()):
            deadline = self._leaving.get(ref, now + GRACE)
            if ref in failed:
                objects[ref] = self._given[ref]  # it is there but invalid: the last good one stays
            elif now < deadline:
                objects[ref] = self._given[ref]
                leaving[ref] = deadline
                self._wake(deadline)
        self._given, self._leaving = objects, leaving
        return Contents(
            objects=(*objects.values(), *_derive(objects.values())),
            problems=tuple(sorted(set(problems))),
        )


def _label(record: _Record) -> str:
    return record.label


def _may_be_half_written(
    read: Text | Problem, *, file: FoundFile, before: Signature | None
) -> bool:
    if before and before.inode != file.signature.inode:
        return False  # renamed into place: whole
    if isinstance(read, Problem) or read.is_empty or not read.is_whole:
        return True
    return before is not None and file.signature.size < before.size


def _take(record: _Record, file: FoundFile, read: Text | Problem) -> None:
    record.signature, record.unsettled = file.signature, None
    if isinstance(read, Problem):
        record.trouble = read
    elif read.is_empty and record.good.objects:
        record.trouble = Problem(
            ref=file_ref(file.label),
            field="",
            code=ProblemCode.UNREADABLE_FILE,
            message="has become empty; its last good objects stay",
            cure="Write its objects again, or remove the file.",
        )
    else:
        record.good, record.trouble = read, None


def _unite(records: Iterable[_Record], problems: list[Problem]) -> dict[ObjectRef, MeshObject]:
    """The objects of all files; of those that stand in two, the first counts."""
    objects: dict[ObjectRef, MeshObject] = {}
    labels: dict[ObjectRef, str] = {}
    for record in records:
        problems.extend(record.good.problems)
        if record.trouble:
            problems.append(record.trouble)
        for it in record.good.objects:
            ref = it.ref
            if ref not in objects:
                objects[ref], labels[ref] = it, record.label
                continue
            problems.append(
                Problem(
                    ref=ref,
                    field="",
                    code=ProblemCode.DUPLICATE_OBJECT,
                    message=f"stands in {labels[ref]}, which counts, and again in {record.label}",
                    cure="Remove one of them.",
                )
            )
    return objects


def _derive(objects: Iterable[MeshObject]) -> tuple[EndpointSlice, ...]:
    """Slices for the services that have none of their own."""
    given = {it.owner for it in objects if isinstance(it, EndpointSlice)}
    return derive_slices(
        [it for it in objects if isinstance(it, Service) and it.service not in given],
        [it for it in objects if isinstance(it, Pod)],
    )
