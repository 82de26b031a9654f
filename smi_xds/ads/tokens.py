"""Tokens of pods: read, reviewed by whoever issued them, and remembered for a while.

What a token says of itself is believed only where it speaks against it: it saves the question.
Tokens are remembered by their hash, never as they are.
"""

import asyncio
import binascii
import hashlib
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import msgspec
import structlog

from smi_xds.ads.auth import (
    Credentials,
    PodProof,
    Proof,
    Reason,
    Refused,
    unauthenticated,
)
from smi_xds.ads.session import Close, Refusal
from smi_xds.ads.turns import Turns
from smi_xds.values import ProxyId, Secret, ServiceAccountRef

AUDIENCE: Final = "smi-xds"
"""For whom the tokens of sidecars are; those for an API server are none of our business."""

# A yes is asked for again after this time, or when the token ends: an account that was deleted
# has its tokens refused by then. That pods are deleted is known from the source, at once.
_FRESH: Final = 300.0
# A no is kept so that one who tries again and again asks nobody. A token does not become good.
_REFUSED: Final = 10.0
# How many of each: a mesh twice as large as the largest we speak of, and what a page of memory
# for forged ones costs. Who forges fills the second list alone.
_KEPT, _KEPT_REFUSED = 20_000, 2_000
# Reviews at a time; an API server answers some hundred a second and has others to serve. Who
# comes with forged tokens, always new ones, from one address keeps no more than its share busy.
_AT_ONCE, _AT_ONCE_FROM_ONE = 32, 4
# How long one may wait for its turn and answer: Envoy gives up a first configuration after 15 s.
_PATIENCE: Final = 10.0
# A clock of ours that is ahead of the issuer's must not refuse what is good, nor end its streams.
_SKEW: Final = 60.0
# Tokens of pods have 1 to 2 kB; gRPC takes headers of 8.
_LONGEST: Final = 8192
_SCHEME: Final = "bearer "

log = structlog.get_logger()


class ReviewError(Exception):
    """The token could not be reviewed; the text says why, for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What its issuer says of a token."""

    authenticated: bool
    account: ServiceAccountRef | None = None
    pod: str = ""
    """Name of the pod that it is bound to, in the account's namespace; empty where to none."""
    uid: str = ""
    error: str = ""


class Reviewer(Protocol):
    """Who issued the tokens."""

    async def review(self, token: Secret, *, audience: str) -> Review:
        """Whether it is good, and whose; ReviewError where there is no answer."""


class _Claims(msgspec.Struct):
    exp: float = 0.0
    aud: str | list[str] = ""


_claims = msgspec.json.Decoder(_Claims)

_Verdict: TypeAlias = Proof | Refused


@dataclass(frozen=True, slots=True)
class _Kept:
    verdict: _Verdict
    until: float
    """When to ask again."""
    ends: float
    """When the token does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    key: bytes
    token: Secret
    claims: _Claims
    host: str


_UNREVIEWED: Final = Refused(
    Reason.UNREVIEWED,
    Close(Refusal.UNAVAILABLE, "the API server cannot be asked about this token: try again"),
)


class Tokens:
    """Judges tokens; one per server, in one event loop."""

    def __init__(
        self,
        reviewer: Reviewer,
        group: asyncio.TaskGroup,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reviewer = reviewer
        self._group = group
        self._clock = clock
        self._turns = Turns(_AT_ONCE, of_one_host=_AT_ONCE_FROM_ONE)
        self._good: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bad: OrderedDict[bytes, _Kept] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[_Verdict]] = {}
        self.reviews = 0
        """How often the reviewer was asked."""
        self._trouble = ""

    async def __call__(self, credentials: Credentials, /) -> _Verdict:
        """Who brought this token, or why it is nobody."""
        token = _bearer(credentials.metadata)
        if isinstance(token, Refused):
            return token
        now = self._clock()
        claims = _read(token)
        if claims is None:
            return unauthenticated(Reason.INVALID_TOKEN, "this is no token of a pod")
        if (refused := _refuted(claims, now)) is not None:
            return refused
        key = hashlib.sha256(token.value).digest()
        for kept in (self._good.get(key), self._bad.get(key)):
            if kept is not None and now < kept.until:
                return kept.verdict
        question = _Question(key=key, token=token, claims=claims, host=credentials.host)
        return await self._ask(question)

    def stop(self) -> None:
        """Wait for no answer any more."""
        for task in self._asking.values():
            task.cancel()

    async def _ask(self, question: _Question) -> _Verdict:
        """Ask, or wait for the answer that another one of the same token waits for."""
        task = self._asking.get(question.key)
        if task is None:
            task = self._group.create_task(self._review(question), name="token-review")
            self._asking[question.key] = task
            task.add_done_callback(lambda _: self._asking.pop(question.key, None))
        # Not `await task`: a caller that leaves would take the answer from all others.
        await asyncio.wait({task})
        return _UNREVIEWED if task.cancelled() else task.result()

    async def _review(self, question: _Question) -> _Verdict:
        try:
            async with asyncio.timeout(_PATIENCE), self._turns.of(question.host):
                self.reviews += 1
                review = await self._reviewer.review(question.token, audience=AUDIENCE)
        except (ReviewError, TimeoutError) as error:
            return self._without_answer(question.key, str(error) or "no answer in time")
        verdict = _verdict(review, question.claims)
        self._keep(question.key, verdict, ends=question.claims.exp)
        if self._trouble:
            self._trouble = ""
            log.info("token_reviews_resumed")
        return verdict

    def _without_answer(self, key: bytes, reason: str) -> _Verdict:
        """A token that was good is good until it ends; another one has to come back."""
        if not self._trouble:
            log.warning(
                "token_reviews_failed",
                reason=reason,
                message="sidecars with tokens that are not known yet cannot connect",
            )
        self._trouble = reason
        kept = self._good.get(key)
        if kept is not None and self._clock() < kept.ends:
            return kept.verdict
        return _UNREVIEWED

    def _keep(self, key: bytes, verdict: _Verdict, *, ends: float) -> None:
        now = self._clock()
        self._good.pop(key, None)
        if isinstance(verdict, Refused):
            _put(self._bad, key, _Kept(verdict, now + _REFUSED, ends), most=_KEPT_REFUSED)
        else:
            _put(self._good, key, _Kept(verdict, min(now + _FRESH, ends), ends), most=_KEPT)


@asynccontextmanager
async def judging_tokens(
    reviewer: Reviewer, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Tokens]:
    """Judge tokens while the block runs."""
    async with asyncio.TaskGroup() as group:
        tokens = Tokens(reviewer, group, clock=clock)
        try:
            yield tokens
        finally:
            tokens.stop()


def _put(kept: OrderedDict[bytes, _Kept], key: bytes, value: _Kept, *, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


def _bearer(metadata: Mapping[str, tuple[str, ...]]) -> Secret | Refused:
    values = metadata.get("authorization", ())
    if not values:
        text = f"a token for the audience {AUDIENCE} is needed: authorization: Bearer TOKEN"
        return unauthenticated(Reason.NO_CREDENTIAL, text)
    # Two would leave open who it is.
    [value, *more] = values
    scheme, token = value[: len(_SCHEME)], value[len(_SCHEME) :].strip()
    if more or scheme.lower() != _SCHEME or not token or len(token) > _LONGEST:
        return unauthenticated(Reason.INVALID_TOKEN, "this is not one bearer token")
    return Secret(token.encode())


def _read(token: Secret) -> _Claims | None:
    """What it says of itself (RFC 7519); None where it has not the form of a signed one."""
    parts = token.value.split(b".")
    if len(parts) != 3 or not all(parts):  # header, claims, signature (RFC 7515, section 7.1)
        return None
    claims = parts[1]
    try:
        return _claims.decode(urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return None


def _refuted(claims: _Claims, now: float) -> Refused | None:
    """Why nobody need be asked about it."""
    if claims.exp + _SKEW <= now:
        return _expired()
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if AUDIENCE not in audiences:
        text = f"this token is not for the audience {AUDIENCE}"
        return unauthenticated(Reason.WRONG_AUDIENCE, text)
    return None


def _expired() -> Refused:
    return unauthenticated(Reason.EXPIRED_TOKEN, "this token has expired: bring a new one")


def _verdict(review: Review, claims: _Claims) -> _Verdict:
    """`claims` are true where the review is good."""
    if not review.authenticated:
        text = "the API server does not take this token"
        return unauthenticated(Reason.INVALID_TOKEN, text)
    if review.account is None or not (review.pod and review.uid):
        text = "this token is bound to no pod: project one into the pod"
        return unauthenticated(Reason.NOT_BOUND, text)
    return PodProof(
        pod=ProxyId(review.account.namespace, review.pod),
        uid=review.uid,
        account=review.account,
        expires=claims.exp + _SKEW,
    )
