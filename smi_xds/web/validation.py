"""POST /validate: AdmissionReview of admission.k8s.io/v1.

Refused is only what can never work (it cannot be read), and an update by which a restriction is
lost that its writer could not see. Everything else that is wrong is a warning: it may become right
when other objects come. Pure, so a dry run is like any other.
"""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec

from smi_xds.objects.convert import convert, would_widen
from smi_xds.objects.faults import ParseError
from smi_xds.objects.fields import COMMON, mapping, without
from smi_xds.objects.parse import Ignored, Parsed, Refused, parse, ref_of
from smi_xds.objects.smi import SmiObject
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.problems import Problem, ProblemCode
from smi_xds.web.review import (
    BadReviewError,
    Request,
    Reviewed,
    Verdict,
    answer,
    refusal,
    request_from,
    text,
    value,
)

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"

# Where all warnings have more than 4096 characters, API servers cut each after 256.
_MOST_WARNINGS: Final = 10
_LONGEST_WARNING: Final = 400
# Bytes of all annotations of an object, with their names (an API server's limit).
_ANNOTATIONS: Final = 256 << 10
# Of both objects: one of 1.5 MiB, the most that is stored, has 170,000.
_MOST_VALUES: Final = 500_000

Foresee: TypeAlias = Callable[[SmiObject], tuple[Problem, ...]]
"""What the mesh would say of an object."""


def validate_review(body: bytes, *, foresee: Foresee) -> Reviewed:
    """Allow or refuse one change of one object, and warn of what is wrong with it."""
    try:
        request = request_from(body, api_version=API_VERSION, kind=KIND, most=_MOST_VALUES)
        new = value(request, "object")
        judged = _judged(request, new, foresee)
    except BadReviewError as error:
        return refusal(error)
    response = {"uid": text(request, "uid"), **judged}
    reply = answer(api_version=API_VERSION, kind=KIND, response=response)
    return Reviewed(reply, _verdict(judged), {str(mapping(new).get("kind")): 1})


def _verdict(judged: Mapping[str, Any]) -> Verdict:
    if not judged["allowed"]:
        return Verdict.REFUSED
    return Verdict.WARNED if "warnings" in judged else Verdict.ALLOWED


def _judged(request: Request, new: object, foresee: Foresee) -> Mapping[str, Any]:
    if text(request, "operation") not in {"CREATE", "UPDATE"}:
        return {"allowed": True}  # what goes can restrict nothing any more, nor be in the way
    old = value(request, "oldObject")
    if not isinstance(new, dict):
        raise BadReviewError(f"the request of an {KIND} has no object")
    document = _named(new, request)
    match parse(document):
        case Refused(problem):
            if isinstance(old, dict) and _fields(old) == _fields(new):
                # It was there before us, or before a version of us that judges so. Its finalizers
                # must be removable, or it could never be deleted.
                return _allowed([problem])
            return _denied(problem, HTTPStatus.UNPROCESSABLE_ENTITY, reason="Invalid")
        case Ignored():
            return {"allowed": True}
        case Parsed(it):
            dropped = _widening(old, document) if isinstance(old, dict) else None
            if dropped is not None:
                return _denied(dropped, HTTPStatus.FORBIDDEN, reason="Forbidden")
            large = _too_large(document)
            if large is not None and not (isinstance(old, dict) and _fields(old) == _fields(new)):
                return _denied(large, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason="Invalid")
            found = foresee(it) if isinstance(it, SmiObject) else ()
            return _allowed(found)
    raise AssertionError("parsing is total")


def _named(new: Mapping[str, Any], request: Request) -> Mapping[str, Any]:
    """With what may be known to the request alone: a name that is to be made, the namespace."""
    metadata = mapping(new.get("metadata"))
    made = f"{metadata['generateName']}x" if metadata.get("generateName") else None
    given = {
        "name": metadata.get("name") or text(request, "name") or made,
        "namespace": metadata.get("namespace") or text(request, "namespace"),
    }
    given = {key: value for key, value in given.items() if value}
    return {**new, "metadata": {**metadata, **given}}


def _fields(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return without(document, *(COMMON - {"apiVersion", "kind"}))


def _widening(old: Mapping[str, Any], new: Mapping[str, Any]) -> Problem | None:
    try:
        return would_widen(old, new)
    except ParseError:
        return None  # of what was there before nothing is known, so nothing can be lost


def _too_large(document: Mapping[str, Any]) -> Problem | None:
    """What makes it one that some version cannot show; no list of that version could be read."""
    kind = SMI_KINDS.get(str(document.get("kind")))
    whole = len(msgspec.json.encode(without(document, "status")))
    if kind is None or whole < _ANNOTATIONS:  # what is kept in an annotation is less than all
        return None
    for version in kind.versions:
        metadata = mapping(convert(document, version).get("metadata"))
        size = sum(
            len(key.encode()) + len(str(value).encode())
            for key, value in mapping(metadata.get("annotations")).items()
        )
        if size > _ANNOTATIONS:
            return Problem(
                ref=ref_of(document),
                field="",
                code=ProblemCode.INVALID_OBJECT,
                message=f"is too large to be read in {version}: what that version has no field for "
                "is kept in an annotation, and all of them may have 256 KiB",
                cure="Write several objects, or fewer annotations.",
            )
    return None


def _denied(problem: Problem, code: HTTPStatus, *, reason: str) -> Mapping[str, Any]:
    status = {"code": int(code), "reason": reason, "message": _told(problem)}
    return {"allowed": False, "status": status}


def _allowed(problems: Iterable[Problem]) -> Mapping[str, Any]:
    told = [_told(problem)[:_LONGEST_WARNING] for problem in sorted(problems)]
    if len(told) > _MOST_WARNINGS:
        more = len(told) - _MOST_WARNINGS
        told = [*told[:_MOST_WARNINGS], f"and {more} more: see smi-xds check --kubernetes"]
    return {"allowed": True, **({"warnings": told} if told else {})}


def _told(problem: Problem) -> str:
    """As the log tells it. With the object: kubectl names none, and shows equal warnings once."""
    place = f"{problem.ref} {problem.field}".rstrip()
    return f"{place}: {problem.message} [{problem.code}] {problem.cure}"
