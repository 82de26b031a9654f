"""What msgspec says of a document becomes a field and a sentence that its author understands."""

from enum import StrEnum
from typing import Annotated

import msgspec
import pytest

from smi_xds.objects.faults import ParseError, error_from, join_path, printable
from smi_xds.problems import ProblemCode


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    color: Color | None = None
    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    tags: list[dict[str, str]] | dict[str, str] | None = None
    code: Annotated[str, msgspec.Meta(pattern="^a")] = "a"


class Tree(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    leaf_list: list[Leaf] | None = None
    by_name: dict[str, Leaf] | None = None


def fault_of(document: object, wire: type = Tree) -> ParseError:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(document, wire)
    return error_from(caught.value, wire=wire, document=document)


@pytest.mark.parametrize(
    "document, field, message",
    [
        ({"leafList": [{}, {"color": "tea"}]}, "leafList[1].color", "'tea' is none of: red, blue"),
        ({"leafList": [{"size": 0}]}, "leafList[0].size", "the number is out of range"),
        (
            {"leafList": [{"tags": [{"a": "b"}, {"c": "d", "e": 7}]}]},
            "leafList[0].tags[1][e]",
            "must be a string, not a whole number",
        ),
        (
            {"leafList": [{"tags": {"a": "b", "c": []}}]},
            "leafList[0].tags[c]",
            "must be a string, not a list",
        ),
        (
            {"leafList": [{"tags": {"a": "b", "c": None}}]},
            "leafList[0].tags[c]",
            "must be a string, not nothing",
        ),
        (
            {"byName": {"a": {"size": "1"}}},
            "byName[...].size",
            "must be a whole number, not a string",
        ),
        (
            {"byName": {"a": {"hue": 1}}},
            "byName[...].hue",
            "the field hue is unknown in this version",
        ),
    ],
)
def test_places(document: object, field: str, message: str) -> None:
    """The field is written as kubectl writes it; an entry of a map by its key, where known."""
    fault = fault_of(document)

    assert (fault.field, fault.message) == (field, message)


def test_fields_here() -> None:
    """For an unknown field the known ones of that very place are told, as they are written."""
    fault = fault_of({"twig": 1})

    assert fault.code is ProblemCode.UNKNOWN_FIELD
    assert fault.cure == "Remove it; the fields here are: byName, leafList."


def test_what_msgspec_says_otherwise() -> None:
    """A message of a kind that is not known here is passed on."""
    fault = fault_of({"code": "b"}, Leaf)

    assert fault.message == "the object cannot be read: Expected `str` matching regex '^a'"
    assert fault.cure == "Correct or remove the field."


@pytest.mark.parametrize("document", [None, [], {}, {"leafList": []}, {"leafList": [{}]}])
def test_a_document_that_is_another_one(document: object) -> None:
    """A path that leads nowhere in the document is told as it is."""
    error = msgspec.ValidationError("Expected `str`, got `int` - at `$.leafList[0].tags[1][...]`")

    fault = error_from(error, wire=Tree, document=document)

    assert fault.field == "leafList[0].tags[1][...]"


def test_a_type_that_leads_nowhere() -> None:
    """A path that the type does not have gives no hints."""
    error = msgspec.ValidationError("Object contains unknown field `x` - at `$.by[0][...]`")

    fault = error_from(error, wire=Tree, document={})

    assert fault.cure == "Remove it; the fields here are: none."


def test_printable() -> None:
    """What a user wrote never breaks a line and never fills a page."""
    assert printable("naïve") == "naïve"
    assert printable("a\n\x1b[31m") == "a\\n\\x1b[31m"
    assert printable("x" * 81) == "x" * 77 + "..."
    assert join_path(["spec", "a\nb", "[0]"]) == "spec.a\\nb[0]"
