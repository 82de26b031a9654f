"""The latest resources of every node, and who is told when they change.

A value, not a queue: a stream that was busy while three rounds were published sees the last one.
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from smi_xds.ads.session import Memo
from smi_xds.xds.resources import EMPTY, ResourceSet

_NOTHING: Final[Mapping[str, ResourceSet]] = MappingProxyType({})


class Watcher(Protocol):
    """A stream, as the cache sees it."""

    resources: ResourceSet
    """What it was given last."""

    def changed(self, resources: ResourceSet, *, is_known: bool) -> None:
        """There are other resources for its node; called at once, must not block."""


class Observer(Protocol):
    """Who keeps account of rounds."""

    def round_begins(self, number: int, since: float | None = None) -> None:
        """Streams are about to be told of changes since that time."""

    def round_published(self, number: int) -> None:
        """All that are concerned have been told."""


class Cache:
    """What is to be served; written by one publisher, read by all streams."""

    __slots__ = ("_observers", "_snapshot", "_watchers", "holds_unknown", "memo", "round")

    def __init__(self, *, holds_unknown: bool = False) -> None:
        self.holds_unknown = holds_unknown
        """Whether clients of a node that is not known keep what they have and wait, or get an
        empty set: our mesh knows all its proxies, other publishers may come to know them."""
        self.memo = Memo()
        self.round = 0
        """Number of the last round; 0 before the first, when nothing may be served."""
        self._snapshot: Mapping[str, ResourceSet] = _NOTHING
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self._observers: list[Observer] = []

    @property
    def is_ready(self) -> bool:
        """Whether there was a first complete picture."""
        return self.round > 0

    def publish(self, snapshot: Mapping[str, ResourceSet], *, since: float | None = None) -> int:
        """
        Replace the whole picture; only streams whose set is another object are told.

        A node that is missing gets an empty set. `since` is when the first of the changes was
        seen, by the clock of the observers. Returns the number of the round.
        """
        return self._round(snapshot, self._watchers, since)

    def publish_for(
        self,
        nodes: Collection[str],
        snapshot: Mapping[str, ResourceSet],
        *,
        since: float | None = None,
    ) -> int:
        """Do the same where only the sets of these nodes are others."""
        return self._round(snapshot, nodes, since)

    def _round(
        self, snapshot: Mapping[str, ResourceSet], nodes: Iterable[str], since: float | None
    ) -> int:
        self.round += 1
        self._snapshot = snapshot
        self.memo.rotate()
        for observer in self._observers:
            observer.round_begins(self.round, since)
        for node in nodes:
            resources = snapshot.get(node)
            latest = EMPTY if resources is None else resources
            for watcher in self._watchers.get(node, ()):
                if watcher.resources is not latest:
                    watcher.changed(latest, is_known=resources is not None)
        for observer in self._observers:
            observer.round_published(self.round)
        return self.round

    @property
    def nodes(self) -> Collection[str]:
        """The nodes that anything is configured for."""
        return self._snapshot.keys()

    def get(self, node: str) -> ResourceSet | None:
        """The resources of a node, None where it is not known."""
        return self._snapshot.get(node)

    def watch(self, node: str, watcher: Watcher) -> None:
        """Tell this stream from now on; one node may have several."""
        self._watchers.setdefault(node, {})[watcher] = None

    def unwatch(self, node: str, watcher: Watcher) -> None:
        """The stream has ended."""
        watchers = self._watchers.get(node, {})
        watchers.pop(watcher, None)
        if not watchers:
            self._watchers.pop(node, None)

    def observe(self, observer: Observer) -> None:
        """Keep account of rounds, beginning with the last one."""
        self._observers.append(observer)
        if self.is_ready:
            observer.round_begins(self.round)
            observer.round_published(self.round)

    def unobserve(self, observer: Observer) -> None:
        """Its server has ended."""
        self._observers.remove(observer)
