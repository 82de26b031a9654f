"""The authority while the server runs: its state is followed, reported to, and led on.

Every replica reads the state again and again, serves by it, and writes down how far its proxies
are. The leader also decides: that a root is due, that files were replaced, that a phase is over.
Whatever is written is written over what was read, so that a second leader does no harm.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NoReturn

import structlog

from smi_xds.app.distribution import Distribution, Tally
from smi_xds.config import BroughtConfig
from smi_xds.identity.brought import Brought, read_brought
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.document import Phase, Report, State
from smi_xds.identity.issuer import Clock, wall_clock
from smi_xds.identity.rotation import adopt, advance, begin, is_due, reported
from smi_xds.identity.signer import create_signer
from smi_xds.identity.state import (
    ConflictError,
    ExpiredStateError,
    StateStore,
    Stored,
    UnreachableStateError,
    files_of,
    new_state,
    read_state,
    state_of,
)
from smi_xds.problems import IdentityError

# How often a replica says that it is alive, while somebody waits for that.
_REPORTS_PER_FLOOR: Final = 8
# Proxies answer one by one; not each answer is worth a write.
_REPORT_EVERY: Final = timedelta(seconds=1)
# Nobody is behind whom nobody serves yet: proxies come back to a server that was restarted when
# Envoy's pause is over (`xds.bootstrap`: up to 5 s). Before that it does not speak for them.
_RETURNING: Final = timedelta(seconds=10)
# Before the first state there is nothing that could be served.
_TRY_AGAIN: Final = 2.0
_LOOK_AGAIN: Final = 0.02

log = structlog.get_logger()


class Keeper:
    """Keeps `current` what the state says; the state here is what was read last."""

    def __init__(
        self,
        store: StateStore,
        *,
        floor: timedelta,
        name: str,
        brought: BroughtConfig | None = None,
        every: float = 1.0,
        is_leader: Callable[[], bool] = lambda: True,
        clock: Clock = wall_clock,
    ) -> None:
        self.is_leader = is_leader
        self._store = store
        self._floor = floor
        self._name = name
        self._files = brought
        self._every = every
        self._clock = clock
        self._brought: Brought | None = None
        self._stored = Stored(files={}, version="")
        self._state: State | None = None
        self._current: CurrentAuthority | None = None
        # Since when the epoch of now is served here; None while it is not yet everywhere.
        self._served_since: datetime | None = None
        # When proxies have had the time to come back; None where nobody serves.
        self._speaks_from: datetime | None = None
        self._told = ""

    @property
    def current(self) -> CurrentAuthority:
        """The authority of now."""
        assert self._current is not None, "opened first"
        return self._current

    @property
    def state(self) -> State:
        """As it was read last."""
        assert self._state is not None, "opened first"
        return self._state

    async def open(self, trust_domain: str) -> None:
        """Read the state, or make the first; IdentityError says what hinders it."""
        while True:
            try:
                await self._open(trust_domain)
            except UnreachableStateError as error:
                self._tell(str(error))
                await asyncio.sleep(_TRY_AGAIN)
            if self._state is not None:
                return
            await asyncio.sleep(_LOOK_AGAIN)  # somebody was faster

    async def _open(self, trust_domain: str) -> None:
        now = self._clock()
        self._stored = await self._store.read()
        try:
            state = read_state(self._stored, self._store, now=now, trust_domain=trust_domain)
        except ExpiredStateError as error:
            if self._files is None:
                raise
            state = error.state
        if self._files is not None:
            # What cannot be used is an error now; later it would be a line in the log.
            domain = trust_domain if state is None else state.active.trust_domain
            self._brought = read_brought(self._files, trust_domain=domain, now=now)
            if state is not None and now >= state.active.not_after:
                state = adopt(state, self._brought.signer, now=now)
                await self._write_first(state, created=False)
                return
        if state is None:
            state = (
                new_state(self._stored, self._store, trust_domain=trust_domain, now=now)
                if self._brought is None
                else state_of(self._brought.signer, now=now)
            )
            await self._write_first(state, created=True)
            return
        self._take(state, created=False)
        # Whoever served before this process reported it, or the floor waits for it.
        self._served_since = state.began

    async def _write_first(self, state: State, *, created: bool) -> None:
        """Begin with another state than was read; where somebody was faster, look again."""
        with suppress(ConflictError):
            await self._store.write(files_of(state), over=self._stored)
            self._stored = await self._store.read()
            written = read_state(self._stored, self._store, now=self._clock())
            self._take(written or state, created=created)

    async def run(self, distribution: Distribution) -> NoReturn:
        """Follow, report and lead, for ever."""
        self.current.follow(lambda _: self._begins(distribution))
        self._begins(distribution)
        self._speaks_from = self._clock() + _RETURNING
        while True:
            await self.step(distribution)
            await asyncio.sleep(self._every)

    async def step(self, distribution: Distribution) -> None:
        """Once."""
        try:
            await self._follow()
            if (changed := self._reported(self.state, distribution.look())) is not None:
                await self._write(changed)
            if self.is_leader() and (changed := self._led(self.state)) is not None:
                await self._write(changed)
            self._told = ""
        except ConflictError:
            pass  # somebody else wrote: the next look sees it
        except IdentityError as error:
            # What is served already goes on.
            self._tell(str(error))

    # ------------------------------------------------------------------ following

    async def _follow(self) -> None:
        stored = await self._store.read()
        if stored.version == self._stored.version:
            return
        try:
            state = read_state(stored, self._store, now=self._clock())
        except ExpiredStateError as error:
            state = error.state  # what takes over from it is decided below
        self._stored = stored
        if state is None:
            # Lost: what others trust is known here still.
            log.warning("authority_restored", where=self._store.where())
            await self._write(self.state)
            return
        self._take(state, created=False)

    def _take(self, state: State, *, created: bool) -> None:
        before, self._state = self._state, state
        authority = state.authority(created=created)
        if self._current is None:
            self._current = CurrentAuthority(authority)
            return
        assert before is not None
        if state.epoch != before.epoch:
            self._served_since = None
            log.info("authority_changed", phase=state.phase.value, epoch=state.epoch)
        self._current.replace(authority)

    def _begins(self, distribution: Distribution) -> None:
        authority = self.current.now
        distribution.begins(everything=bool(authority.aliases))

    async def _write(self, state: State) -> None:
        await self._store.write(files_of(state), over=self._stored)
        await self._follow()

    # ------------------------------------------------------------------ reporting

    def _reported(self, state: State, tally: Tally | None) -> State | None:
        """The state with what is to be said, None where that is known or nobody waits for it."""
        now = self._clock()
        is_asked = state.phase is not Phase.STEADY or (
            # For operators: who still trusts what is gone.
            state.epoch > 1 and now < state.began + self._floor
        )
        if tally is None or not is_asked:
            return None
        if self._speaks_from is not None and now < self._speaks_from:
            return None
        if self._served_since is None:
            self._served_since = now
        known = state.replicas.get(self._name)
        if known is not None and now - known.at < self._patience(known, tally):
            return None
        report = Report(
            since=self._served_since,
            at=now,
            floor=self._floor,
            waiting=tally.waiting,
            refusing=tally.refusing,
            named=tally.named,
        )
        return reported(state, self._name, report)

    def _patience(self, known: Report, tally: Tally) -> timedelta:
        said = (known.waiting, known.refusing, known.named, known.floor)
        if said != (tally.waiting, tally.refusing, tally.named, self._floor):
            return min(_REPORT_EVERY, self._floor / _REPORTS_PER_FLOOR)
        return self._floor / _REPORTS_PER_FLOOR

    # ------------------------------------------------------------------ leading

    def _led(self, state: State) -> State | None:
        """The next state, if it is time for one."""
        now = self._clock()
        if state.phase is Phase.STEADY:
            return self._renewed(state, now)
        ours = state.replicas.get(self._name)
        if ours is None or (after := advance(state, now=now)) is None:
            return None
        log.info("rotation_goes_on", before=state.phase.value, after=after.phase.value)
        return after

    def _renewed(self, state: State, now: datetime) -> State | None:
        if self._files is not None:
            domain = state.signer.trust_domain
            self._brought = read_brought(
                self._files, trust_domain=domain, now=now, last=self._brought
            )
            if self._brought.signer.is_same(state.signer):
                return None if state.signer.brought else self._own(state)
            log.info("authority_brought", file=str(self._files.chain))
            return adopt(state, self._brought.signer, now=now)
        if is_due(state, now=now):
            log.info("root_due", ends=state.signer.not_after.isoformat())
            return begin(state, create_signer(state.signer.trust_domain, now=now), now=now)
        return None

    def _own(self, state: State) -> State:
        """It was ours, and is the operator's from now on."""
        return replace(state, signer=replace(state.signer, brought=True))

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            log.error("authority_troubled", reason=reason)
        self._told = reason
