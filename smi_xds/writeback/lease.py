"""Who of the replicas writes: the holder of a Lease (coordination.k8s.io/v1).

Clocks of other machines are not believed: a lease has run out when it did not change for its whole
duration as measured here, and a leader counts from before it asked. So it stops seconds before
anybody may follow, even where it is cut off, or was not running for a while.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn, Protocol

import msgspec
import structlog

from smi_xds.metrics import Gauge
from smi_xds.problems import SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.writeback.times import micro_time

log = structlog.get_logger()

# Seconds, as in client-go: others may take over after DURATION without a sign of life; the leader
# stops by itself after RENEW, which leaves five seconds for whatever it had under way.
DURATION: Final = 15
RENEW: Final = 10.0
RETRY: Final = 2.0
# Two tries that get no answer fit into RENEW.
_ANSWER: Final = 4.0
# On the way out somebody waits for the process to end.
_RELEASE: Final = 2.0


class Api(Protocol):
    """As much of an API server as is needed."""

    async def read(self, path: str, /) -> bytes:
        """RefusedError or UnreachableError where it cannot be."""

    async def send(self, method: str, path: str, body: bytes = b"", /) -> bytes:
        """Ask for a change; fails in the same ways."""

    async def renew(self) -> None:
        """Read the credentials again."""


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct, rename="camel"):
    metadata: dict[str, Any]
    """As it came: labels of others stay, and the version tells who was faster."""
    spec: _Spec = msgspec.field(default_factory=_Spec)
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


def unique_identity() -> str:
    """A name that no other process has, nor this pod after a restart."""
    return f"{socket.gethostname()}_{os.urandom(4).hex()}"


class Leadership:
    """Whether this process is the leader, for those who act only then."""

    def __init__(self, identity: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.identity = identity
        self.holder = ""
        """Who leads, as far as was seen; empty for nobody."""
        self._clock = clock
        self._until = 0.0
        self._changed = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        """Whether it may write now; says no by itself once the lease was not renewed in time."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Seconds for which it leads if nothing happens; what is not done by then may not be."""
        return max(0.0, self._until - self._clock())

    async def wait(self) -> None:
        """Wait until it is the leader."""
        while not self.is_leader:
            await self._changed.wait()

    async def ends(self) -> None:
        """Wait until it is not."""
        while left := self.left:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def extend(self, until: float) -> None:
        """The lease is held until then."""
        self.holder = self.identity
        self._set(until)

    def end(self, holder: str) -> None:
        """Somebody else has it, or nobody."""
        self.holder = holder
        self._set(0.0)

    def gauge(self) -> Gauge:
        """For operators: over all replicas this adds up to one."""
        return Gauge(
            "smi_xds_is_leader",
            "Whether this replica is the one that writes to the API server.",
            lambda: {"": float(self.is_leader)},
        )

    def _set(self, until: float) -> None:
        self._until = until
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class _Seen:
    """The lease as it was last, and since when it is so by our clock."""

    lease: _Lease
    since: float

    @property
    def has_holder(self) -> bool:
        return bool(self.lease.spec.holder_identity)

    def is_over(self, now: float) -> bool:
        """Whether its holder gave no sign of life for as long as it asked to be waited for."""
        duration = self.lease.spec.lease_duration_seconds or DURATION
        return now - self.since > duration


class Elector:
    """Takes the lease and keeps it; the state is what was seen of it."""

    def __init__(
        self,
        api: Api,
        leadership: Leadership,
        *,
        namespace: str,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._leadership = leadership
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._namespace = namespace
        self._clock = clock
        self._wall_clock = wall_clock
        self._seen: _Seen | None = None
        self._led = False
        self._told = ""

    @property
    def leadership(self) -> Leadership:
        """What comes of it."""
        return self._leadership

    async def run(self) -> NoReturn:
        """For ever."""
        while True:
            await self.step()
            # Replicas that start together do not ask together for ever.
            await asyncio.sleep(RETRY * random.uniform(1.0, 1.2))  # noqa: S311 - jitter

    async def step(self) -> None:
        """Try once to take or to renew it."""
        try:
            async with asyncio.timeout(_ANSWER):
                await self._try()
            self._told = ""
        except RefusedError as error:
            await self._refused(error)
        except (UnreachableError, TimeoutError) as error:
            self._tell(str(error) or "no answer in time")
        self._note()

    async def release(self) -> None:
        """Stop being the leader at once, and let somebody else be it without waiting."""
        was_leader, seen = self._leadership.is_leader, self._seen
        self._leadership.end("")
        self._led = False
        if not was_leader or seen is None:
            return
        spec = msgspec.structs.replace(
            seen.lease.spec, holder_identity=None, lease_duration_seconds=1
        )
        with suppress(RefusedError, UnreachableError, TimeoutError):  # it runs out by itself
            async with asyncio.timeout(_RELEASE):
                await self._give_back(spec, seen)

    async def _give_back(self, spec: _Spec, seen: _Seen) -> None:
        try:
            await self._put(spec, seen)
        except RefusedError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            # The renewal that the end cut off has arrived all the same.
            seen = self._observed(_lease(await self._api.read(f"{self._folder}/{self._name}")))
            if not self._is_ours(seen):
                return
            await self._put(spec, seen)
        log.info("leadership_released")

    async def _try(self) -> None:
        seen = self._seen
        if seen is not None and self._is_ours(seen):
            try:
                # Most of the time nobody else has touched it: one request instead of two.
                return await self._take(seen)
            except RefusedError as error:
                if error.status not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                    raise
        await self._look_and_take()

    async def _look_and_take(self) -> None:
        try:
            body = await self._api.read(f"{self._folder}/{self._name}")
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            # Somebody removed it, and somebody else may have made it anew already.
            self._leadership.end("")
            return await self._create()
        seen = self._seen = self._observed(_lease(body))
        if self._is_ours(seen) or not seen.has_holder or seen.is_over(self._clock()):
            await self._take(seen)
        else:
            self._leadership.end(seen.lease.spec.holder_identity or "")

    def _observed(self, lease: _Lease) -> _Seen:
        last = self._seen
        if last is not None and last.lease.spec == lease.spec:
            return _Seen(lease, last.since)
        return _Seen(lease, self._clock())

    def _is_ours(self, seen: _Seen) -> bool:
        return seen.lease.spec.holder_identity == self._leadership.identity

    async def _take(self, seen: _Seen) -> None:
        began, now, old = self._clock(), micro_time(self._wall_clock()), seen.lease.spec
        ours = self._is_ours(seen)
        spec = _Spec(
            holder_identity=self._leadership.identity,
            lease_duration_seconds=DURATION,
            acquire_time=old.acquire_time if ours else now,
            renew_time=now,
            lease_transitions=(old.lease_transitions or 0) + (not ours),
        )
        self._hold(await self._put(spec, seen), since=began)

    async def _create(self) -> None:
        began, now = self._clock(), micro_time(self._wall_clock())
        spec = _Spec(
            holder_identity=self._leadership.identity,
            lease_duration_seconds=DURATION,
            acquire_time=now,
            renew_time=now,
            lease_transitions=0,
        )
        metadata = {"name": self._name, "namespace": self._namespace}
        body = msgspec.json.encode(_Lease(metadata, spec))
        self._hold(_lease(await self._api.send("POST", self._folder, body)), since=began)

    async def _put(self, spec: _Spec, seen: _Seen) -> _Lease:
        # With the version that was seen: of two who want it, one is refused.
        lease = msgspec.structs.replace(seen.lease, spec=spec)
        path = f"{self._folder}/{self._name}"
        return _lease(await self._api.send("PUT", path, msgspec.json.encode(lease)))

    def _hold(self, lease: _Lease, *, since: float) -> None:
        self._seen = _Seen(lease, since)
        # From before the request was sent: whoever follows counts from when its effect was seen.
        self._leadership.extend(since + RENEW)

    async def _refused(self, error: RefusedError) -> None:
        match error.status:
            case HTTPStatus.CONFLICT:
                pass  # somebody was faster: the next look tells who
            case HTTPStatus.UNAUTHORIZED:
                self._tell(str(error))
                with suppress(SourceError):  # told already: the old ones are refused
                    await self._api.renew()
            case _:
                self._tell(str(error))

    def _tell(self, reason: str) -> None:
        if self._told != reason:
            log.warning(
                "lease_unavailable",
                lease=f"{self._namespace}/{self._name}",
                reason=reason,
                cure="It is tried again; where that is refused, let smi-xds get, create and update "
                "leases in that namespace. Until then nothing is written to the API server, and "
                "serving goes on.",
            )
        self._told = reason

    def _note(self) -> None:
        """Log what changed."""
        leads = self._leadership.is_leader
        if leads and not self._led:
            log.info("leading", identity=self._leadership.identity)
        elif self._led and not leads:
            log.warning("leadership_lost", holder=self._leadership.holder)
        self._led = leads


def _lease(body: bytes) -> _Lease:
    try:
        return msgspec.json.decode(body, type=_Lease)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreachableError(f"what is no Lease: {error}") from error
