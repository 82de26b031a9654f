"""Whether the API server answers: one problem for all kinds, and one end of waiting for all."""

import asyncio
import random

from smi_xds.objects.store import Origin, Reported, Sink
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef

KUBERNETES = "kubernetes"
"""The name of this source."""

SOURCE_REF = ObjectRef("Source", "", KUBERNETES)


# Tries of one kind in a row that fail before it is told: a single one may have been cut off.
_AT_FIRST = 2
# The same while a problem stands whose kind is well again: an API server that starts takes its
# time for some kinds, and that is not news.
_AFTERWARDS = 5


class Availability:
    """Who fails at present; one of them is told."""

    def __init__(self, *, server: str, sink: Sink) -> None:
        self._server = server
        self._sink = sink
        self._failing: dict[Origin, int] = {}
        """Who fails, and how often in a row since the one that is told was last heard of."""
        self._told: Origin | None = None
        self._back = asyncio.Event()

    def fail(self, origin: Origin, reason: str, *, cure: str) -> None:
        """A request failed: tell it, if it is not the first, and nothing else is told."""
        if not self._failing:
            self._back.clear()
        times = self._failing[origin] = self._failing.get(origin, 0) + 1
        enough = _AT_FIRST if self._told is None else _AFTERWARDS
        if self._told not in self._failing and times >= enough:
            self._told = origin
            problem = Problem(
                ref=SOURCE_REF,
                field="",
                code=ProblemCode.SOURCE_UNAVAILABLE,
                message=f"the API server at {self._server} cannot be read: {reason}",
                cure=f"{cure}; until then the last configuration stays.",
            )
            self._sink.apply(Origin(KUBERNETES), [Reported((problem,))])

    def succeed(self, origin: Origin) -> None:
        """A request was answered; those who wait for their next try need wait no longer."""
        if origin not in self._failing:
            return
        del self._failing[origin]
        self._back.set()
        if origin == self._told:
            self._failing = dict.fromkeys(self._failing, 0)
        if not self._failing:
            self._told = None
            self._sink.apply(Origin(KUBERNETES), [Reported()])

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than until the API server answers again."""
        try:
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
                await self._back.wait()
        except TimeoutError:
            return
        # All who waited now try at once, and whoever fails then waits for real.
        self._back.clear()
