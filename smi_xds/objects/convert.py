"""Any version of an SMI object from any other, without loss.

What a version cannot say is kept in an annotation: the fields as they were written, with their
version. It counts as long as the visible fields are what these fields look like in that version;
after an edit, each restriction counts that the edit did not touch. Nothing here is ever wider
than what is visible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from smi_xds.objects.convert_access import TRAFFIC_TARGET
from smi_xds.objects.convert_specs import HTTP_ROUTE_GROUP, TCP_ROUTE
from smi_xds.objects.convert_split import TRAFFIC_SPLIT
from smi_xds.objects.faults import ParseError, printable
from smi_xds.objects.fields import COMMON, Fields, mapping, without
from smi_xds.objects.metadata import CONVERTED_ANNOTATION, DEFAULT_NAMESPACE
from smi_xds.objects.shapes import HUB, Restriction, Shape
from smi_xds.objects.versions import SMI_KINDS, SmiKind
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef

_SHAPES: Mapping[str, Shape] = {
    "TrafficTarget": TRAFFIC_TARGET,
    "IdentityBinding": Shape(),
    "HTTPRouteGroup": HTTP_ROUTE_GROUP,
    "TCPRoute": TCP_ROUTE,
    "UDPRoute": Shape(),
    "TrafficSplit": TRAFFIC_SPLIT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """Fields as somebody wrote them, and in which version."""

    version: str
    fields: Fields


def convert(document: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The object in another version (`v1alpha3`) of its kind; ParseError where there is none.

    Only `apiVersion`, the annotation and the kind's own fields differ.
    """
    kind = _kind_of(document)
    was = _version_of(document, kind)
    if version not in kind.versions:
        raise _unknown_version(kind, version)
    if version == was:
        return dict(document)
    said, shape = _said(document, kind, was), _SHAPES[kind.kind]
    fields = shape.restore(said.fields, said.version, target=version)
    # Kept only where it is needed: most objects lose nothing in most versions.
    is_lossy = shape.restore(fields, version, target=said.version) != said.fields
    return {
        **{key: value for key, value in document.items() if key in COMMON},
        "apiVersion": f"{kind.group}/{version}",
        "metadata": _annotated(document, said if is_lossy else None),
        **fields,
    }


def restored(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The object in the shape of its kind's hub, where an annotation says more than its fields.

    Its version is the one that it was written in.
    """
    kind = SMI_KINDS.get(str(document.get("kind")))
    if kind is None or not is_converted(document):
        return None
    was = _version_of(document, kind)
    said = _said(document, kind, was)
    written = was if said.version == HUB else said.version
    return {
        **{key: value for key, value in document.items() if key in COMMON},
        "apiVersion": f"{kind.group}/{written}",
        **_SHAPES[kind.kind].restore(said.fields, said.version, target=HUB),
    }


def would_widen(old: Mapping[str, Any], new: Mapping[str, Any]) -> Problem | None:
    """What makes an update one that drops a restriction which its writer's version cannot show.

    For the webhook that sees both objects: conversion sees only one. None where all is well.
    """
    kind = _kind_of(new)
    version = _version_of(new, kind)
    shape, namespace = _SHAPES[kind.kind], _namespace_of(new)
    old = convert(old, version)
    before, after = (_hub(it, kind, version) for it in (old, new))
    seen = shape.restore(_fields_of(old), version, target=HUB)
    shown, kept = shape.restricted(seen, namespace), shape.restricted(after, namespace)
    for key, restriction in shape.restricted(before, namespace).items():
        if key in shown or (key in kept and kept[key].value == restriction.value):
            continue
        if shape.is_there(restriction, before, after, namespace):
            return _widening(new, kind, version, restriction)
    return None


def is_converted(document: Mapping[str, Any]) -> bool:
    """Whether an annotation says what the fields cannot."""
    return CONVERTED_ANNOTATION in _annotations_of(document)


def _kind_of(document: Mapping[str, Any]) -> SmiKind:
    name = str(document.get("kind"))
    if name not in SMI_KINDS:
        raise ParseError(
            "kind", f"'{printable(name)}' has no versions", f"Use one of: {', '.join(SMI_KINDS)}."
        )
    return SMI_KINDS[name]


def _version_of(document: Mapping[str, Any], kind: SmiKind) -> str:
    group, _, version = str(document.get("apiVersion")).rpartition("/")
    if group != kind.group or version not in kind.versions:
        raise _unknown_version(kind, version)
    return version


def _unknown_version(kind: SmiKind, version: str) -> ParseError:
    known = ", ".join(f"{kind.group}/{it}" for it in kind.versions)
    return ParseError(
        "apiVersion",
        f"{kind.kind} of version '{printable(version)}' is not supported",
        f"Write it as {known}.",
        code=ProblemCode.UNSUPPORTED_VERSION,
    )


def _fields_of(document: Mapping[str, Any]) -> Fields:
    return without(document, *COMMON)


def _annotations_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(mapping(document.get("metadata")).get("annotations"))


def _namespace_of(document: Mapping[str, Any]) -> str:
    return str(mapping(document.get("metadata")).get("namespace") or DEFAULT_NAMESPACE)


def _said(document: Mapping[str, Any], kind: SmiKind, was: str) -> _Said:
    """What the object says, by its fields and by the annotation as far as that agrees."""
    visible = _Said(version=was, fields=_fields_of(document))
    kept = _kept(_annotations_of(document).get(CONVERTED_ANNOTATION), kind)
    if kept is None:
        return visible
    shape = _SHAPES[kind.kind]
    if shape.restore(kept.fields, kept.version, target=was) == visible.fields:
        return kept
    hub = shape.restore(visible.fields, was, target=HUB)
    original = shape.restore(kept.fields, kept.version, target=HUB)
    merged = shape.rescue(hub, original, was, _namespace_of(document))
    if merged == hub:
        return visible
    fields = shape.restore(merged, HUB, target=kept.version)
    if shape.restore(fields, kept.version, target=HUB) == merged:
        return _Said(version=kept.version, fields=fields)
    return _Said(version=HUB, fields=merged)


def _kept(text: object, kind: SmiKind) -> _Said | None:
    """What the annotation holds; None where it cannot be read."""
    if not isinstance(text, str):
        return None
    try:
        kept = mapping(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        return None
    version, fields = kept.get("version"), kept.get("fields")
    if version not in (*kind.versions, HUB) or not isinstance(fields, dict):
        return None
    return _Said(version=version, fields=without(fields, *COMMON))


def _annotated(document: Mapping[str, Any], said: _Said | None) -> dict[str, Any]:
    metadata = mapping(document.get("metadata"))
    annotations = without(_annotations_of(document), CONVERTED_ANNOTATION)
    if said is not None:
        kept = {"version": said.version, "fields": said.fields}
        annotations[CONVERTED_ANNOTATION] = msgspec.json.encode(kept).decode()
    if annotations or not is_converted(document):
        return {**metadata, **({"annotations": annotations} if annotations else {})}
    return without(metadata, "annotations")


def _hub(document: Mapping[str, Any], kind: SmiKind, version: str) -> Fields:
    said = _said(document, kind, version)
    return _SHAPES[kind.kind].restore(said.fields, said.version, target=HUB)


def _widening(
    new: Mapping[str, Any], kind: SmiKind, version: str, restriction: Restriction
) -> Problem:
    name = str(mapping(new.get("metadata")).get("name"))
    older = f"{kind.plural}.{restriction.said_in}.{kind.group}"
    return Problem(
        ref=ObjectRef(kind.kind, _namespace_of(new), printable(name)),
        field=printable(restriction.field),
        code=ProblemCode.HIDDEN_RESTRICTION,
        message=f"the update drops a restriction that {version} cannot show: "
        f"{printable(msgspec.json.encode(restriction.value).decode())}",
        cure=f"Keep the annotation {CONVERTED_ANNOTATION}, or change the object as {older}.",
    )
