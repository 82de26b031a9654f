"""What the proxies of other replicas have: told to the leader in a Lease of each replica.

A replica that does not lead says who is connected to it, who owes an answer and who refuses
something, soon after each round and every few seconds. It says so through the API server from
which it also reads objects: whoever is cut off falls silent, and is not counted.
"""

import base64
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec
import structlog
from xxhash import xxh3_64_hexdigest

from smi_xds.ads.status import StreamStatus, Sync
from smi_xds.problems import SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.values import ProxyId
from smi_xds.writeback.times import micro_time

log = structlog.get_logger()

ANNOTATION: Final = "smi-xds.io/proxies"
LABEL: Final = "smi-xds.io/replica-of"

# Seconds between two looks of either side.
TICK: Final = 2.0
# Seconds after a round for which a replica goes on telling at every look: answers come meanwhile.
_BUSY: Final = 8.0
# Seconds between two signs of life where nothing happens; and without one until nobody is counted.
_ALIVE, _SILENT = 4.0, 20.0
# Seconds without one until what is left of a replica is removed.
_GONE: Final = 300.0
# What an object may have of annotations is 256 kB.
_LARGEST: Final = 200_000
# Of what a proxy says.
_LONGEST_ERROR: Final = 500


class Api(Protocol):
    """As much of an API server as is needed."""

    async def read(self, path: str, /) -> bytes:
        """RefusedError or UnreachableError where it cannot be."""

    async def send(self, method: str, path: str, body: bytes = b"", /) -> bytes:
        """Ask for a change; fails in the same ways."""

    async def renew(self) -> None:
        """Read the credentials again."""


async def _renewed(api: Api, error: RefusedError) -> None:
    """Where the credentials have ended: who only tells, or only listens, has nobody to do it."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        with suppress(SourceError):  # the source tells of it
            await api.renew()


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """The proxies of one replica: all, those that owe an answer, those that refuse something."""

    nodes: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    refusing: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Remote:
    """What another replica said last, and when that was heard."""

    heard: float
    nodes: frozenset[ProxyId]
    behind: frozenset[ProxyId] = frozenset()
    refusing: Mapping[ProxyId, str] = field(default_factory=dict)


def report_of(streams: Iterable[StreamStatus]) -> Report:
    """What this replica has to say of its own."""
    nodes: set[str] = set()
    behind: set[str] = set()
    refusing: dict[str, str] = {}
    for stream in streams:
        node = stream.node.id
        nodes.add(node)
        if stream.behind_since or not stream.was_settled:
            behind.add(node)
        for _, status in sorted(stream.types.items()):
            if status.sync is Sync.NACKED:
                refusing.setdefault(node, status.error[:_LONGEST_ERROR])
    return Report(tuple(sorted(nodes)), tuple(sorted(behind)), dict(sorted(refusing.items())))


def encoded(report: Report) -> str:
    """As an annotation; empty where it would be too large for one."""
    text = base64.b64encode(zlib.compress(msgspec.json.encode(report))).decode()
    return text if len(text) <= _LARGEST else ""


def remote_from(text: str, heard: float) -> Remote:
    """What an annotation says; nobody where it is none of ours."""
    report = Report()
    with suppress(ValueError, zlib.error, msgspec.DecodeError):
        raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 16_000_000)
        report = msgspec.json.decode(raw, type=Report)
    return Remote(
        heard,
        frozenset(_proxies(report.nodes)),
        frozenset(_proxies(report.behind)),
        {proxy: report.refusing[str(proxy)] for proxy in _proxies(report.refusing)},
    )


def _proxies(nodes: Iterable[str]) -> Iterable[ProxyId]:
    for node in nodes:
        with suppress(ValueError):
            yield ProxyId.parse(node)


@dataclass(frozen=True, slots=True)
class Place:
    """Where replicas tell each other: the namespace, and the name of the lease that one holds."""

    namespace: str
    lease: str

    @property
    def folder(self) -> str:
        """The path of all leases there."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    def own(self, identity: str) -> str:
        """The name of the lease of one replica."""
        return f"{self.lease}-{xxh3_64_hexdigest(identity.encode())}"


class Announcer:
    """Tells what the proxies of this replica have; the state is what was told."""

    def __init__(
        self,
        api: Api,
        place: Place,
        *,
        identity: str,
        report: Callable[[], Report],
        rounds: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._place = place
        self._name = place.own(identity)
        self._identity = identity
        self._report = report
        self._rounds = rounds
        self._clock = clock
        self._wall_clock = wall_clock
        self._metadata: dict[str, Any] | None = None
        self._said: str | None = None
        self._said_at = self._busy_until = 0.0
        self._round = 0
        self._told = ""

    async def step(self) -> None:
        """Tell it, if there is something new or nothing was said for a while."""
        now, text, number = self._clock(), encoded(self._report()), self._rounds()
        if number != self._round:
            self._round, self._busy_until = number, now + _BUSY
        is_due = now <= self._busy_until or now - self._said_at >= _ALIVE
        if text == self._said and not is_due:
            return
        try:
            await self._say(text)
            self._said, self._said_at, self._told = text, now, ""
        except RefusedError as error:
            # Somebody removed or changed it: made anew, or read, next time.
            self._metadata = None
            await _renewed(self._api, error)
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                self._tell(str(error))
        except (UnreachableError, TimeoutError):
            pass  # nothing is written to the API server either

    async def withdraw(self) -> None:
        """It leads, or ends: nobody has to hear of its proxies any more."""
        if self._metadata is None:
            return
        self._metadata = self._said = None
        with suppress(RefusedError, UnreachableError, TimeoutError):
            await self._api.send("DELETE", f"{self._place.folder}/{self._name}")

    async def _say(self, text: str) -> None:
        if self._metadata is None:
            self._metadata = await self._existing()
        method, path = ("PUT", f"{self._place.folder}/{self._name}")
        if self._metadata is None:
            method, path = "POST", self._place.folder
        body = msgspec.json.encode(self._lease(self._metadata or {}, text))
        answer = msgspec.json.decode(await self._api.send(method, path, body))
        self._metadata = answer["metadata"]

    async def _existing(self) -> dict[str, Any] | None:
        try:
            body = await self._api.read(f"{self._place.folder}/{self._name}")
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        metadata: dict[str, Any] = msgspec.json.decode(body)["metadata"]
        return metadata

    def _lease(self, metadata: Mapping[str, Any], text: str) -> dict[str, Any]:
        ours = {
            "name": self._name,
            "namespace": self._place.namespace,
            "labels": {LABEL: self._place.lease},
            "annotations": {ANNOTATION: text},
        }
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(_SILENT),
            "renewTime": micro_time(self._wall_clock()),
        }
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**metadata, **ours},
            "spec": spec,
        }

    def _tell(self, reason: str) -> None:
        if self._told != reason:
            log.warning("replica_unheard", reason=reason, cure=_CURE)
        self._told = reason


_CURE: Final = (
    "Let smi-xds get, list, create, update and delete leases in that namespace; until then "
    "conditions count the proxies of the leader alone."
)


@dataclass(frozen=True, slots=True)
class _Heard:
    version: str
    remote: Remote


class Replicas:
    """What the leader hears of the others; the state is the last of each."""

    def __init__(
        self, api: Api, place: Place, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.heard = 0
        """Moves whenever something was heard."""
        self._api = api
        self._place = place
        self._clock = clock
        self._known: dict[str, _Heard] = {}
        self._told = ""

    def begin(self) -> None:
        """It leads anew."""
        self._known.clear()

    @property
    def remotes(self) -> tuple[Remote, ...]:
        """Those that gave a sign of life lately."""
        now = self._clock()
        return tuple(it.remote for it in self._known.values() if now - it.remote.heard <= _SILENT)

    async def step(self) -> None:
        """Listen to all of them."""
        try:
            path = f"{self._place.folder}?labelSelector={LABEL}%3D{self._place.lease}"
            found = msgspec.json.decode(await self._api.read(path))["items"]
            self._take({it["metadata"]["name"]: it for it in found})
            await self._clear()
            self._told = ""
        except RefusedError as error:
            if self._told != str(error):
                log.warning("replica_unheard", reason=str(error), cure=_CURE)
            self._told = str(error)
            await _renewed(self._api, error)
        except (UnreachableError, TimeoutError, msgspec.DecodeError, KeyError, TypeError):
            pass  # whoever is not heard for long is not counted

    def _take(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        now = self._clock()
        self._known = {name: it for name, it in self._known.items() if name in found}
        for name, lease in found.items():
            version = lease["metadata"]["resourceVersion"]
            text = (lease["metadata"].get("annotations") or {}).get(ANNOTATION, "")
            known = self._known.get(name)
            if known is not None and known.version == version:
                continue
            self.heard += 1
            self._known[name] = _Heard(version, remote_from(text, now))

    async def _clear(self) -> None:
        """Remove what replicas left that ended without a word."""
        for name, it in tuple(self._known.items()):
            if self._clock() - it.remote.heard > _GONE:
                del self._known[name]
                with suppress(RefusedError):
                    await self._api.send("DELETE", f"{self._place.folder}/{name}")
