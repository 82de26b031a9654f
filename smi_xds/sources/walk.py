"""Finds the files of a folder that may hold objects, and says when one may have changed."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Signature:
    """What changes with every change of a file, as long as the clock ticks in between."""

    inode: tuple[int, int]
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that is there; `label` is how problems call it."""

    label: str
    path: Path
    signature: Signature


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A folder or file that is, or should be, there; what is below it is not known."""

    label: str
    path: Path
    reason: str


def walk(roots: Sequence[Path]) -> tuple[list[FoundFile], list[Unreadable]]:
    """All YAML and JSON files below some folders (or files themselves), in a stable order.

    Hidden entries are left out: editors keep their temporary files there, and a mounted ConfigMap
    its versions (each name in it is a link to the current one).
    """
    found: list[FoundFile] = []
    unreadable: list[Unreadable] = []
    visited: set[tuple[int, int]] = set()  # guards against links in a circle
    for root in roots:
        pending = [root]
        while pending:
            path = pending.pop()
            label = _label(path, root=root, alone=len(roots) == 1)
            try:
                status = path.stat()
                if stat.S_ISDIR(status.st_mode):
                    if (inode := (status.st_dev, status.st_ino)) not in visited:
                        visited.add(inode)
                        pending.extend(sorted(_entries(path), reverse=True))
                elif path == root or path.suffix in SUFFIXES:
                    if not stat.S_ISREG(status.st_mode):
                        raise OSError(None, "is not a regular file")  # noqa: TRY301
                    found.append(FoundFile(label, path, _signature(status)))
            except FileNotFoundError:
                # It vanished since its folder was read, or is a link to nothing: a file in any
                # case that is not there. Only the folder itself must be.
                if path == root:
                    unreadable.append(Unreadable(label, path, "does not exist"))
            except OSError as error:
                unreadable.append(Unreadable(label, path, (error.strerror or "").lower()))
    return found, unreadable


def _entries(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (entry.name.endswith(SUFFIXES) or entry.is_dir()):
                yield Path(entry.path)


def _label(path: Path, *, root: Path, alone: bool) -> str:
    if path == root:
        return path.name or str(path) if alone else str(path)
    # A path below is made by joining, so this is relative_to() without its price.
    return str(path)[len(str(root).rstrip("/")) + 1 :] if alone and str(root) != "." else str(path)


def _signature(status: os.stat_result) -> Signature:
    return Signature(
        inode=(status.st_dev, status.st_ino),
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
    )
