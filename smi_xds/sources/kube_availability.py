"""Whether the API server answers: one problem for all kinds, and one end of waiting for all."""

import asyncio
import random

from smi_xds.objects.store import Origin, Reported, Sink
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef

KUBERNETES = "kubernetes"
"""The name of this source."""

SOURCE_REF = ObjectRef("Source", "", KUBERNETES)


class Availability:
    """Who fails at present; one of them is told."""

    def __init__(self, *, server: str, sink: Sink) -> None:
        self._server = server
        self._sink = sink
        self._failing: set[Origin] = set()
        self._told: Origin | None = None
        self._back = asyncio.Event()

    def fail(self, origin: Origin, reason: str, *, cure: str) -> None:
        """A request failed. What fails twice in a row is told, and nothing else meanwhile."""
        is_again = origin in self._failing
        if not self._failing:
            self._back.clear()
        self._failing.add(origin)
        if is_again and self._told not in self._failing:
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
        self._failing.discard(origin)
        self._back.set()
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
