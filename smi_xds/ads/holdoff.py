"""Who publishes without a pause is slowed down, so that streams are served in between."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from smi_xds.ads.cache import Cache
from smi_xds.xds.resources import ResourceSet

# From one round to the next, and at least as long as the last one took: with thousands of streams
# on one node that is longer, and they must be written to before the next.
HOLD_OFF: Final = 0.005


class Telling:
    """
    Publishes the sets of nodes as they change: the first at once, what follows closely together.

    `sets` is the picture, changed in place by its owner: streams that begin see it at once.
    """

    __slots__ = ("_cache", "_earliest", "_loop", "_sets", "_since", "_timer", "_waiting")

    def __init__(self, cache: Cache, sets: Mapping[str, ResourceSet]) -> None:
        self._cache = cache
        self._sets = sets
        self._waiting: dict[str, None] = {}
        self._since = 0.0
        """When the first of those that wait was changed."""
        self._earliest = 0.0
        """No round before this."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def changed(self, node: str) -> None:
        """The node has another set."""
        now = time.perf_counter()
        if not self._waiting:
            self._since = now
        self._waiting[node] = None
        loop = _running_loop()
        if loop is not None and self._timer is not None and self._loop is loop:
            return  # also where it is overdue: whoever changed so much has not let the loop run
        if loop is None or now >= self._earliest:
            self.now()  # without a loop nobody is served
        else:
            self._loop, self._timer = loop, loop.call_later(self._earliest - now, self.now)

    def now(self) -> None:
        """Publish what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        begin, nodes = time.perf_counter(), tuple(self._waiting)
        self._waiting.clear()
        self._cache.publish_for(nodes, self._sets, since=self._since)
        end = time.perf_counter()
        self._earliest = end + max(HOLD_OFF, end - begin)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
