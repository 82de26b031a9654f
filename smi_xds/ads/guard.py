"""Who stands at a door: lets callers in that prove who they are, and ends their streams in time.

A stream is ended when what it was opened with ends, and before anything is told to it that is
another's: as an observer of the cache the guard comes first in every round.
"""

import asyncio
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Protocol, TypeAlias

import grpc
import structlog

from smi_xds.ads.auth import (
    Authenticate,
    Credentials,
    Directory,
    Proof,
    Reason,
    Refused,
    denied,
    judge,
    unauthenticated,
)
from smi_xds.ads.limits import Limits
from smi_xds.ads.looking import looking
from smi_xds.ads.pace import Pace
from smi_xds.ads.session import Close, Refusal
from smi_xds.metrics import Counter

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# How often it is looked whether proofs have ended: tokens live for an hour, and end by a clock
# that is another machine's.
_LOOK_AGAIN: Final = 5.0

log = structlog.get_logger()


class Ending(Protocol):
    """A stream, as seen from here."""

    def end(self, close: Close) -> None:
        """End it; called at once, must not block."""


class Visit:
    """A caller that was let in, from its call to its end."""

    __slots__ = ("_guard", "_stream", "node", "pace", "proof")

    def __init__(self, guard: "Guard", proof: Proof, pace: Pace) -> None:
        self.proof = proof
        self.pace = pace
        """The same for all of its streams."""
        self.node = ""
        """The node that it is; empty until it said so."""
        self._guard = guard
        self._stream: Ending | None = None

    def enter(self, node: str) -> Close | None:
        """It says that it is this node: why it is not, or None where it is."""
        refused = judge(self.proof, node, self._guard.directory)
        if refused is not None:
            return self._guard.count(refused)
        self.node = node
        return None

    def began(self, stream: Ending) -> None:
        """Its stream, which may have to be ended."""
        self._stream = stream

    def silent(self) -> Close:
        """It asked for nothing."""
        text = "nothing was asked for on this stream"
        close = Close(Refusal.RESOURCE_EXHAUSTED, text)
        return self._guard.count(Refused(Reason.SILENT, close))

    def end(self, refused: Refused) -> None:
        """What let it in is over."""
        if self._stream is not None:
            self._stream.end(self._guard.count(refused))


class Guard:
    """Of one door. `refusals` counts whom it turned away, by reason."""

    def __init__(
        self,
        authenticate: Authenticate,
        directory: Directory,
        *,
        refusals: Counter,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self._authenticate = authenticate
        self._refusals = refusals
        self._limits = limits
        self._clock = clock
        self._visits: dict[Visit, None] = {}
        self._streams: Tally[str] = Tally()
        self._paces: dict[str, Pace] = {}
        """By caller. They outlive its streams: a new one is no new allowance."""
        self._edition: object = None

    async def ask(self, context: Context) -> Proof | Close:
        """Who calls, or what to tell it."""
        proof = await self._authenticate(credentials(context))
        return self.count(proof) if isinstance(proof, Refused) else proof

    @contextmanager
    def visit(self, proof: Proof) -> Iterator[Visit | Close]:
        """While the block runs, the caller has one more stream, unless it has too many."""
        most, subject = self._limits.streams_per_caller, proof.subject
        if self._streams[subject] >= most:
            text = f"one caller may have {most} streams: end some"
            close = Close(Refusal.RESOURCE_EXHAUSTED, text)
            yield self.count(Refused(Reason.TOO_MANY_STREAMS, close))
            return
        self._streams[subject] += 1
        visit = Visit(self, proof, self._pace_of(subject))
        self._visits[visit] = None
        try:
            yield visit
        finally:
            del self._visits[visit]
            self._streams[subject] -= 1
            if not self._streams[subject]:
                del self._streams[subject]

    def _pace_of(self, subject: str) -> Pace:
        pace = self._paces.get(subject)
        if pace is None:
            limits = self._limits
            pace = self._paces[subject] = Pace(rate=limits.request_rate, burst=limits.request_burst)
        return pace

    def count(self, refused: Refused) -> Close:
        """Account for a refusal; what the caller is told."""
        self._refusals.add(refused.reason.value)
        return refused.close

    # ------------------------------------------------------------------ those inside

    def round_begins(self, number: int, since: float | None = None) -> None:  # noqa: ARG002 - as all observers
        """End the streams of pods that are gone or others: this round is not for them."""
        edition = self.directory.edition
        if edition is self._edition:
            return
        self._edition = edition
        for visit in tuple(self._visits):
            if visit.node and (refused := judge(visit.proof, visit.node, self.directory)):
                visit.end(denied(Reason.REVOKED, refused.close.text))

    def round_published(self, number: int) -> None:
        """Nothing is left to do."""

    def ending_expired(self) -> AbstractContextManager[None]:
        """While the block runs, end streams whose proof has ended, and forget who is gone."""
        return looking(self._end_expired, every=_LOOK_AGAIN)

    def _end_expired(self) -> None:
        now = self._clock()
        for visit in tuple(self._visits):
            if visit.proof.expires <= now:
                text = "what this stream was opened with has expired: connect with something newer"
                visit.end(unauthenticated(Reason.EXPIRED, text))
        loop = asyncio.get_running_loop()
        for subject in [it for it, pace in self._paces.items() if pace.is_full(loop.time())]:
            if subject not in self._streams:
                del self._paces[subject]


def credentials(context: Context) -> Credentials:
    """What a call brought, in our words."""
    proved = context.auth_context()
    found = [*proved.get("x509_pem_cert_chain", ()), *proved.get("x509_pem_cert", ())]
    return Credentials(
        metadata=_metadata(context),
        certificate=found[0] if found else b"",
        host=context.peer().rpartition(":")[0],
    )


def _metadata(context: Context) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):  # binary ones are nobody's token
            found[key] = (*found.get(key, ()), value)
    return found
