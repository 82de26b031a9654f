"""Reads one file of objects: its bytes, its documents, and what the user did wrong in them."""

from dataclasses import dataclass, replace
from pathlib import Path

from smi_xds.objects.parse import MeshObject, Parsed, Refused, parse_all
from smi_xds.problems import Problem, ProblemCode
from smi_xds.sources.yaml_documents import (
    MAX_DOCUMENTS,
    Document,
    SyntaxProblem,
    read_json,
    read_yaml,
)
from smi_xds.values import ObjectRef

# An object in etcd is at most 1.5 MiB; a file of this size takes some seconds to read.
MAX_SIZE = 8 * 1024 * 1024

_LAST_GOOD = "Until then its last good objects stay."


@dataclass(frozen=True, slots=True)
class Text:
    """What a file says."""

    objects: tuple[MeshObject, ...] = ()
    problems: tuple[Problem, ...] = ()
    is_empty: bool = False
    is_whole: bool = True
    """Whether it ends as whole files do; one that is just being written mostly does not."""


def file_ref(label: str) -> ObjectRef:
    """How problems name a file."""
    return ObjectRef("File", "", label)


def unreadable(label: str, reason: str) -> Problem:
    """The problem of a file or folder that cannot be read."""
    return Problem(
        ref=file_ref(label),
        field="",
        code=ProblemCode.UNREADABLE_FILE,
        message=reason,
        cure=f"Make it readable, or remove it. {_LAST_GOOD}",
    )


def read_file(path: Path, *, label: str) -> Text | Problem:
    """Read a file; a Problem where it cannot be read or parsed as a whole."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_SIZE + 1)
    except OSError as error:
        return unreadable(label, (error.strerror or str(error)).lower())
    if len(raw) > MAX_SIZE:
        return unreadable(label, f"is larger than {MAX_SIZE // 2**20} MiB; split it")
    return parse_file(raw, label=label)


def parse_file(raw: bytes, *, label: str) -> Text | Problem:
    """Parse the bytes of a file, by the suffix of its name."""
    is_json = label.endswith(".json")
    try:
        text = raw.decode("utf-8-sig")
        documents = read_json(text) if is_json else read_yaml(text)
    except (UnicodeDecodeError, SyntaxProblem) as error:
        is_text = isinstance(error, SyntaxProblem)
        return Problem(
            ref=file_ref(label),
            field="",
            code=ProblemCode.INVALID_YAML,
            message=str(error) if is_text else "is not encoded in UTF-8",
            cure=f"Correct it. {_LAST_GOOD}",
        )
    return _text_from(documents, label=label, is_whole=is_json or text.endswith("\n"))


def _text_from(documents: list[Document], *, label: str, is_whole: bool) -> Text | Problem:
    objects: list[MeshObject] = []
    problems: list[Problem] = []
    for document in documents:
        for outcome in parse_all(document.value):
            if isinstance(outcome, Parsed):
                objects.append(outcome.object)
            elif isinstance(outcome, Refused):
                problems.append(_located(outcome.problem, label=label, line=document.line))
            if len(objects) + len(problems) > MAX_DOCUMENTS:  # in lists
                return unreadable(label, f"holds more than {MAX_DOCUMENTS} objects; split it")
    return Text(
        objects=tuple(objects),
        problems=tuple(problems),
        is_empty=not documents,
        is_whole=is_whole,
    )


def _located(problem: Problem, *, label: str, line: int) -> Problem:
    """Say in which file it is; an object without a name is known by that alone."""
    if problem.ref.name:
        return replace(problem, message=f"{problem.message} ({label}, line {line})")
    return replace(problem, ref=file_ref(label), message=f"{problem.message} (line {line})")
