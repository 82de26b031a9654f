"""The leader's work: looks at what is, and writes what objects do not say yet, one at a time.

`run` is a loop around `step`; what is written, and when, the desk decides.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NoReturn

import structlog

from smi_xds.problems import SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.values import ObjectRef
from smi_xds.writeback.backoff import Backoff
from smi_xds.writeback.conditions import is_told
from smi_xds.writeback.desk import Desk, Draft, Sight, Told
from smi_xds.writeback.lease import Leadership
from smi_xds.writeback.meters import Meters
from smi_xds.writeback.shelf import Api, Shelf
from smi_xds.writeback.times import time_text

log = structlog.get_logger()

# Seconds between two writes: 50 a second, one at a time. A thousand objects take twenty seconds,
# and an API server that is slow gets fewer.
PACE: Final = 0.02
# Writes after which to look again at what is.
BATCH: Final = 50
# Seconds between two looks; and no more than a tenth of the time is spent on them.
_LOOK: Final = 0.5
_SHARE: Final = 10
# Objects looked at before streams get their turn: about a millisecond.
_CHUNK: Final = 10
# Seconds after which all objects are read again, for those whose status somebody else changed.
_RELIST: Final = 600.0
# Seconds for which a kind is left alone that we may not write, and after which to look for what was
# not found.
_AGAIN: Final = 60.0
# Seconds for which those of a kind that could not be written go before the one that was refused.
_LAST: Final = 1.0
# Seconds for one write at most.
_ANSWER: Final = 10.0


class Writer:
    """Writes what became of objects; the state is the desk of one leadership."""

    def __init__(
        self,
        api: Api,
        leadership: Leadership,
        *,
        look: Callable[[], Sight | None],
        mark: Callable[[], object],
        namespaces: tuple[str, ...] = (),
        meters: Meters | None = None,
        pace: float = PACE,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.desk = Desk()
        self.meters = meters or Meters()
        self._api = api
        self._shelf = Shelf(api, namespaces)
        self._leadership = leadership
        self._look = look
        self._mark = mark
        """What differs whenever there is something new to look at; cheap to ask for."""
        self._pace = pace
        self._clock = clock
        self._wall_clock = wall_clock
        self._backoff = Backoff()
        self._seen: object = None
        self._next_look = 0.0
        self._next_list = 0.0
        self._muted: dict[str, float] = {}
        self._told: dict[str, str] = {}

    def api_version(self, ref: ObjectRef) -> str:
        """The `apiVersion` in which an object of ours is served."""
        kind = self._shelf.kind(ref.kind)
        return f"{kind.group}/{kind.version}"

    def begin(self) -> None:
        """It leads anew: what was known before may have been changed by another leader."""
        self.desk = Desk()
        self._seen, self._next_look, self._next_list = None, 0.0, 0.0
        self._muted.clear()

    async def run(self) -> NoReturn:
        """Go on for as long as it leads. Made as simple as possible: the steps are tested."""
        while True:
            pause = await self.step()
            await asyncio.sleep(pause)

    async def step(self) -> float:
        """Look, and write what is due; how long to wait before the next step."""
        try:
            await self._list_if_due()
            await self._look_if_due()
            self.desk.ripen(self._clock())
            await self._write_some()
        except (RefusedError, UnreachableError, TimeoutError) as error:
            return await self._failed(error)
        self._backoff.succeeded()
        return _LOOK if not self.desk.due(self._clock()) else 0.0

    # ------------------------------------------------------------------ looking

    async def _list_if_due(self) -> None:
        if self._clock() < self._next_list:
            return
        told, refused = await self._shelf.list_all()
        wait = _RELIST
        for kind, error in refused.items():
            if error.status == HTTPStatus.FORBIDDEN:
                self._tell(kind, str(error))
            else:  # of what it has nothing is known before it can be read
                wait = _AGAIN
        self.desk.take(told, unknown=refused)
        self._next_list, self._seen = self._clock() + wait, None

    async def _look_if_due(self) -> None:
        began = self._clock()
        mark = self._mark()
        if began < self._next_look or mark == self._seen:
            return
        sight = self._look()
        if sight is None:
            return
        spent, start, unchanged = 0.0, time.perf_counter(), self.desk.unchanged
        for number, _ in enumerate(self.desk.look(sight, began)):
            if number % _CHUNK == _CHUNK - 1:
                spent += time.perf_counter() - start
                await asyncio.sleep(0)
                start = time.perf_counter()
        spent += time.perf_counter() - start
        self.meters.status.add("unchanged", self.desk.unchanged - unchanged)
        self._seen, self._next_look = mark, self._clock() + max(_LOOK, _SHARE * spent)

    # ------------------------------------------------------------------ writing

    async def _write_some(self) -> None:
        for ref in self.desk.due(self._clock())[:BATCH]:
            if self._is_muted(ref):
                continue
            began = self._clock()
            try:
                # What is not answered while it leads may not be under way any more.
                async with asyncio.timeout(min(_ANSWER, self._leadership.left)):
                    await self._write(ref)
            except (UnreachableError, TimeoutError):
                # It may be about this object alone, where somebody's webhook hangs: others first.
                self.desk.retry(ref, self._clock())
                raise
            await asyncio.sleep(max(0.0, self._pace - (self._clock() - began)))

    async def _write(self, ref: ObjectRef) -> None:
        draft = await self._draft(ref)
        if draft is None or not self._leadership.is_leader:
            return
        try:
            told = await self._shelf.write(draft, now=time_text(self._wall_clock()))
        except RefusedError as error:
            return await self._refused(ref, error)
        if not is_told(draft.conditions, told.conditions):
            return self._mute(ref, "its CRD keeps no conditions")
        self.desk.written(ref, told, self._clock())
        self.meters.status.add("written")
        log.debug("status_written", object=str(ref), generation=draft.generation)

    async def _draft(self, ref: ObjectRef) -> Draft | None:
        """What is to be written, after it was read where that is needed."""
        draft = self.desk.draft(ref, self._clock())
        if draft is None or draft.told is not None:
            return draft
        try:
            told = await self._shelf.read(ref)
        except RefusedError as error:
            await self._refused(ref, error)
            return None
        if told is None:
            self._drop(ref)
            return None
        self.desk.found(ref, told)
        return self.desk.draft(ref, self._clock())

    def _drop(self, ref: ObjectRef) -> None:
        self.desk.drop(ref)
        self.meters.status.add("gone")
        # Or it is served in another version by now: the list will tell.
        self._next_list = min(self._next_list, self._clock() + _AGAIN)

    async def _refused(self, ref: ObjectRef, error: RefusedError) -> None:
        match error.status:
            case HTTPStatus.CONFLICT | HTTPStatus.UNPROCESSABLE_ENTITY:
                self.desk.unsure(ref, self._clock())
                self.meters.status.add("outdated")
                if " is invalid: " in str(error):  # no test that failed, but a schema of others
                    self._tell(ref.kind, str(error))
            case HTTPStatus.NOT_FOUND:
                await self._not_found(ref)
            case HTTPStatus.FORBIDDEN:
                self._mute(ref, str(error), is_forbidden=True)
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.TOO_MANY_REQUESTS:
                raise error
            case _:
                # It may be about this object alone, which is converted by a webhook that is down.
                self.desk.retry(ref, self._clock())
                raise error

    async def _not_found(self, ref: ObjectRef) -> None:
        try:
            found = await self._shelf.read(ref)
        except RefusedError:
            self.desk.retry(ref, self._clock())
            raise
        if found is None:
            self._drop(ref)
        else:
            self._mute(ref, "its CRD has no subresource `status`")

    # ------------------------------------------------------------------ what cannot be

    def _is_muted(self, ref: ObjectRef) -> bool:
        until = self._muted.get(ref.kind, 0.0)
        if until <= self._clock():
            return False
        self.desk.put_off(ref, until)
        return True

    def _mute(self, ref: ObjectRef, reason: str, *, is_forbidden: bool = False) -> None:
        """Leave a kind alone for a while; its problems are told in events all the same."""
        until = self._clock() + (_AGAIN if is_forbidden else _RELIST)
        self._muted[ref.kind] = until
        self.desk.report(ref)
        # After all others of its kind: who refuses may mean this object alone.
        self.desk.put_off(ref, until + _LAST)
        self.meters.status.add("forbidden" if is_forbidden else "failed")
        self._tell(ref.kind, reason)

    async def _failed(self, error: Exception) -> float:
        """The API server is not there, or has too much to do."""
        self.meters.status.add("failed")
        pause = self._backoff.failed(error)
        reason = str(error) or "no answer in time"
        log.debug("status_not_written", reason=reason, pause=pause)
        if isinstance(error, RefusedError) and error.status == HTTPStatus.UNAUTHORIZED:
            with suppress(SourceError):  # the source tells of it
                await self._api.renew()
        return pause

    def _tell(self, what: str, reason: str) -> None:
        if self._told.get(what) != reason:
            log.warning(
                "status_refused",
                what=what,
                reason=reason,
                cure="Run smi-xds install, or apply deploy/crds and let smi-xds get, list and "
                "patch these and their /status; or serve with --no-write-back.",
            )
        self._told[what] = reason


__all__ = ["PACE", "Sight", "Told", "Writer"]
