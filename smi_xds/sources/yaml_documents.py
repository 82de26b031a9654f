"""Documents from the text of a YAML or JSON file, as plain JSON values, whatever is in it.

YAML is read as its 1.2 core schema: `yes`, `on`, `2024-01-01` and `12:30` are text. Whoever may
write into the folder can at most get an error: depth, size and aliases are limited, duplicate
keys and tags refused. libyaml's events are put together here, because its composer recurses and
its constructor has no limits.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import yaml

# No object of ours nests deeper than 10; a document of another kind may.
MAX_DEPTH = 64
# A file of 8 MiB could hold four million, and each would be a problem of its own.
MAX_DOCUMENTS = 50_000
# What aliases stand for is read again for each of them: a few lines could stand for billions.
MAX_ALIASED = 100_000

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# More digits than a number of any object has; Python refuses to convert thousands of them.
_MAX_DIGITS = 400

_TAG = "tag:yaml.org,2002:"

Json: TypeAlias = Any
"""What JSON can say: None, bool, int, float, str, list, dict with str keys."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document and the line that it starts in."""

    value: Json
    line: int


class SyntaxProblem(Exception):  # noqa: N818  # it becomes a Problem, not an error of ours
    """The text is no YAML or JSON that we read; the message says where and why."""


def read_yaml(text: str) -> list[Document]:
    """All documents of a YAML text; empty ones are left out."""
    try:
        documents: list[Document] = []
        for document in _Composer(text).documents():
            if document.value is not None:
                documents.append(document)
                _check_count(documents)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SyntaxProblem(_at(mark, error.problem or "cannot be parsed")) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise SyntaxProblem(" ".join(str(error).split())) from error
    return documents


def read_json(text: str) -> list[Document]:
    """All documents of a text that holds JSON values one after the other."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
    documents: list[Document] = []
    position = _skip(text, 0)
    line = text.count("\n", 0, position) + 1
    has_escapes = "\\u" in text
    try:
        while position < len(text):
            value, end = decoder.raw_decode(text, position)
            if has_escapes:  # "\ud800" decodes to what could never be encoded again
                json.dumps(value, ensure_ascii=False).encode()
            if value is not None:
                documents.append(Document(value, line))
                _check_count(documents)
            # Counted on from the last: a text may hold millions of documents.
            before, position = position, _skip(text, end)
            line += text.count("\n", before, position)
    except json.JSONDecodeError as error:
        raise SyntaxProblem(
            f"line {error.lineno}, column {error.colno}: {error.msg.lower()}"
        ) from error
    except RecursionError as error:
        raise SyntaxProblem("is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise SyntaxProblem("holds half of a surrogate pair, which is no character") from error
    except ValueError as error:  # a key that stands twice, NaN, a number of thousands of digits
        raise SyntaxProblem(f"in the document from line {line}: {error}") from error
    return documents


def _check_count(documents: list[Document]) -> None:
    if len(documents) > MAX_DOCUMENTS:
        raise SyntaxProblem(f"holds more than {MAX_DOCUMENTS} documents; split it")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one map")
        found[key] = value
    return found


def _no_constant(text: str) -> Json:
    raise ValueError(f"{text} is no JSON")


class _Mark(Protocol):
    line: int
    column: int


@dataclass(slots=True)
class _Node:
    """A list or map that is being read."""

    value: Any
    anchor: str | None
    event: yaml.Event
    size: int = 1
    key: str | None = None
    is_merging: bool = False
    merged: list[dict[str, Json]] = field(default_factory=list)


class _Composer:
    """Puts events together, without recursion; one for each text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._stack: list[_Node] = []
        self._anchors: dict[str, tuple[Json, int]] = {}
        self._aliased = 0
        self._root: Json = None

    def documents(self) -> Iterator[Document]:
        line = 1
        for event in yaml.parse(self._text, Loader=yaml.CSafeLoader):
            match event:
                case yaml.DocumentStartEvent():
                    self._anchors.clear()
                    mark = event.start_mark
                    self._root, line = None, mark.line + 1 if mark else 1
                case yaml.DocumentEndEvent():
                    yield Document(self._root, line)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._open(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._close()
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.AliasEvent():
                    self._alias(event)
                case _:
                    pass  # the stream's own start and end

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        is_map = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, "!", _TAG + ("map" if is_map else "seq")}:
            raise _error(event, f"the tag {event.tag} is not supported")
        if len(self._stack) == MAX_DEPTH:
            raise _error(event, f"is nested deeper than {MAX_DEPTH} levels")
        if self._wants_key():
            raise _error(event, "a list or map cannot be a key")
        node = _Node({} if is_map else [], event.anchor, event)
        if event.anchor:
            # Not there before it is closed: a list cannot hold itself.
            self._anchors.pop(event.anchor, None)
        self._stack.append(node)

    def _close(self) -> None:
        node = self._stack.pop()
        for mapping in node.merged:  # what the map says itself comes before what it merges
            for key, value in mapping.items():
                node.value.setdefault(key, value)
        self._put(node.value, node.anchor, size=node.size, event=node.event)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if self._wants_key():
            self._set_key(event)
            return
        self._put(_value_of(event), event.anchor, size=1, event=event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if self._wants_key():
            raise _error(event, "an alias cannot be a key")
        if event.anchor not in self._anchors:
            raise _error(event, f"the alias *{event.anchor} names nothing before it")
        value, size = self._anchors[event.anchor]
        self._aliased += size
        if self._aliased > MAX_ALIASED:
            raise _error(event, f"its aliases stand for more than {MAX_ALIASED} values")
        self._put(value, None, size=size, event=event)

    def _wants_key(self) -> bool:
        return (
            bool(self._stack)
            and isinstance(self._stack[-1].value, dict)
            and (self._stack[-1].key is None)
        )

    def _set_key(self, event: yaml.ScalarEvent) -> None:
        node = self._stack[-1]
        # As text, whatever it looks like: JSON has no other keys.
        node.is_merging = event.value == "<<" and event.implicit[0]
        if event.value in node.value or (node.is_merging and node.merged):
            raise _error(event, f"the key {event.value!r} stands twice in one map")
        if event.anchor:
            self._anchors[event.anchor] = (event.value, 1)
        node.key = event.value

    def _put(self, value: Json, anchor: str | None, *, size: int, event: yaml.Event) -> None:
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._stack:
            self._root = value
            return
        node = self._stack[-1]
        node.size += size
        if node.key is None:
            node.value.append(value)
            return
        key, node.key = node.key, None
        if node.is_merging:
            node.merged.extend(_merged(value, event))
        else:
            node.value[key] = value


def _merged(value: Json, event: yaml.Event) -> Sequence[dict[str, Json]]:
    maps = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, dict) for entry in maps):
        raise _error(event, "<< must be followed by a map")
    return maps


def _value_of(event: yaml.ScalarEvent) -> Json:
    text, tag = event.value, event.tag
    if tag in {_TAG + "str", "!"} or (tag is None and not event.implicit[0]):
        return text  # told to be text, or quoted, or a block
    if tag is not None and tag.removeprefix(_TAG) not in {"int", "float", "bool", "null"}:
        raise _error(event, f"the tag {tag} is not supported")
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text, 0 if text[:2] in {"0x", "0o"} else 10)
    return float(text) if _FLOAT.fullmatch(text) else text


def _error(event: yaml.Event, problem: str) -> SyntaxProblem:
    return SyntaxProblem(_at(event.start_mark, problem))


def _at(mark: _Mark | None, problem: str) -> str:
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + " ".join(problem.split())
