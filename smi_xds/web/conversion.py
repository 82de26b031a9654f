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
from smi_xds.objects.parse import ref_of
from smi_xds.web.review import (
    BadReviewError,
    Request,
    Reviewed,
    Verdict,
    answer,
    is_crowded,
    refusal,
    request_from,
    text,
)

API_VERSION: Final = "apiextensions.k8s.io/v1"
KIND: Final = "ConversionReview"

# Of a whole list: 15,000 TrafficSplits of Flagger, with managedFields and conditions.
_MOST_VALUES: Final = 2_000_000
# One object, as it may be stored (etcd takes 1.5 MiB unless told otherwise), with some to spare.
_LARGEST: Final = 3 << 20
_MOST_IN_ONE: Final = 500_000
# All that is given back; in other words, and with what the annotation keeps, objects grow.
_LARGEST_ANSWER: Final = 48 << 20

_items = msgspec.json.Decoder(list[msgspec.Raw])


def convert_review(body: bytes) -> Reviewed:
    """Convert all objects, or say which cannot be and why: then none is."""
    try:
        return _answer(request_from(body, api_version=API_VERSION, kind=KIND, most=_MOST_VALUES))
    except BadReviewError as error:
        return refusal(error)


def _answer(request: Request) -> Reviewed:
    objects, desired = _objects(request), text(request, "desiredAPIVersion")
    if objects is None or desired is None:
        raise BadReviewError(f"the request of a {KIND} needs objects and desiredAPIVersion")
    verdict, uid = Verdict.CONVERTED, text(request, "uid")
    try:
        response: Mapping[str, Any] = {
            "uid": uid,
            "convertedObjects": _all_converted(objects, desired),
            "result": {"status": "Success"},
        }
    except _ConversionError as error:
        # Without an empty list, some versions of API servers count null as missing.
        result = {"status": "Failure", "message": str(error)}
        response = {"uid": uid, "convertedObjects": [], "result": result}
        verdict = Verdict.FAILED
    reply = answer(api_version=API_VERSION, kind=KIND, response=response)
    return Reviewed(reply, verdict, Counter(map(_kind, objects)))


def _objects(request: Request) -> list[msgspec.Raw] | None:
    try:
        return _items.decode(request.get("objects", b"null"))
    except msgspec.ValidationError:
        return None


class _Kinded(msgspec.Struct):
    kind: str = "None"


_kinded = msgspec.json.Decoder(_Kinded)


def _kind(raw: msgspec.Raw) -> str:
    try:
        return _kinded.decode(raw).kind
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "None"


class _ConversionError(Exception):
    """One object cannot be converted."""


def _all_converted(objects: list[msgspec.Raw], desired: str) -> list[msgspec.Raw]:
    converted, size = [], 0
    for place, raw in enumerate(objects):
        converted.append(_converted(raw, place, desired))
        size += len(bytes(converted[-1]))
        if size > _LARGEST_ANSWER:
            raise _ConversionError(f"the first {place + 1} objects are too large: ask for fewer")
    return converted


def _document(raw: msgspec.Raw, place: int) -> Mapping[str, Any]:
    # One after the other: what Python makes of them all together takes many times their size.
    body = bytes(raw)
    if len(body) > _LARGEST or is_crowded(body, _MOST_IN_ONE):
        raise _ConversionError(f"objects[{place}] is larger than an API server keeps")
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _ConversionError(f"objects[{place}] cannot be read: {error}") from error
    if not isinstance(document, Mapping):
        raise _ConversionError(f"objects[{place}] is no object")
    return document


def _converted(raw: msgspec.Raw, place: int, desired: str) -> msgspec.Raw:
    """Encoded at once: what cannot be written is this object's fault, not the whole review's."""
    document = _document(raw, place)
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
