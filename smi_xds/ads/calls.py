"""The streams that are open: ended one after another when we stop, or alone when they stall."""

import asyncio
from contextlib import AbstractContextManager
from typing import Final, Protocol

from smi_xds.ads.limits import Limits
from smi_xds.ads.looking import looking
from smi_xds.ads.session import Close, Refusal

DRAINED: Final = Close(Refusal.UNAVAILABLE, "this server stops: connect to another")

# What a handler takes to end once it was told to.
_LAST: Final = 1.0


class Ending(Protocol):
    """A stream, as seen from here."""

    writing_since: float
    """When the write that waits has begun; 0 where none does."""

    def end(self, close: Close) -> None:
        """End it; called at once, must not block."""


class Calls:
    """All open streams of a server."""

    __slots__ = ("_limits", "_none_left", "_open", "is_draining")

    def __init__(self, limits: Limits) -> None:
        self.is_draining = False
        self._limits = limits
        self._open: dict[Ending, None] = {}
        self._none_left = asyncio.Event()

    def opened(self, stream: Ending) -> None:
        """It begins."""
        self._open[stream] = None

    def closed(self, stream: Ending) -> None:
        """It has ended."""
        self._open.pop(stream, None)
        if not self._open:
            self._none_left.set()

    def ending_stalled(self) -> AbstractContextManager[None]:
        """While the block runs, end the streams of clients that do not read."""
        return looking(self._end_stalled, every=self._limits.write_timeout / 4)

    def _end_stalled(self) -> None:
        timeout = self._limits.write_timeout
        before = asyncio.get_running_loop().time() - timeout
        for stream in tuple(self._open):
            if 0 < stream.writing_since <= before:
                text = f"a response waited {timeout:g} s and was not read"
                stream.end(Close(Refusal.RESOURCE_EXHAUSTED, text))

    @property
    def longest_drain(self) -> float:
        """After that time whatever is left is broken off."""
        return self._limits.drain_longest + _LAST

    async def drain(self) -> None:
        """End all streams, spread over time, so that other servers can take them."""
        self.is_draining = True
        clock = asyncio.get_running_loop().time
        streams, begin = tuple(self._open), clock()
        spread = min(len(streams) / self._limits.drain_rate, self._limits.drain_longest)
        for number, stream in enumerate(streams):
            due = begin + spread * number / len(streams)
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            if stream in self._open:
                stream.end(DRAINED)

    async def ended(self) -> None:
        """Wait until each has ended in its own task: what gRPC leaves running it reports."""
        self._none_left.clear()
        if self._open:
            try:
                async with asyncio.timeout(_LAST):
                    await self._none_left.wait()
            except TimeoutError:
                return
