"""The webhooks of a server, if anybody wants them: their port, certificate and trust."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from smi_xds.app.keeping import in_domain
from smi_xds.app.pipeline import Round
from smi_xds.app.pulse import Latest
from smi_xds.config import Address, ServeConfig
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.serving import ServerTls, service_names
from smi_xds.mesh.model import MeshSettings
from smi_xds.web.meters import ReviewMeters

if TYPE_CHECKING:  # imported where it is needed
    from smi_xds.web.foresight import Foresight


@asynccontextmanager
async def serving_webhooks(
    config: ServeConfig,
    authority: CurrentAuthority,
    *,
    settings: MeshSettings,
    rounds: Latest[Round],
    meters: ReviewMeters,
) -> AsyncIterator[Address | None]:
    """Serve them while the block runs; yields where. The latest of the `rounds` counts."""
    if (wanted := config.webhooks) is None:
        yield None
        return
    # aiohttp takes a third of a second to import, and who wants no webhooks does without.
    from smi_xds.web.foresight import Foresight
    from smi_xds.web.server import serving
    from smi_xds.web.webhooks import webhook_forms

    namespaces = config.kubernetes.namespaces if config.kubernetes else ()
    foresee = Foresight(
        settings,
        lambda: None if (latest := rounds.value) is None else latest.mesh.objects,
        namespaces=namespaces,
    )
    authority.follow(lambda now: foresee.settle(in_domain(settings, now)))
    tls = ServerTls(authority, service_names(wanted.namespace, wanted.service))
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(
            serving(
                {},
                wanted.address,
                what="webhooks",
                flag="--webhook-address",
                forms=webhook_forms(foresee=foresee, meters=meters),
                tls=tls.context,
            )
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        children: list[asyncio.Task[object]] = [
            tasks.create_task(tls.run(), name="webhook certificate"),
            tasks.create_task(_prepared(foresee, rounds), name="webhook foresight"),
        ]
        if config.kubernetes is not None:
            children.append(tasks.create_task(_trusted(config, authority), name="webhook trust"))
        try:
            yield Address(wanted.address.host, port)
        finally:
            for child in children:
                child.cancel()


async def _prepared(foresee: "Foresight", rounds: Latest[Round]) -> None:
    """Once there is a mesh: beside the serving, which a thread leaves its turns."""
    await rounds.newer_than(0)
    await asyncio.to_thread(foresee.prepare)


async def _trusted(config: ServeConfig, authority: CurrentAuthority) -> None:
    """Put our root where the API server looks for it, for ever."""
    from smi_xds.sources.kube_connection import Connection
    from smi_xds.web.trust import Trust

    assert config.kubernetes is not None
    assert config.webhooks is not None
    connection = Connection(config.kubernetes)
    await connection.open()
    trust = Trust(
        connection,
        lambda: authority.trust_bundle,
        namespace=config.webhooks.namespace,
        service=config.webhooks.service,
    )
    try:
        await trust.run()
    finally:
        await connection.close()
