"""Problems as Events (events.k8s.io/v1), which `kubectl describe` shows beside the object.

An event is named by the hash of what it tells of: whoever leads next finds it there, and a
problem that comes back makes a series of it instead of another one.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, NoReturn

import msgspec
import structlog
from xxhash import xxh3_64_hexdigest

from smi_xds.problems import Problem, SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.values import ObjectRef
from smi_xds.writeback.backoff import Backoff
from smi_xds.writeback.meters import Meters
from smi_xds.writeback.shelf import MANAGER, Api
from smi_xds.writeback.times import micro_time

log = structlog.get_logger()

# Seconds between two events: ten a second. They are for people, and expire.
PACE: Final = 0.1
# Events that wait. What is beyond it is told by conditions, metrics and the log.
_LONGEST_QUEUE: Final = 2000
# Names of events that we know to be there: a series needs the count of the last one.
_REMEMBERED: Final = 5000
# Seconds between two looks whether there is something to tell.
_IDLE: Final = 0.5
# Seconds for one event at most.
_ANSWER: Final = 10.0
# events.k8s.io/v1: the longest note, in bytes.
_LONGEST_NOTE: Final = 1024


class Recorder:
    """Posts one event after the other; the state is what was posted."""

    def __init__(
        self,
        api: Api,
        *,
        identity: str,
        api_version: Callable[[ObjectRef], str],
        meters: Meters | None = None,
        pace: float = PACE,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.meters = meters or Meters()
        self._api = api
        self._identity = identity
        self._api_version = api_version
        self._pace = pace
        self._wall_clock = wall_clock
        self._backoff = Backoff()
        self._counts: dict[str, int] = {}
        self._told = ""

    def begin(self) -> None:
        """It leads anew: what was told before stands in the API server."""
        self._counts.clear()

    async def run(self, news: Callable[[], dict[Problem, str]]) -> NoReturn:
        """Go on for as long as it leads; what was told is taken out of the news."""
        while True:
            pause = await self.step(news())
            await asyncio.sleep(pause)

    async def step(self, news: dict[Problem, str]) -> float:
        """Tell the first of the news; how long to wait before the next step."""
        while len(news) > _LONGEST_QUEUE:
            news.popitem()
            self.meters.events.add("lost")
        if not news:
            return _IDLE
        problem, uid = next(iter(news.items()))
        try:
            async with asyncio.timeout(_ANSWER):
                result = await self._record(problem, uid)
        except (RefusedError, UnreachableError, TimeoutError) as error:
            if (lost := self._lost(error)) is None:
                self.meters.events.add("failed")
                await self._after(error)
                if problem in news:  # it may be about this one alone: others first
                    news[problem] = news.pop(problem)
                return self._backoff.failed(error)
            result = lost
        news.pop(problem, None)
        self._backoff.succeeded()
        self.meters.events.add(result)
        return self._pace

    async def _after(self, error: Exception) -> None:
        if isinstance(error, RefusedError) and error.status == HTTPStatus.UNAUTHORIZED:
            with suppress(SourceError):  # the source tells of it
                await self._api.renew()

    def _lost(self, error: Exception) -> str | None:
        """How to count what need not be tried again; None for all else."""
        if not isinstance(error, RefusedError):
            return None
        match error.status:
            case HTTPStatus.FORBIDDEN if "terminated" not in str(error):
                self._tell(str(error))
                return "forbidden"
            case (
                HTTPStatus.FORBIDDEN  # the namespace is going
                | HTTPStatus.NOT_FOUND  # it is gone
                | HTTPStatus.BAD_REQUEST
                | HTTPStatus.UNPROCESSABLE_ENTITY
            ):
                return "lost"
            case _:
                return None

    async def _record(self, problem: Problem, uid: str) -> str:
        name = event_name(problem, uid)
        if (count := self._counts.get(name)) is not None:
            with suppress(_GoneError):
                await self._repeat(problem.ref.namespace, name, count + 1)
                self._remember(name, count + 1)
                return "repeated"
        event = event_of(
            problem,
            uid,
            api_version=self._api_version_of(problem.ref),
            instance=self._identity,
            now=micro_time(self._wall_clock()),
        )
        try:
            await self._api.send("POST", _folder(problem.ref.namespace), msgspec.json.encode(event))
        except RefusedError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            # A leader before us told it.
            self._remember(name, 1)
            return "known"
        self._remember(name, 1)
        return "posted"

    async def _repeat(self, namespace: str, name: str, count: int) -> None:
        series = {"count": count, "lastObservedTime": micro_time(self._wall_clock())}
        try:
            await self._api.send(
                "PATCH",
                f"{_folder(namespace)}/{name}",
                msgspec.json.encode({"series": series}),
                content_type="application/merge-patch+json",
                params={"fieldManager": MANAGER},
            )
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise _GoneError from error  # they expire after an hour

    def _remember(self, name: str, count: int) -> None:
        self._counts.pop(name, None)
        self._counts[name] = count
        if len(self._counts) > _REMEMBERED:
            del self._counts[next(iter(self._counts))]

    def _api_version_of(self, ref: ObjectRef) -> str:
        return "v1" if ref.kind in ("Pod", "Service") else self._api_version(ref)

    def _tell(self, reason: str) -> None:
        if self._told != reason:
            log.warning(
                "events_refused",
                reason=reason,
                cure="Let smi-xds create and patch events.events.k8s.io.",
            )
        self._told = reason


class _GoneError(Exception):
    """The event expired."""


def event_name(problem: Problem, uid: str) -> str:
    """The same for the same problem of the same object, whoever tells it."""
    what = "\0".join((uid, problem.code, problem.field, problem.message))
    # A name has 253 characters at most (RFC 1123).
    return f"{problem.ref.name[:200].rstrip('.-')}.{xxh3_64_hexdigest(what.encode())}"


def event_of(
    problem: Problem, uid: str, *, api_version: str, instance: str, now: str
) -> dict[str, Any]:
    """The event that tells of a problem."""
    ref = problem.ref
    where = f"{problem.field}: " if problem.field else ""
    message = problem.message if problem.message.endswith(".") else f"{problem.message}."
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": event_name(problem, uid), "namespace": ref.namespace},
        "eventTime": now,
        "reportingController": MANAGER,
        "reportingInstance": instance[:128],
        "action": "Check",
        "type": "Warning",
        "reason": problem.code.value,
        "regarding": {
            "apiVersion": api_version,
            "kind": ref.kind,
            "namespace": ref.namespace,
            "name": ref.name,
            "uid": uid,
        },
        "note": _note(f"{where}{message} {problem.cure}"),
    }


def _note(text: str) -> str:
    raw = text.encode()
    if len(raw) <= _LONGEST_NOTE:
        return text
    return raw[: _LONGEST_NOTE - 3].decode(errors="ignore") + "…"


def _folder(namespace: str) -> str:
    return f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
