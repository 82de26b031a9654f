"""A sidecar that is played: asks for everything, and accepts or refuses it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from smi_xds.xds.resources import CLUSTER, LISTENER
from tests.ads.client import Stream, stream

# Those that may be asked for without names, in Envoy's order.
_TYPES: Final = (CLUSTER, LISTENER)


class PlayedProxy:
    """One stream."""

    def __init__(self) -> None:
        self.refusal = ""
        """With which text it refuses all that comes from now on; empty to accept."""

    async def obey(self, talk: Stream) -> None:
        """Answer for ever."""
        for type_ in _TYPES:
            await talk.ask(type_)
        while True:
            await talk.answer(await talk.hear(), error=self.refusal)


@asynccontextmanager
async def played_proxy(address: str, node: str) -> AsyncIterator[PlayedProxy]:
    """Connect one to an xDS port."""
    proxy = PlayedProxy()
    async with stream(address, node=node) as talk, asyncio.TaskGroup() as tasks:
        obeying = tasks.create_task(proxy.obey(talk))
        try:
            yield proxy
        finally:
            obeying.cancel()
