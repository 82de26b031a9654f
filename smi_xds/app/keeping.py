"""The authority of a server: opened before anything needs it, kept while it runs."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from smi_xds.ads.status import Status
from smi_xds.app.authority import Keeper
from smi_xds.app.distribution import Distribution
from smi_xds.app.meshed import Namespaces
from smi_xds.app.pipeline import Pipeline
from smi_xds.app.pulse import Pulse
from smi_xds.config import ServeConfig
from smi_xds.identity.ca import Authority
from smi_xds.identity.document import Phase
from smi_xds.identity.embedded import EmbeddedIssuer
from smi_xds.identity.issuer import Issuer
from smi_xds.identity.rotation import floor_of
from smi_xds.identity.state import FolderStore, StateStore
from smi_xds.mesh.model import MeshSettings
from smi_xds.metrics import Gauge

if TYPE_CHECKING:
    from smi_xds.app.trust_maps import TrustMaps
    from smi_xds.sources.kube_connection import Connection

# Kubelets take a minute or two until what a ConfigMap says is in its pods.
_IN_PODS: Final = timedelta(minutes=3)
# How often the state is looked at: a file here, an API server's answer elsewhere.
_FOLDER: Final = 1.0
_SECRET: Final = 5.0

log = structlog.get_logger()


class Keeping:
    """The keeper of the authority, and what it needs of an API server."""

    def __init__(self, config: ServeConfig, keeper: Keeper, connection: "Connection | None"):
        self._config = config
        self.keeper = keeper
        self._connection = connection

    @property
    def metrics(self) -> tuple[Gauge, ...]:
        """When to look after it, and how far it is."""
        keeper = self.keeper
        return (
            Gauge(
                "smi_xds_authority_ends_timestamp_seconds",
                "When the first certificate of those that sign ends: to be replaced before.",
                lambda: {"": keeper.state.active.not_after.timestamp()},
            ),
            Gauge(
                "smi_xds_authority_phase",
                "1 for the phase in which the rotation of the authority is.",
                lambda: {it.value: float(it is keeper.state.phase) for it in Phase},
                "phase",
            ),
        )

    @asynccontextmanager
    async def running(
        self,
        *,
        status: Status,
        pipeline: Pipeline,
        pulse: Pulse,
        issuer: Issuer,
        is_leader: Callable[[], bool],
    ) -> AsyncIterator[None]:
        """Have all follow it while the block runs."""
        keeper = self.keeper
        keeper.is_leader = is_leader
        keeper.current.follow(lambda now: pipeline.settle(in_domain(pipeline.settings, now)))
        keeper.current.follow(lambda _: pulse.ring())
        async with AsyncExitStack() as stack:
            maps = await self._maps(stack, pipeline, is_leader)
            distribution = Distribution(
                status,
                rounds=lambda: pipeline.rounds.number,
                is_settled=lambda: not isinstance(issuer, EmbeddedIssuer) or issuer.is_settled,
                lacking=maps.lacking if maps else tuple,
            )
            if self._connection is not None:
                stack.push_async_callback(self._connection.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            children = [tasks.create_task(keeper.run(distribution), name="authority")]
            if maps is not None:
                children.append(tasks.create_task(maps.run(), name="trust in pods"))
            try:
                yield
            finally:
                for child in children:
                    child.cancel()

    async def _maps(
        self, stack: AsyncExitStack, pipeline: Pipeline, is_leader: Callable[[], bool]
    ) -> "TrustMaps | None":
        """Where pods come with tokens, they know us by what is in a ConfigMap."""
        config = self._config
        if config.kubernetes is None or config.xds_tls is None or config.xds_tls.tokens is None:
            return None
        from smi_xds.app.trust_maps import TrustMaps
        from smi_xds.sources.kube_connection import Connection

        connection = Connection(config.kubernetes)
        await connection.open()
        stack.push_async_callback(connection.close)

        # Where the state is, whoever looks after us finds the roots.
        secret = config.authority.secret
        own = frozenset({secret.namespace} if secret is not None else ())
        return TrustMaps(
            connection,
            bundle=lambda: self.keeper.current.trust_bundle,
            namespaces=Namespaces(lambda: pipeline.mesh, own=own),
            is_leader=is_leader,
        )


async def opened_authority(config: ServeConfig) -> Keeping:
    """Read its state, or make it; SmiXdsError says what hinders that."""
    wanted = config.authority
    store: StateStore = FolderStore(config.state_folder)
    minimum = timedelta(0)
    connection = await _connected(config)
    if connection is not None and wanted.secret is not None:
        from smi_xds.app.state_secret import SecretStore

        store, minimum = SecretStore(connection, wanted.secret), _IN_PODS
    keeper = Keeper(
        store,
        floor=floor_of(wanted.leaf_lifetime, minimum=minimum),
        name=replica_name(config),
        brought=wanted.brought,
        every=_FOLDER if wanted.secret is None else _SECRET,
    )
    try:
        await keeper.open(config.mesh.trust_domain)
    finally:
        if connection is not None:
            await connection.close()  # it opens again by itself
    if keeper.current.now.created:
        log.warning(
            "authority_created",
            where=store.where(),
            message="sidecars that trust another authority must start anew",
        )
    return Keeping(config, keeper, connection)


def replica_name(config: ServeConfig) -> str:
    """By which its reports are known, also after a restart.

    Several servers on one machine may share a state: by one name, one's word would hide the other's
    proxies from a rotation.
    """
    tls = config.xds_tls
    ports = (config.xds_address, *((tls.tokens, tls.certificates) if tls else ()))
    return " ".join((socket.gethostname(), *(str(it) for it in ports if it is not None)))


async def _connected(config: ServeConfig) -> "Connection | None":
    if config.authority.secret is None:
        return None
    assert config.kubernetes is not None, "judged with the flags"
    # Who keeps it in a folder does without aiohttp.
    from smi_xds.sources.kube_connection import Connection

    connection = Connection(config.kubernetes)
    await connection.open()
    return connection


def in_domain(settings: MeshSettings, authority: Authority) -> MeshSettings:
    """The settings with the trust domains of the authority."""
    return replace(
        settings,
        trust_domain=authority.trust_domain,
        aliases=authority.aliases,
        fading=authority.fading,
    )
