"""POST /convert: ConversionReview of apiextensions.k8s.io/v1.

API servers send objects of one group, and in one review all those of a list that are not kept in
the version that was asked for. What they ask of us: the same number and order, and of the metadata
nothing changed but labels and annotations. Pure.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from smi_xds.objects.convert import convert
from smi_xds.objects.faults import ParseError, printable
from smi_xds.objects.fields import mapping
from smi_xds.objects.parse import ref_of
from smi_xds.web.review import (
    BadReviewError,
    Reviewed,
    Verdict,
    answer,
    refusal,
    request_from,
)

API_VERSION: Final = "apiextensions.k8s.io/v1"
KIND: Final = "ConversionReview"


def convert_review(body: bytes) -> Reviewed:
    """Convert all objects, or say which cannot be and why: then none is."""
    try:
        return _answer(request_from(body, api_version=API_VERSION, kind=KIND))
    except BadReviewError as error:
        return refusal(error)


def _answer(request: Mapping[str, Any]) -> Reviewed:
    uid, objects, desired = (request.get(it) for it in ("uid", "objects", "desiredAPIVersion"))
    if not isinstance(objects, list) or not isinstance(desired, str):
        raise BadReviewError(f"the request of a {KIND} needs objects and desiredAPIVersion")
    verdict = Verdict.CONVERTED
    try:
        converted = [_converted(it, place, desired) for place, it in enumerate(objects)]
        response: Mapping[str, Any] = {
            "uid": uid,
            "convertedObjects": converted,
            "result": {"status": "Success"},
        }
    except _ConversionError as error:
        # Without an empty list, some versions of API servers count null as missing.
        result = {"status": "Failure", "message": str(error)}
        response = {"uid": uid, "convertedObjects": [], "result": result}
        verdict = Verdict.FAILED
    reply = answer(api_version=API_VERSION, kind=KIND, response=response)
    return Reviewed(reply, verdict, Counter(str(mapping(it).get("kind")) for it in objects))


class _ConversionError(Exception):
    """One object cannot be converted."""


def _converted(document: object, place: int, desired: str) -> msgspec.Raw:
    """Encoded at once: what cannot be written is this object's fault, not the whole review's."""
    if not isinstance(document, Mapping):
        raise _ConversionError(f"objects[{place}] is no object")
    try:
        return msgspec.Raw(msgspec.json.encode(convert(document, _version(document, desired))))
    except ParseError as error:
        why = f"{error.field}: {error.message}. {error.cure}"
        raise _ConversionError(f"{ref_of(document)} {why}") from error
    except RecursionError as error:
        raise _ConversionError(f"{ref_of(document)} is nested too deeply") from error


def _version(document: Mapping[str, Any], desired: str) -> str:
    group, _, version = desired.rpartition("/")
    found = str(document.get("apiVersion")).rpartition("/")[0]
    if group != found:
        raise ParseError(
            "apiVersion",
            f"is of the group '{printable(found)}', and '{printable(desired)}' was asked for",
            "Ask for a version of its own group.",
        )
    return version
