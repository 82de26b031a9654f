"""Reviews, as API servers post them to webhooks: read, and answered. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec

from smi_xds.objects.faults import printable
from smi_xds.web.monitoring import Reply


class Verdict(StrEnum):
    """How a review ended."""

    CONVERTED = "converted"
    """Each object is in the version that was asked for."""
    FAILED = "failed"
    """An object cannot be converted, so none was."""
    ALLOWED = "allowed"
    WARNED = "warned"
    """Allowed, with warnings."""
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    """It was no review."""
    TOO_LARGE = "too_large"
    LATE = "late"
    """Its body did not come, or there was no answer, in time."""
    UNANSWERED = "unanswered"
    """The asker hung up, or it was a bug of ours."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An answer, and what is counted of it."""

    reply: Reply
    verdict: Verdict
    kinds: Mapping[str, int] = field(default_factory=dict)
    """How many objects of each kind it was about, in the words of the asker."""


def _uncounted(_verdict: str, _kinds: Mapping[str, int], _seconds: float) -> None:
    """Nobody is interested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Something to post to."""

    answer: Callable[[bytes], Reviewed]
    """Called in a thread: it must not touch what the event loop writes."""
    limit: int
    """The largest body, in bytes."""
    count: Callable[[str, Mapping[str, int], float], None] = _uncounted
    """Called in the event loop, with the verdict, the kinds, and the seconds that it took."""


class BadReviewError(Exception):
    """The body is no review; the message is one line."""


Request: TypeAlias = Mapping[str, msgspec.Raw]
"""The fields of a request, not looked into yet."""

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)


def request_from(body: bytes, *, api_version: str, kind: str, most: int) -> Request:
    """The request of a review; BadReviewError where the body is none, or has too many values."""
    if is_crowded(body, most):
        raise BadReviewError(f"the body holds more than {most} values")
    review = _fields(body, f"the body is no {kind}")
    found = f"{text(review, 'apiVersion')} {text(review, 'kind')}"
    if found != f"{api_version} {kind}":
        raise BadReviewError(
            f"expected {api_version} {kind}, not {printable(found)}: "
            "correct the webhook's path and its review versions"
        )
    without_uid = f"the {kind} has no request with a uid"
    request = _fields(review.get("request", b"{}"), without_uid)
    if text(request, "uid") is None:
        raise BadReviewError(without_uid)
    return request


def is_crowded(body: bytes, most: int) -> bool:
    """Whether JSON may hold more values than that: each but the first follows one of these.

    A megabyte of the densest becomes 60 in Python; that of objects has a value for 15 bytes.
    """
    return sum(map(body.count, (b",", b"{", b"["))) > most


def text(request: Request, name: str) -> str | None:
    """A field that is a string; None for any other."""
    try:
        return _text.decode(request.get(name, b"null"))
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _no_json(error) from error


def value(request: Request, name: str) -> Any:
    """A field of any kind; None where it is not there."""
    try:
        return msgspec.json.decode(request.get(name, b"null"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error) from error


def _fields(raw: bytes | msgspec.Raw, otherwise: str) -> Request:
    try:
        return _parts.decode(raw)
    except msgspec.ValidationError as error:
        raise BadReviewError(otherwise) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error) from error


def _no_json(error: Exception) -> BadReviewError:
    return BadReviewError(f"the body is no JSON: {error}")


def answer(*, api_version: str, kind: str, response: Mapping[str, Any]) -> Reply:
    """A review with its response."""
    review = {"apiVersion": api_version, "kind": kind, "response": response}
    return Reply(HTTPStatus.OK, msgspec.json.encode(review), "application/json")


def refusal(error: BadReviewError) -> Reviewed:
    """What a body gets that is no review."""
    reply = Reply(HTTPStatus.BAD_REQUEST, f"{error}\n".encode())
    return Reviewed(reply, Verdict.UNREADABLE)
