"""Whether this replica is the one that writes to the API server, while the server runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from smi_xds.config import ServeConfig

if TYPE_CHECKING:
    from smi_xds.writeback.lease import Leadership


@asynccontextmanager
async def leading(config: ServeConfig) -> AsyncIterator["Leadership | None"]:
    """Try to be the leader while the block runs; yields None where nothing is to be written.

    At the end the lease is given back, after all who write have ended: let this be the first.
    """
    if config.kubernetes is None or config.lease is None or not config.needs_leader:
        yield None
        return
    # Half a second to import, and only for those who have an API server.
    from smi_xds.sources.kube_connection import Connection
    from smi_xds.writeback.lease import Elector, Leadership, unique_identity

    connection = Connection(config.kubernetes)
    await connection.open()
    elector = Elector(
        connection,
        Leadership(unique_identity()),
        namespace=config.lease.namespace,
        name=config.lease.name,
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            child = tasks.create_task(elector.run(), name="lease")
            try:
                yield elector.leadership
            finally:
                child.cancel()
    finally:
        await elector.release()
        await connection.close()
