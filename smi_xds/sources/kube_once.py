"""An API server read once: the picture that `serve --kubernetes` would have of it."""

import asyncio
from collections.abc import Sequence

from smi_xds.config import KubernetesConfig
from smi_xds.objects.store import Event, Origin, Reported, Store
from smi_xds.objects.views import Objects
from smi_xds.problems import Problem, ProblemCode, SourceError
from smi_xds.sources.kube_kinds import KINDS
from smi_xds.sources.kubernetes import KubernetesSource

_VITAL = frozenset(kind.full_name for kind in KINDS if kind.is_vital)


async def read_cluster(config: KubernetesConfig) -> Objects:
    """Read all that is watched; SourceError where it cannot be, rather than half of it."""
    source, store = KubernetesSource(config), Store([KubernetesSource.name])
    await source.open()
    intake = _Intake(store)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(source.run(intake), name=source.name)
        await intake.ended.wait()
        reading.cancel()
    if intake.failure is not None:
        raise intake.failure
    return store.objects()


class _Intake:
    """Takes events until there is a whole picture, or there will be none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.ended = asyncio.Event()
        self.failure: SourceError | None = None

    def apply(self, origin: Origin, events: Sequence[Event], /) -> None:
        """One of the sink's."""
        if self.ended.is_set():
            return
        for event in events:
            self._store.apply(origin, event)
            if isinstance(event, Reported):
                self.failure = _failure(origin, event.problems)
            if self.failure is not None or self._store.synced:
                self.ended.set()
                return


def _failure(origin: Origin, problems: Sequence[Problem]) -> SourceError | None:
    """Why nothing can be said of the objects, where that is so: nobody waits for it to mend."""
    for problem in problems:
        if problem.code is ProblemCode.SOURCE_UNAVAILABLE:
            return SourceError(f"{problem.message}; make it reachable, or give another --context")
        # Of our own kinds it is one problem among others.
        if problem.code is ProblemCode.SOURCE_FORBIDDEN and origin.part.split()[0] in _VITAL:
            return SourceError(f"you {problem.message}; ask for that right, or give --namespace")
    return None
