"""Reviews, as API servers post them to webhooks: read, and answered. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

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


def request_from(body: bytes, *, api_version: str, kind: str) -> Mapping[str, Any]:
    """The request of a review; BadReviewError where the body is none."""
    try:
        review = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadReviewError(f"the body is no JSON: {error}") from error
    if not isinstance(review, dict):
        raise BadReviewError(f"the body is no {kind}")
    found = f"{review.get('apiVersion')} {review.get('kind')}"
    if found != f"{api_version} {kind}":
        raise BadReviewError(
            f"expected {api_version} {kind}, not {printable(found)}: "
            "correct the webhook's path and its review versions"
        )
    request = review.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise BadReviewError(f"the {kind} has no request with a uid")
    return request


def answer(*, api_version: str, kind: str, response: Mapping[str, Any]) -> Reply:
    """A review with its response."""
    review = {"apiVersion": api_version, "kind": kind, "response": response}
    return Reply(HTTPStatus.OK, msgspec.json.encode(review), "application/json")


def refusal(error: BadReviewError) -> Reviewed:
    """What a body gets that is no review."""
    reply = Reply(HTTPStatus.BAD_REQUEST, f"{error}\n".encode())
    return Reviewed(reply, Verdict.UNREADABLE)
