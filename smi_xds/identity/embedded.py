"""Leaves of our own authority: signed when first asked for, kept, and renewed before they end.

`run` is the edge that waits; all else is plain functions of the clock it is given. A signature
takes 0.2 ms and does not let go of the interpreter, so a thread would not help: all but a few are
made in slices, with pauses in which the server serves. With thousands of leaves a round must not
look at all of them: what `ask` finds is kept, and handed out as a changed copy.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Final, NoReturn

from smi_xds.identity.ca import LEAF_LIFETIME, Authority, Leaf
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.issuer import Clock, Standing, wall_clock
from smi_xds.objects.snapshot import Snapshot
from smi_xds.problems import IdentityError
from smi_xds.values import SpiffeId

# As many are signed on the spot, in 8 ms: small meshes are complete in one round.
AT_ONCE: Final = 50
# Others wait for 4 signatures at most, 0.6 ms.
_SLICE: Final = 4
# Workloads wait for what is missing: it takes a third of the time, and 5,000 are done in 2.5 s.
_SHORT_PAUSE: Final = timedelta(milliseconds=1)
# Renewals are never urgent (a third of the life is left), so they take a tenth: 5,000 in 7 s.
_LONG_PAUSE: Final = timedelta(milliseconds=5)
# Each telling is a round of the pipeline, in which others wait for as many secrets to be made.
_TOLD_TOGETHER: Final = 16
# The wall clock counts, and it jumps (a laptop that slept, a corrected time): it is looked at
# again and again instead of being awaited once. Short-lived leaves need it more often.
_LONGEST_NAP: Final = timedelta(seconds=30)
_NAPS_PER_LIFETIME: Final = 20

_ALWAYS: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
# The order of identities themselves, five times as fast.
_RANK: Final = attrgetter("trust_domain", "path")


class EmbeddedIssuer:
    """The leaves in use, signed by an authority that is here."""

    def __init__(
        self,
        authority: Authority | CurrentAuthority,
        *,
        clock: Clock = wall_clock,
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> None:
        self._current = CurrentAuthority.of(authority)
        self._current.follow(self._adopt)
        # By which the leaves are signed, but for those outdated.
        self._signers = self._current.now.signers
        self._clock = clock
        self._lifetime = lifetime
        self._asked: Collection[SpiffeId] = ()
        self._wanted: frozenset[SpiffeId] = frozenset()
        # All of them are valid at any time that is in `_validity`.
        self._leaves: Snapshot[SpiffeId, Leaf] = Snapshot()
        self._is_handed_out = False
        self._validity = _ALWAYS
        # In the order in which they are signed.
        self._missing: dict[SpiffeId, None] = {}
        self._refused: dict[SpiffeId, str] = {}
        # Whose leaf is of a former signer.
        self._outdated: set[SpiffeId] = set()
        self._changes = 0
        self._wake = asyncio.Event()

    @property
    def trust_bundle(self) -> bytes:
        """The roots by which peers are judged, PEM."""
        return self._current.trust_bundle

    @property
    def changes(self) -> int:
        """How many leaves were signed or refused, and authorities adopted."""
        return self._changes

    @property
    def is_settled(self) -> bool:
        """Whether all who are to have a leaf have one of the signer of now."""
        return not self._outdated and not self.missing()

    def ask(self, identities: Collection[SpiffeId], /) -> Standing:
        """What there is; a few that are missing are signed now, many are left to `run`."""
        if identities is not self._asked:
            self._want(identities)
        if len(self.missing()) <= AT_ONCE:
            for identity in tuple(self._missing):
                self._sign(identity)
        self._is_handed_out = True
        return Standing(leaves=self._leaves, refused=dict(self._refused))

    def _want(self, identities: Collection[SpiffeId]) -> None:
        self._asked, self._wanted = identities, frozenset(identities)
        for identity in self._leaves.keys() - self._wanted:
            self._keep(identity, None)
        for identity in self._refused.keys() - self._wanted:
            del self._refused[identity]
        self._outdated &= self._wanted
        self._look_for_missing()

    def missing(self) -> Sequence[SpiffeId]:
        """Who has no valid leaf, and is not refused."""
        now = self._clock()
        start, end = self._validity
        if not start <= now < end:
            for identity, leaf in tuple(self._leaves.items()):
                if not leaf.not_before <= now < leaf.not_after:  # a clock may go back
                    self._keep(identity, None)
            self._validity = _ALWAYS
            for leaf in self._leaves.values():
                self._narrow(leaf)
            self._look_for_missing()
        return tuple(self._missing)

    def _look_for_missing(self) -> None:
        have = self._leaves.keys() | self._refused.keys()
        found = sorted((it for it in self._wanted if it not in have), key=_RANK)
        if len(found) > AT_ONCE and not self._missing.keys() >= set(found):
            self._wake.set()
        self._missing = dict.fromkeys(found)

    def due(self) -> Sequence[SpiffeId]:
        """Who is to get another leaf, or was refused, which may be over."""
        now = self._clock()
        old = {
            it for it, leaf in self._leaves.items() if not leaf.not_before <= now < leaf.renew_at
        }
        return sorted(old | self._outdated | self._refused.keys(), key=_RANK)

    def nap(self) -> timedelta:
        """How long to look away: until the next renewal, and never for long."""
        longest = min(_LONGEST_NAP, self._lifetime / _NAPS_PER_LIFETIME)
        renewal = min((leaf.renew_at for leaf in self._leaves.values()), default=None)
        # What was due a moment ago could not be signed: it is tried again after a while.
        wait = longest if renewal is None else renewal - self._clock()
        return min(wait, longest) if wait > timedelta(0) else longest

    async def run(self, changed: Callable[[], object], /) -> NoReturn:
        """Sign what is missing, renew what is due, for ever."""
        while True:
            self._wake.clear()
            await self._sign_all(self.missing(), changed, pause=_SHORT_PAUSE)
            await self._sign_all(self.due(), changed, pause=_LONG_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.nap().total_seconds()):
                    await self._wake.wait()

    async def _sign_all(
        self, identities: Sequence[SpiffeId], changed: Callable[[], object], *, pause: timedelta
    ) -> None:
        """Sign them slice by slice, unless something more urgent comes between."""
        told = self._changes
        for start in range(0, len(identities), _SLICE):
            for identity in identities[start : start + _SLICE]:
                self._sign_if_needed(identity)
            if self._changes - told >= _TOLD_TOGETHER:
                changed()
                told = self._changes
            await asyncio.sleep(pause.total_seconds())
            if self._wake.is_set():
                break
        if self._changes != told:
            changed()

    def _sign_if_needed(self, identity: SpiffeId) -> None:
        """Sign one that is still wanted, and that nobody had signed meanwhile."""
        now, leaf = self._clock(), self._leaves.get(identity)
        good = leaf is not None and leaf.not_before <= now < leaf.renew_at
        if identity in self._wanted and (not good or identity in self._outdated):
            self._sign(identity)

    def _adopt(self, authority: Authority) -> None:
        """Sign by this one from now on; leaves carry its certificates, or are replaced."""
        if authority.signers != self._signers:
            self._signers = authority.signers
            self._outdated |= self._leaves.keys()
        # What the former one refused, this one may sign.
        self._missing.update(dict.fromkeys(it for it in self._refused if it not in self._leaves))
        self._refused.clear()
        self._changes += 1
        self._wake.set()

    def _sign(self, identity: SpiffeId) -> None:
        try:
            leaf = self._current.now.issue(identity, now=self._clock(), lifetime=self._lifetime)
        except IdentityError as error:
            if self._refused.get(identity) != str(error):
                self._refused[identity] = str(error)
                self._missing.pop(identity, None)
                self._changes += 1
            return
        self._keep(identity, leaf)
        self._narrow(leaf)
        self._missing.pop(identity, None)
        self._refused.pop(identity, None)
        self._outdated.discard(identity)
        self._changes += 1

    def _keep(self, identity: SpiffeId, leaf: Leaf | None) -> None:
        if self._is_handed_out:
            self._leaves, self._is_handed_out = Snapshot(self._leaves), False
        self._leaves.write(identity, leaf)

    def _narrow(self, leaf: Leaf) -> None:
        start, end = self._validity
        self._validity = max(start, leaf.not_before), min(end, leaf.not_after)
