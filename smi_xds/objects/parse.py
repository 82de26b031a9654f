"""From documents to objects: the one place where a document is judged (table: `objects.forms`).

A document is what YAML or JSON decodes to, or the raw JSON of a watch line. Parsing is total: it
gives the object, or the one Problem that says why not, or says that the kind is none of ours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

import msgspec

from smi_xds.objects.convert import restored
from smi_xds.objects.faults import ParseError, error_from, printable
from smi_xds.objects.forms import FORMS, HUB_WIRES, Form, MeshObject
from smi_xds.objects.metadata import CONVERTED_ANNOTATION, DEFAULT_NAMESPACE, is_name
from smi_xds.objects.smi import ACCESS_GROUP, SPECS_GROUP, SPLIT_GROUP
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef

__all__ = ["FORMS", "Form", "MeshObject"]  # the table is used where parsing is


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document that is one of our objects."""

    object: MeshObject


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that should be one; the name in `problem.ref` is empty where it has none."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Ignored:
    """A document of a kind that the mesh does not read."""


Outcome: TypeAlias = Parsed | Refused | Ignored


# Groups of which we know every kind: another version of them, or a misspelt kind, is a mistake
# that must not be passed over. Of "v1" and others we read only some kinds.
_OUR_GROUPS = {ACCESS_GROUP, SPECS_GROUP, SPLIT_GROUP}
# The CRDs of smi-sdk-go before v0.3.0 called the group so.
_OLD_SPECS_GROUP = "spec.smi-spec.io"


def parse(document: object) -> Outcome:
    """Parse one decoded document."""
    if not isinstance(document, Mapping):
        return _refused(
            document,
            ParseError(
                "", "the document is no Kubernetes object", "Write apiVersion, kind, metadata."
            ),
        )
    for field in ("apiVersion", "kind"):
        if not isinstance(document.get(field), str):
            return _refused(document, ParseError(field, "must be a string", f"Add {field}."))
    form = FORMS.get((document["apiVersion"], document["kind"]))
    if form is None:
        fault = _unknown_form(document["apiVersion"], document["kind"])
        return Ignored() if fault is None else _refused(document, fault)
    outcome = _built(document, form, form.wire)
    # The fields as written are judged first: their mistakes have the paths that the user knows.
    if isinstance(outcome, Parsed) and (whole := restored(document)) is not None:
        return _built(whole, form, HUB_WIRES[form.kind])
    return outcome


def _built(document: Mapping[str, object], form: Form, wire: type[msgspec.Struct]) -> Outcome:
    try:
        built = form.build(msgspec.convert(document, wire))
    except msgspec.ValidationError as error:
        return _refused(document, error_from(error, wire=wire, document=document))
    except ParseError as fault:
        return _refused(document, fault)
    return Ignored() if built is None else Parsed(built)


def parse_all(document: object) -> Iterator[Outcome]:
    """Parse one decoded document, or each item where it is a list (`kubectl get -o yaml`)."""
    pending = [document]
    while pending:
        document = pending.pop()
        items = _items(document)
        if items is None:
            yield parse(document)
        elif isinstance(items, list):
            pending.extend(reversed(items))
        else:
            fault = ParseError(
                "items", "must be a list", "Write it as a list: start entries with '- '."
            )
            yield _refused(document, fault)


def _items(document: object) -> object | None:
    """The items of a list, each with its kind; None for what is no list of ours."""
    if not isinstance(document, Mapping):
        return None
    api_version, kind = document.get("apiVersion"), document.get("kind")
    if not (isinstance(kind, str) and kind.endswith("List")):
        return None
    items: object = document.get("items") or []
    if (api_version, kind) == ("v1", "List"):
        return items
    if (api_version, kind.removesuffix("List")) not in FORMS:
        return None
    if not isinstance(items, list):
        return items
    # The API server leaves these two out of the items of a typed list.
    given = {"apiVersion": api_version, "kind": kind.removesuffix("List")}
    return [{**given, **item} if isinstance(item, Mapping) else item for item in items]


class JsonParser:
    """Parses raw JSON that is known to be of one form: the lines of a watch, items of a list."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(form.wire)

    def parse(self, raw: bytes | msgspec.Raw) -> Outcome:
        """Parse one object; `apiVersion` and `kind` may be missing, as in items of a list."""
        try:
            wire = self._decoder.decode(raw)
            if CONVERTED_ANNOTATION in (wire.metadata.annotations or ()):
                return self._parse_slowly(raw)
            built = self.form.build(wire)
        except (msgspec.DecodeError, ParseError, RecursionError, UnicodeDecodeError):
            return self._parse_slowly(raw)
        return Ignored() if built is None else Parsed(built)

    def _parse_slowly(self, raw: bytes | msgspec.Raw) -> Outcome:
        try:
            document = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            fault = ParseError("", f"is no JSON: {error}", "Send the object again.")
            return _refused({"kind": self.form.kind}, fault)
        if isinstance(document, dict):
            given = {"apiVersion": self.form.api_version, "kind": self.form.kind}
            document = {**given, **document}
        return parse(document)


def _unknown_form(api_version: str, kind: str) -> ParseError | None:
    """What is wrong with a kind that has no form; None where that is nobody's mistake."""
    group, _, version = api_version.rpartition("/")
    versions = sorted(
        v.rpartition("/")[2] for v, k in FORMS if k == kind and v.rpartition("/")[0] == group
    )
    if versions:
        return ParseError(
            "apiVersion",
            f"{kind} of version '{printable(version)}' is not supported",
            f"Write it as {', '.join(f'{group}/{v}' for v in versions)}.",
            code=ProblemCode.UNSUPPORTED_VERSION,
        )
    kinds = sorted({k for v, k in FORMS if v.rpartition("/")[0] == group})
    if group == _OLD_SPECS_GROUP:
        versions_now = (f"{SPECS_GROUP}/{version}", kind) in FORMS
        return ParseError(
            "apiVersion",
            f"the group {group} had this name only in early drafts",
            f"Write {SPECS_GROUP}/{version if versions_now else 'v1alpha4'}.",
            code=ProblemCode.UNSUPPORTED_VERSION,
        )
    if group in _OUR_GROUPS:
        near = get_close_matches(kind, kinds, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Use one of: {', '.join(kinds)}."
        return ParseError("kind", f"{group} has no kind '{printable(kind)}'", hint)
    for known in kinds:
        if known.lower() == kind.lower():
            return ParseError("kind", f"'{printable(kind)}' is not a kind", f"Write {known}.")
    return None


def _refused(document: object, fault: ParseError) -> Refused:
    return Refused(
        Problem(
            ref=ref_of(document),
            field=fault.field,
            code=fault.code,
            message=fault.message,
            cure=fault.cure,
        )
    )


def ref_of(document: object) -> ObjectRef:
    """What can be told of a document's identity, whatever else is wrong with it."""
    if not isinstance(document, Mapping):
        return ObjectRef("", "", "")
    kind = _text(document, "kind")
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return ObjectRef(kind, "", "")
    namespace = _text(metadata, "namespace") or DEFAULT_NAMESPACE
    return ObjectRef(kind, "" if kind == "Namespace" else namespace, _text(metadata, "name"))


def _text(document: Mapping[object, object], field: str) -> str:
    value = document.get(field)
    if not isinstance(value, str):
        return ""
    # Whole, where it is one: by it the object is found again that could be read before.
    return value if is_name(value) else printable(value)
