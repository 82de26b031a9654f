"""What makes a document unusable, in the words of the user who wrote it.

msgspec says where a document does not fit its type; this turns that into the field as kubectl
writes it, one sentence about what is wrong and one that says what to do.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from smi_xds.problems import ProblemCode

# Messages of msgspec 0.19 to 0.22; one that fits none of these is passed on as it is.
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
_TYPE = re.compile(r"Expected `(?P<expected>[^`]*)`, got `(?P<got>[^`]*)`")
_BOUND = re.compile(r"Expected `int` (?:<=|>=|<|>) .*")
_ENUM = re.compile(r"Invalid enum value (?P<value>.*)", re.DOTALL)
_INDEX = re.compile(r"\[[0-9]+\]")
_SOME_ENTRY = "[...]"
_TOKEN = re.compile(r"\[(?:\.\.\.|[0-9]+)\]|[^.\[\]]+")

_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "a map",
    "array": "a list",
    "null": "nothing",
}
_CURES = {
    "str": "Put it in quotes.",
    "int": "Write a whole number, without quotes.",
    "bool": "Write true or false, without quotes.",
    "object": "Write it as a map: 'name: value', indented, on lines of their own.",
    "array": "Write it as a list: start each entry with '- '.",
}


class ParseError(Exception):
    """Raised while a document is parsed or converted; `objects.parse` makes a Problem of it."""

    def __init__(
        self,
        field: str,
        message: str,
        cure: str,
        *,
        code: ProblemCode = ProblemCode.INVALID_OBJECT,
    ) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.cure = cure
        self.code = code


def error_from(error: msgspec.ValidationError, *, wire: type, document: object) -> ParseError:
    """The fault that msgspec found in a document that was to be a `wire`."""
    place = _PLACE.match(str(error))
    assert place is not None, "the pattern matches every text"
    what, path = place["what"], place["path"] or ""
    tokens = _TOKEN.findall(path)
    if match := _UNKNOWN.fullmatch(what):
        return _unknown_field(match["name"], tokens, wire)
    if match := _MISSING.fullmatch(what):
        field = join_path([*tokens, match["name"]])
        return ParseError(field, "a required field is missing", f"Add {field}.")
    if match := _TYPE.fullmatch(what):
        field = join_path(list(_located(tokens, document, got=match["got"])))
        return _wrong_type(field, match["expected"], match["got"])
    field = join_path(tokens)
    if _BOUND.fullmatch(what):
        return ParseError(field, "the number is out of range", "Use a number from 1 to 65535.")
    if match := _ENUM.fullmatch(what):
        choices = ", ".join(_choices(_type_at(wire, tokens)))
        return ParseError(
            field, f"{printable(match['value'])} is none of: {choices}", "Use one of these."
        )
    return ParseError(
        field, f"the object cannot be read: {printable(what)}", "Correct or remove the field."
    )


def join_path(tokens: list[str]) -> str:
    """`["spec", "rules", "[0]", "name"]` as `spec.rules[0].name`."""
    return "".join(
        token if token.startswith("[") else f".{printable(token)}" for token in tokens
    ).removeprefix(".")


def printable(text: str) -> str:
    """A user's text without control characters, and not longer than a line can bear."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _unknown_field(name: str, tokens: list[str], wire: type) -> ParseError:
    # An unknown field could have been meant as a restriction: the object must not be obeyed
    # without it.
    known = sorted(_fields(_type_at(wire, tokens)))
    below = _fields(_type_at(wire, ["spec"])) if not tokens else {}
    if name == "spec" and not tokens:
        cure = "Write what is in it beside metadata, or give a later version in apiVersion."
    elif near := get_close_matches(name, known, n=1):
        cure = f"Did you mean {near[0]}? Rename or remove it."
    elif name in below:
        cure = f"Move it to spec.{name}."
    else:
        cure = f"Remove it; the fields here are: {', '.join(known) or 'none'}."
    message = f"the field {printable(name)} is unknown in this version"
    return ParseError(join_path([*tokens, name]), message, cure, code=ProblemCode.UNKNOWN_FIELD)


def _wrong_type(field: str, expected: str, got: str) -> ParseError:
    wanted = [name for name in expected.split(" | ") if name != "null"]
    words = " or ".join(_WORDS.get(name, name) for name in wanted)
    message = f"must be {words}, not {_WORDS.get(got, got)}"
    cure = _CURES.get(wanted[0], f"Give it {words}.") if len(wanted) == 1 else f"Give it {words}."
    if got == "null":
        cure = "Give it a value, or remove the field."
    return ParseError(field, message, cure)


def _located(tokens: list[str], document: Any, *, got: str) -> Iterator[str]:
    """msgspec writes `[...]` for an entry of a map: find the one that has the wrong type."""
    for token in tokens:
        key: str | int = int(token[1:-1]) if _INDEX.fullmatch(token) else token
        if token == _SOME_ENTRY and isinstance(document, Mapping):
            key = next((k for k, v in document.items() if _kind_of(v) == got), token)
            token = f"[{printable(str(key))}]" if key != token else token
        yield token
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            document = None


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, Mapping) else type(value).__name__


def _type_at(wire: Any, tokens: list[str]) -> Any:
    """The annotation that stands at a path below a wire type; None where it cannot be told."""
    for token in tokens:
        if token.startswith("["):
            collections = [a for a in _alternatives(wire) if get_origin(a) in {list, dict}]
            wire = get_args(collections[0])[-1] if collections else None
        else:
            wire = _fields(wire).get(token)
    return wire


def _fields(wire: Any) -> dict[str, Any]:
    structs = [a for a in _alternatives(wire) if _is_a(a, msgspec.Struct)]
    return {f.encode_name: f.type for s in structs for f in msgspec.structs.fields(s)}


def _choices(wire: Any) -> tuple[str, ...]:
    return tuple(value for a in _alternatives(wire) if _is_a(a, StrEnum) for value in a)


def _is_a(annotation: object, kind: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, kind)


def _alternatives(wire: Any) -> tuple[Any, ...]:
    return get_args(wire) if get_origin(wire) in {Union, UnionType} else (wire,)
