"""`--kubernetes`: an API server as a source: one watch for each kind, and namespace."""

import asyncio
from typing import NoReturn

from smi_xds.config import KubernetesConfig
from smi_xds.objects.store import Origin, Sink, Synced
from smi_xds.sources.kube_availability import KUBERNETES, Availability
from smi_xds.sources.kube_connection import Connection
from smi_xds.sources.kube_kinds import KINDS
from smi_xds.sources.kube_watch import KindWatch


class KubernetesSource:
    """An API server, as a source of the store."""

    name = KUBERNETES

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config
        self._connection = Connection(config)

    async def open(self) -> None:
        """Read how to connect; SourceError where that cannot be. Whether it answers comes later."""
        await self._connection.open()

    async def run(self, sink: Sink) -> NoReturn:
        """Say what the API server has, and again whenever that changes."""
        availability = Availability(server=self._connection.server, sink=sink)
        waiting: set[Origin] = set()

        def on_answer(origin: Origin) -> None:
            if origin in waiting:
                waiting.discard(origin)
                if not waiting:
                    sink.apply(Origin(KUBERNETES), [Synced()])

        watches = [
            KindWatch(
                kind,
                namespace=namespace,
                api=self._connection,
                sink=sink,
                availability=availability,
                on_answer=on_answer,
            )
            for kind in KINDS
            for namespace in self._config.namespaces or ("",)
        ]
        waiting.update(watch.origin for watch in watches)
        try:
            async with asyncio.TaskGroup() as tasks:
                for watch in watches:
                    tasks.create_task(watch.run(), name=f"watch {watch.origin.part}")
        finally:
            await self._connection.close()
        raise AssertionError("watches never end")
