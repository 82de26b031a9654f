"""YAML and JSON are read as plain JSON values, and hostile texts end in an error."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import event, given
from hypothesis import strategies as st

from smi_xds.sources.yaml_documents import Document, SyntaxProblem, read_json, read_yaml


def value_of(text: str) -> Any:
    (document,) = read_yaml(text)
    return document.value


def error_of(text: str) -> str:
    with pytest.raises(SyntaxProblem) as caught:
        read_yaml(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("yes", "yes"),
        ("off", "off"),
        ("NO", "NO"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("0b1", "0b1"),
        ("=", "="),
        ("500m", "500m"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("!!int 5", 5),
        ("! 5", "5"),
        ("|-\n  5", "5"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    """Plain scalars are those of YAML 1.2's core schema; what surprises elsewhere is text."""
    found = value_of(f"a: {text}\n")["a"]

    assert (type(found), found) == (type(value), value)


def test_documents() -> None:
    """A text may hold many documents, empty ones among them; each knows its line."""
    assert read_yaml("# nothing\n---\na: 1\n---\n---\n~\n---\n- 2\n...\n") == [
        Document({"a": 1}, 2),
        Document([2], 7),
    ]
    assert read_yaml("") == []


def test_anchors_and_merges() -> None:
    """Aliases stand for what they name; a map's own keys come before those it merges."""
    text = """
base: &base {a: 1, b: 2}
list: &list [x]
key: &key k
one: {<<: *base, a: 3}
two: {<<: [*base, {c: 4}], again: *list, text: *key}
three: {"<<": 5}
"""

    found = value_of(text)

    assert found["one"] == {"a": 3, "b": 2}
    assert found["two"] == {"a": 1, "b": 2, "c": 4, "again": ["x"], "text": "k"}
    assert found["three"] == {"<<": 5}


def test_keys_are_text() -> None:
    """JSON has no other keys, so a key is what is written."""
    assert value_of("{1: a, true: b, 1.50: c, ~: d}") == {
        "1": "a",
        "true": "b",
        "1.50": "c",
        "~": "d",
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' stands twice in one map"),
        ("{<<: {a: 1}, <<: {b: 1}}", "line 1, column 14: the key '<<' stands twice in one map"),
        ("a: [1, {b: 2", "line 2, column 1: did not find expected ',' or '}'"),
        ("a:\n\t- b", "line 2, column 1: found character that cannot start any token"),
        ("a: *x", "line 1, column 4: the alias *x names nothing before it"),
        ("a: &x [*x]", "line 1, column 8: the alias *x names nothing before it"),
        ("&a a: 1\n---\nb: *a", "line 3, column 4: the alias *a names nothing before it"),
        ("*x : 1", "line 1, column 1: an alias cannot be a key"),
        ("[a]: 1", "line 1, column 1: a list or map cannot be a key"),
        ("a: !!python/object:os.system {}", "the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: !secret x", "the tag !secret is not supported"),
        ("a: !!binary aGk=", "the tag tag:yaml.org,2002:binary is not supported"),
        ("{<<: 1}", "<< must be followed by a map"),
        ("a: \x00", "control characters are not allowed"),
        ("%YAML 3.0\n---\na: 1", "found incompatible YAML document"),
    ],
)
def test_errors(text: str, message: str) -> None:
    """What is no YAML, or YAML that no object needs, is told with its line."""
    assert message in error_of(text)


@pytest.mark.parametrize("text", ["[" * 10**6, "{a: " * 10**6, "- " * 10**5, "a: " * 100])
def test_depth(text: str) -> None:
    """Nesting ends soon, long before any stack does."""
    assert len(error_of(text)) < 100


def test_aliases_that_multiply() -> None:
    """A few lines that stand for billions of values are refused."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]

    assert "its aliases stand for more than 100000 values" in error_of("\n".join(lines))


def test_numbers_without_end() -> None:
    """A number of thousands of digits is text, which no field for numbers takes."""
    assert value_of("a: " + "1" * 5000)["a"] == "1" * 5000


def test_json() -> None:
    """A JSON text may hold several values, each of which knows its line."""
    assert read_json(' {"a": [1, "\\u00e9"]}\n\n{"b": null} null\n') == [
        Document({"a": [1, "é"]}, 1),
        Document({"b": None}, 3),
    ]
    assert read_json("") == []


@pytest.mark.parametrize(
    "text, message",
    [
        ('{\n"a": }', "line 2, column 6: expecting value"),
        ('{}\n{"a": 1, "a": 2}', "in the document from line 2: the key 'a' stands twice"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("[" * 10**5, "is nested too deeply"),
        ('"\\ud800"', "holds half of a surrogate pair"),
        ("1" * 5000, "in the document from line 1: "),
        ("a: 1", "line 1, column 1: expecting value"),
    ],
)
def test_json_errors(text: str, message: str) -> None:
    """What is no JSON is told with its line."""
    with pytest.raises(SyntaxProblem) as caught:
        read_json(text)

    assert message in str(caught.value)


# Beyond these, JSON writes surrogate pairs, which YAML does not have; and YAML 1.1 has more breaks.
CHARACTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], max_codepoint=0xD7FF)
TEXT = st.text(CHARACTERS, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_json_is_yaml(value: dict[str, object]) -> None:
    """What JSON can say is read the same from JSON, and from YAML in both of its styles."""
    written = json.dumps(value)

    assert read_json(written) == [Document(value, 1)]
    assert value_of(written) == value
    assert value_of(json.dumps(value, indent=2, ensure_ascii=False)) == value


@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@,?~ \n\t\\\x00<"), max_size=40))
def test_any_text(text: str) -> None:
    """Any text gives documents of JSON values, no more than PyYAML sees in it, or an error."""
    try:
        documents = read_yaml(text)
    except SyntaxProblem as error:
        event(str(error).partition(": ")[2])
        return

    for document in documents:
        json.dumps(document.value)
    assert len(documents) <= len(list(yaml.compose_all(text, Loader=yaml.CSafeLoader)))


@pytest.mark.parametrize(
    "read, text", [(read_yaml, "--- a\n" * 50_001), (read_json, "1 " * 50_001)]
)
def test_documents_are_counted(read: Callable[[str], object], text: str) -> None:
    """Each of millions would be a problem of its own."""
    with pytest.raises(SyntaxProblem, match="more than 50000 documents"):
        read(text)


def test_json_documents_know_their_lines() -> None:
    """Counted from one to the next."""
    assert [it.line for it in read_json("\n1\n\n2 3\n[\n]\n4")] == [2, 4, 4, 5, 7]
