"""What the API server's list and watch answers look like, and how they become events. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

import msgspec

from smi_xds.objects.parse import Ignored, JsonParser, MeshObject, Parsed, Refused
from smi_xds.objects.store import Applied, Deleted, Event, Failed, Replaced
from smi_xds.problems import Problem
from smi_xds.values import ObjectRef


class GoneError(Exception):
    """The API server no longer has the version that was asked for: list again."""


class AnswerError(Exception):
    """The API server sent what cannot be understood, or an error in the midst of a watch."""


class _PageMetadata(
    msgspec.Struct, rename={"resource_version": "resourceVersion", "token": "continue"}
):
    resource_version: str = ""
    token: str = ""


class Page(msgspec.Struct):
    """A part of a list; the objects are not looked into yet."""

    metadata: _PageMetadata
    items: list[msgspec.Raw] | None
    """Always there in a list; without it this is something else, a Status say."""


class _Groups(msgspec.Struct):
    """meta/v1 APIGroupList, as far as it can be told from anything else."""

    kind: Literal["APIGroupList"]
    groups: list[msgspec.Raw]


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _HeadMetadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Head(msgspec.Struct):
    metadata: _HeadMetadata


class Status(msgspec.Struct):
    """meta/v1 Status: how the API server says no."""

    code: int = 0
    reason: str = ""
    message: str = ""


_page = msgspec.json.Decoder(Page)
_line = msgspec.json.Decoder(_Line)
_groups = msgspec.json.Decoder(_Groups)
_head = msgspec.json.Decoder(_Head)
_status = msgspec.json.Decoder(Status)


class LineSplitter:
    """Puts lines together from chunks of bytes that end anywhere."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes."""
        first, *others = chunk.split(b"\n")
        self._rest.append(first)
        if not others:
            return []
        lines = [b"".join(self._rest), *others]
        self._rest = [lines.pop()]
        return [line for line in lines if line]


def page_from(body: bytes, *, after: str = "") -> Page:
    """Read one part of a list, asked for with that token; AnswerError where it is none."""
    try:
        page = _page.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerError(f"a list that cannot be read: {error}") from error
    if not page.metadata.resource_version:
        raise AnswerError("a list without a resourceVersion")
    if after and page.metadata.token == after:
        raise AnswerError("a list that goes on for ever")
    return page


def check_groups(body: bytes) -> None:
    """Check that this is a list of API groups; AnswerError where it is not."""
    try:
        _groups.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerError(f"no list of API groups: {error}") from error


def is_older(version: str, *, than: str) -> bool:
    """Whether a resource version came before another; no, where they do not tell (KEP-5504)."""
    if not (version.isdecimal() and than.isdecimal()):
        return False
    return int(version) < int(than)


def status_from(body: bytes) -> Status:
    """Read why a request was refused, as far as it is told."""
    try:
        return _status.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Status()


def replaced_from(items: Iterable[msgspec.Raw], parser: JsonParser) -> Replaced:
    """All objects of a list, and the problems of those that cannot be read."""
    objects: list[MeshObject] = []
    problems: list[Problem] = []
    for raw in items:
        match parser.parse(raw):
            case Parsed(it):
                objects.append(it)
            case Refused(problem):
                problems.append(problem)
            case Ignored():
                pass
    return Replaced(tuple(objects), tuple(problems))


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of some lines, and the version that a watch goes on from after them."""

    events: tuple[Event, ...]
    resource_version: str


def batch_from(lines: Iterable[bytes], parser: JsonParser) -> Batch:
    """Read lines of a watch; GoneError or AnswerError where one of them is an error."""
    events: list[Event] = []
    last: msgspec.Raw | None = None
    for text in lines:
        try:
            line = _line.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise AnswerError(f"a watch line that cannot be read: {error}") from error
        match line.type:
            case "ADDED" | "MODIFIED":
                events.append(_event(line.object, parser))
            case "DELETED":
                events.append(Deleted(_ref(line.object, parser)))
            case "ERROR":
                _raise(status_from(line.object))
            case _:  # a bookmark: only its version counts
                pass
        last = line.object
    version = _head_of(last).resource_version if last is not None else ""
    return Batch(tuple(events), version)


def _event(raw: msgspec.Raw, parser: JsonParser) -> Event:
    match parser.parse(raw):
        case Parsed(it):
            return Applied(it)
        case Refused(problem):
            return Failed(problem)
        case Ignored():
            # It may have been one of ours before: a slice that lost its service's label.
            return Deleted(_ref(raw, parser))


def _ref(raw: msgspec.Raw, parser: JsonParser) -> ObjectRef:
    head = _head_of(raw)
    return ObjectRef(parser.form.kind, head.namespace, head.name)


def _head_of(raw: msgspec.Raw) -> _HeadMetadata:
    try:
        return _head.decode(raw).metadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerError(f"an object without metadata: {error}") from error


def _raise(status: Status) -> None:
    if status.code == HTTPStatus.GONE or status.reason in {"Expired", "Gone"}:
        raise GoneError
    raise AnswerError(f"{status.code} {status.reason}: {status.message}")
