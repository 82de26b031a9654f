"""Leaves, one per identity: signed when first asked for, kept, and renewed before they end.

`run` is the edge that waits; all else is plain functions of the clock it is given. A signature
takes 0.15 ms and does not let go of the interpreter, so a thread would not help: renewals are
spread by the leaves' own jitter, and done in slices with pauses in which the server serves.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from smi_xds.identity.ca import LEAF_LIFETIME, Authority, Leaf
from smi_xds.values import SpiffeId

Clock = Callable[[], datetime]

# Renewals are never urgent (a third of the life is left), so they take a tenth of the time:
# others wait for 4 signatures at most, 0.6 ms, and 5,000 identities are done in 7 s.
_SLICE = 4
_PAUSE = timedelta(milliseconds=5)
# The wall clock counts, and it jumps (a laptop that slept, a corrected time): it is looked at
# again and again instead of being awaited once. Short-lived leaves need it more often.
_LONGEST_NAP = timedelta(seconds=30)
_NAPS_PER_LIFETIME = 20
# Whatever the clock says when it is looked at again.
_AT_ONCE = datetime.min.replace(tzinfo=UTC)


def wall_clock() -> datetime:
    """The time by which certificates are judged."""
    return datetime.fromtimestamp(time.time(), UTC)


class Issuer:
    """The leaves in use; one writer, the event loop's thread."""

    def __init__(
        self,
        authority: Authority,
        *,
        clock: Clock = wall_clock,
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> None:
        self.authority = authority
        self._clock = clock
        self._lifetime = lifetime
        self._leaves: dict[SpiffeId, Leaf] = {}
        self.issued = 0
        """How many leaves were signed: while it stays, so does what `leaf` gives."""
        # When the holders of a leaf are to be told of a newer one: at its renewal, or at once
        # where `leaf` had to replace it for somebody who asked before `run` came by.
        self._deadlines: dict[SpiffeId, datetime] = {}

    def leaf(self, identity: SpiffeId) -> Leaf:
        """The leaf of an identity, signed now if there is none, or none that will do."""
        now = self._clock()
        leaf = self._leaves.get(identity)
        # Before its time: the clock went back.
        if leaf is None or not leaf.not_before <= now < leaf.renew_at:
            leaf = self.authority.issue(identity, now=now, lifetime=self._lifetime)
            self.issued += 1
            self._deadlines[identity] = _AT_ONCE if identity in self._leaves else leaf.renew_at
            self._leaves[identity] = leaf
        return leaf

    def next_renewal(self) -> datetime | None:
        """When something is due next; None while there are no leaves."""
        return min(self._deadlines.values(), default=None)

    def due(self, now: datetime) -> set[SpiffeId]:
        """Whose leaves are to be renewed, or were and their holders do not know yet."""
        return {
            identity
            for identity, deadline in self._deadlines.items()
            if deadline <= now or now < self._leaves[identity].not_before
        }

    def renew(self, identities: Collection[SpiffeId]) -> frozenset[SpiffeId]:
        """See to it that these have new leaves; tell the holders of those that come back."""
        renewed = frozenset(identities) & self._leaves.keys()
        for identity in renewed:
            self._deadlines[identity] = self.leaf(identity).renew_at
        return renewed

    def retain(self, identities: Collection[SpiffeId]) -> None:
        """Forget the leaves and keys of all others."""
        for identity in self._leaves.keys() - set(identities):
            del self._leaves[identity], self._deadlines[identity]

    def nap(self) -> timedelta:
        """How long to look away: until the next renewal, and never for long."""
        longest = min(_LONGEST_NAP, self._lifetime / _NAPS_PER_LIFETIME)
        deadline = self.next_renewal()
        wait = longest if deadline is None else deadline - self._clock()
        return max(min(wait, longest), timedelta(0))

    async def run(self, renewed: Callable[[frozenset[SpiffeId]], None]) -> NoReturn:
        """Renew what is due, for ever; `renewed` is told who is to be sent a new leaf."""
        while True:
            due = sorted(self.due(self._clock()))
            for start in range(0, len(due), _SLICE):
                if changed := self.renew(due[start : start + _SLICE]):
                    renewed(changed)
                await asyncio.sleep(_PAUSE.total_seconds())
            await asyncio.sleep(self.nap().total_seconds())
