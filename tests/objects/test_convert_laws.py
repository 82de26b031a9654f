"""The laws of conversion: nothing is lost on any way, nothing changes its meaning or gets wider."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from smi_xds.objects.convert import convert, would_widen
from smi_xds.objects.metadata import CONVERTED_ANNOTATION
from smi_xds.objects.parse import MeshObject, Parsed, parse
from smi_xds.objects.smi import (
    HTTPMatch,
    HTTPRouteGroup,
    SmiObject,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
)
from smi_xds.objects.versions import SMI_KINDS
from tests.support.smi_documents import Document, documents, of_any_version

KINDS = sorted(SMI_KINDS)
CHANGING = [kind for kind in KINDS if len(SMI_KINDS[kind].versions) > 1]
# How often the usual number of examples: SMI_XDS_EXAMPLES=100 for a night.
THOROUGH = int(os.environ.get("SMI_XDS_EXAMPLES", "1"))
# Each law is tried for each pair of versions apart: no pair may hide behind the others.
PAIRS = [(k, a, b) for k in KINDS for a, b in product(SMI_KINDS[k].versions, repeat=2)]


def fields_of(document: Document) -> Document:
    return {k: v for k, v in document.items() if k not in {"apiVersion", "metadata"}}


def without_annotation(document: Document) -> Document:
    metadata = dict(document["metadata"])
    annotations = dict(metadata.pop("annotations", {}))
    annotations.pop(CONVERTED_ANNOTATION, None)
    if annotations:
        metadata["annotations"] = annotations
    return {**document, "metadata": metadata}


def read(document: Document) -> MeshObject:
    outcome = parse(document)
    assert isinstance(outcome, Parsed), (document, outcome)
    return outcome.object


def meaning(document: Document) -> object:
    """What the mesh reads, but for how it was written."""
    it = read(document)
    if isinstance(it, TrafficSplit):
        it = replace(it, backends=tuple(replace(b, written=None) for b in it.backends))
    assert isinstance(it, SmiObject)
    return replace(it, version="")


@pytest.mark.parametrize("kind, version, other", PAIRS)
@settings(max_examples=8 * THOROUGH)
@given(data=st.data())
def test_there_and_back(kind: str, version: str, other: str, data: st.DataObject) -> None:
    """In any other version an object is legal and means the same, and it comes back as it was."""
    document = data.draw(documents(kind, version))

    there = convert(document, other)

    assert there["apiVersion"] == f"{SMI_KINDS[kind].group}/{other}"
    assert convert(there, version) == document
    assert meaning(there) == meaning(document)
    read(without_annotation(there))


@pytest.mark.parametrize("kind", CHANGING)
@settings(max_examples=20 * THOROUGH)
@given(data=st.data())
def test_any_way_is_as_good_as_another(kind: str, data: st.DataObject) -> None:
    """By any way an object looks the same, and after any way it comes back as it was."""
    versions = st.sampled_from(SMI_KINDS[kind].versions)
    document = data.draw(of_any_version(kind))
    way = data.draw(st.lists(versions, max_size=4))

    seen = document
    for version in way:
        seen = convert(seen, version)
        assert fields_of(seen) == fields_of(convert(document, version))

    assert convert(seen, document["apiVersion"].partition("/")[2]) == document


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15 * THOROUGH)
@given(data=st.data())
def test_the_rest_is_untouched(kind: str, data: st.DataObject) -> None:
    """Metadata and status stay, the input too; the same version is no change."""
    document = data.draw(of_any_version(kind))
    copy = repr(document)
    for version in SMI_KINDS[kind].versions:
        seen = convert(document, version)

        assert without_annotation(seen)["metadata"] == document["metadata"]
        assert seen.get("status") == document.get("status")
    assert repr(document) == copy
    assert convert(document, document["apiVersion"].partition("/")[2]) == document


# ---- an older version's writer ---------------------------------------------------------------


@st.composite
def edited(draw: st.DrawFn, document: Document, other: Document) -> Document:
    """What a writer makes of an object that it read: parts of it, and parts of another object."""

    def mixed(mine: Any, theirs: Any) -> Any:
        how = draw(st.sampled_from(["mine", "mine", "theirs", "both"]))
        if how == "both" and isinstance(mine, dict) and isinstance(theirs, dict):
            keys = sorted({*mine, *theirs})
            drawn = {key: mixed(mine.get(key), theirs.get(key)) for key in keys}
            return {key: value for key, value in drawn.items() if value is not None}
        if how == "both" and isinstance(mine, list) and isinstance(theirs, list):
            pairs = zip(mine, theirs, strict=False)
            return [mixed(a, b) for a, b in pairs] + mine[len(theirs) :]
        return theirs if how == "theirs" else mine

    fields = mixed(fields_of(document), fields_of(other))
    kept = document if draw(st.booleans()) else without_annotation(document)
    head = {"apiVersion": document["apiVersion"], "kind": document["kind"]}
    return {**fields, **head, "metadata": kept["metadata"]}


PORTS = (80, 8080, 9090)
Key = tuple[str, str, str]


def key_of(subject: Subject) -> Key:
    return subject.kind, subject.name, subject.namespace or "shop"


def is_ours(subject: Subject) -> bool:
    return subject.group in {None, "access.smi-spec.io"}


def calls(target: TrafficTarget) -> Iterator[object]:
    """(source, destination, port, rule): all that a TrafficTarget allows."""
    destination = target.destination
    if destination is None or not is_ours(destination):
        return
    ports = PORTS if target.destination_port is None else (target.destination_port,)
    for source in filter(is_ours, target.sources or ()):
        for port, rule in product(ports, target.rules or ()):
            yield key_of(source), key_of(destination), port, rule.kind, rule.name


REQUESTS = [
    (path, method, frozenset(headers))
    for path, method, headers in product(
        ("/a", "/b"),
        ("GET", "PUT"),
        [(), [("x", "1")], [("y", "2")], [("x", "2")], [("x", "1"), ("y", "1")]],
    )
]


def requests(match: HTTPMatch) -> set[object]:
    """All that a match matches; its words stand for themselves."""
    return {
        (path, method, headers)
        for path, method, headers in REQUESTS
        if match.path_regex in {None, path}
        and (not match.methods or {"*", method} & set(match.methods))
        and set(match.headers or ()) <= headers
    }


def allowed(it: MeshObject) -> set[object]:
    """All that an object allows, in small worlds."""
    match it:
        case TrafficTarget():
            return set(calls(it))
        case HTTPRouteGroup():
            return {(m.name, r) for m in it.matches for r in requests(m)}
        case TCPRoute():
            return set(it.ports or PORTS)
        case TrafficSplit():
            # Where it has matches, it is not there for requests that fit none.
            return {(it.service, "all")} if not it.matches else {(it.service, it.matches)}
        case _:
            raise AssertionError(it)


def renamed(old: HTTPRouteGroup, new: MeshObject) -> Iterable[object]:
    """What the new group allows by a match that is the old one's but for its name and headers."""
    assert isinstance(new, HTTPRouteGroup)
    for was, now in product(old.matches, new.matches):
        if (was.path_regex, was.methods) == (
            now.path_regex,
            now.methods,
        ) and now not in old.matches:
            yield from ((was.name, r) for r in requests(now))


# From where to where there is a restriction to lose.
HIDING = [
    (kind, source, target)
    for kind, sources, targets in (
        ("TrafficTarget", ("v1alpha1", "v1alpha2"), ("v1alpha3", "v1alpha4")),
        ("TrafficTarget", ("v1alpha4",), ("v1alpha1", "v1alpha2", "v1alpha3")),
        ("HTTPRouteGroup", ("v1alpha2", "v1alpha3", "v1alpha4"), ("v1alpha1",)),
        ("TCPRoute", ("v1alpha4",), ("v1alpha1", "v1alpha2", "v1alpha3")),
        ("TrafficSplit", ("v1alpha3", "v1alpha4"), ("v1alpha1", "v1alpha2")),
    )
    for source, target in product(sources, targets)
]


@pytest.mark.parametrize("kind, source, other", HIDING)
@settings(max_examples=12 * THOROUGH, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_writer_drops_no_restriction_that_it_cannot_see(
    kind: str, source: str, other: str, data: st.DataObject
) -> None:
    """What only a hidden restriction denied stays denied after any update, or that is refused."""
    old = convert(data.draw(documents(kind, source)), other)
    was = read(old)
    hidden = allowed(read(without_annotation(old))) - allowed(was)
    assume(hidden)
    new = data.draw(edited(old, data.draw(documents(kind, other))))
    parsed = parse(new)
    if would_widen(old, new) is not None or not isinstance(parsed, Parsed):
        return

    now = allowed(parsed.object)
    if isinstance(was, HTTPRouteGroup):
        now |= set(renamed(was, parsed.object))
    assert not hidden & now
    # And in whatever version it is read next.
    for again in SMI_KINDS[kind].versions:
        assert not hidden & allowed(read(convert(new, again)))


@pytest.mark.parametrize("kind", CHANGING)
@settings(max_examples=20 * THOROUGH)
@given(data=st.data())
def test_an_edit_is_never_wider_than_it_looks(kind: str, data: st.DataObject) -> None:
    """Whatever an annotation says, an object allows no more than its visible fields do."""
    version = data.draw(st.sampled_from(SMI_KINDS[kind].versions))
    old = convert(data.draw(of_any_version(kind)), version)
    new = data.draw(edited(old, data.draw(documents(kind, version))))
    parsed = parse(new)
    if isinstance(parsed, Parsed) and kind != "TrafficSplit":
        assert allowed(parsed.object) <= allowed(read(without_annotation(new)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15 * THOROUGH)
@given(data=st.data())
def test_no_update_is_refused_without_reason(kind: str, data: st.DataObject) -> None:
    """An object written back as it was read is fine, and so is one in which nothing was hidden."""
    version = data.draw(st.sampled_from(SMI_KINDS[kind].versions))
    old = convert(data.draw(of_any_version(kind)), version)
    other = data.draw(documents(kind, version))

    assert would_widen(old, old) is None
    if CONVERTED_ANNOTATION not in old["metadata"].get("annotations", {}):
        assert would_widen(old, data.draw(edited(old, other))) is None
