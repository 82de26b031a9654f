"""The composition root: one TaskGroup in which sources, pipeline, issuer and server run.

Everything is wired here and nowhere else. `running` is a server as a context, for tests and the
demo; `serve` is the command: until a signal, with logs.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog

from smi_xds.ads.cache import Cache
from smi_xds.ads.server import opened
from smi_xds.ads.standing import gauges
from smi_xds.ads.status import Status
from smi_xds.app.authority import Keeper
from smi_xds.app.heaps import share_heaps
from smi_xds.app.issuers import opened_issuer
from smi_xds.app.keeping import in_domain, opened_authority
from smi_xds.app.leading import leading
from smi_xds.app.logs import configure_logging
from smi_xds.app.meters import measure_lag, problems_gauge
from smi_xds.app.pipeline import Intake, Pipeline, Round
from smi_xds.app.pulse import Pulse
from smi_xds.app.signals import run_until_signal
from smi_xds.app.webhooks import serving_webhooks
from smi_xds.app.writeback import writing_back
from smi_xds.app.xds_ports import CERTIFICATES, PLAINTEXT, TOKENS, xds_ports
from smi_xds.config import Address, ServeConfig
from smi_xds.debug.service import all_problems, debug_services
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.metrics import Metric
from smi_xds.objects.store import Source, Store
from smi_xds.sources.files import FilesSource
from smi_xds.web.meters import ReviewMeters
from smi_xds.xds.translate import warm_up

__all__ = ["Running", "configure_logging", "run_until_signal", "running", "serve"]

# How often we look whether a proxy has connected; nothing waits for it but tests and the demo.
_LOOK_AGAIN = 0.01

log = structlog.get_logger()


class Running:
    """A server that runs, as its surroundings see it."""

    def __init__(
        self,
        *,
        xds: Mapping[str, Address],
        monitoring: Address | None,
        webhooks: Address | None,
        status: Status,
        pipeline: Pipeline,
        keeper: Keeper,
    ) -> None:
        self.xds = xds
        """Where proxies ask: see the names in `xds_ports`."""
        plain = xds.get(PLAINTEXT, Address("", 0))
        self.xds_host = plain.host
        """Where they ask in plaintext; empty where nobody wanted it."""
        self.xds_port = plain.port
        self.monitoring = monitoring
        """Where metrics are; None where nobody wanted them."""
        self.webhooks = webhooks
        """Where API servers ask; None where nobody wanted it."""
        self.status = status
        self.keeper = keeper
        """Who signs, and how far a rotation is."""
        self._pipeline = pipeline

    @property
    def round(self) -> int:
        """How many times something was published."""
        return self._pipeline.rounds.number

    @property
    def latest(self) -> Round:
        """What was published last."""
        latest = self._pipeline.rounds.value
        assert latest is not None, "yielded after the first round only"
        return latest

    @property
    def mesh(self) -> Mesh:
        """The mesh that is served, with the problems of all objects."""
        return self.latest.mesh

    @property
    def failed_rounds(self) -> int:
        """How many rounds failed by a bug of ours."""
        return self._pipeline.failures

    async def next_round(self, after: int) -> float:
        """Wait for a round later than that one; return when its first change was seen."""
        return (await self._pipeline.rounds.newer_than(after)).began

    async def converged(self, proxies: Collection[str] = ()) -> None:
        """Wait until these are connected and every proxy has answered all that it was sent."""
        wanted = frozenset(proxies)
        while True:
            await self.status.converged()
            if wanted <= {stream.node.id for stream in self.status.streams.values()}:
                return
            await asyncio.sleep(_LOOK_AGAIN)


@asynccontextmanager
async def running(config: ServeConfig) -> AsyncIterator[Running]:
    """Run a server; the context begins when its sources have said what they have.

    Until then, and only then, streams are refused. SmiXdsError, alone or in an ExceptionGroup,
    says why it could not start.
    """
    keeping = await opened_authority(config)
    authority = keeping.keeper.current
    settings = in_domain(mesh_settings(config), authority.now)
    sources = await _opened(config)
    store, pulse = Store(source.name for source in sources), Pulse()
    cache, status = Cache(), Status()
    issuer = await opened_issuer(config, authority)
    warm_up()  # before anything is made of these classes: see there
    pipeline = Pipeline(store, settings=settings, issuer=issuer, publish=cache.publish)
    reviews = ReviewMeters()
    debug = debug_services(
        cache, status, problems=lambda: pipeline.problems, mesh=lambda: pipeline.mesh
    )
    async with (
        leading(config) as leadership,
        writing_back(config, leadership, cache=cache, status=status, pipeline=pipeline) as written,
        xds_ports(
            *(config, authority),
            store=store,
            meters=status.meters,
            services=debug,
            issuer_roots=lambda: issuer.trust_bundle,
        ) as ports,
        opened(cache, status, tuple(ports.doors.values())) as bound,
        _monitoring(
            *(config.monitoring_address, cache, status),
            pipeline=pipeline,
            more=(*written, *reviews.all(), *keeping.metrics),
        ) as monitoring,
        serving_webhooks(
            config, authority, settings=settings, rounds=pipeline.rounds, meters=reviews
        ) as webhooks,
        keeping.running(
            status=status,
            pipeline=pipeline,
            pulse=pulse,
            issuer=issuer,
            is_leader=lambda: leadership is None or leadership.is_leader,
        ),
        asyncio.TaskGroup() as tasks,
    ):
        intake = Intake(store, pulse)
        children = [tasks.create_task(source.run(intake), name=source.name) for source in sources]
        children.append(tasks.create_task(pipeline.run(pulse), name="pipeline"))
        children.append(tasks.create_task(issuer.run(pulse.ring), name="issuer"))
        children.append(tasks.create_task(measure_lag(pipeline.meters.lag), name="loop-lag"))
        await pipeline.rounds.newer_than(0)
        try:
            yield Running(
                xds=ports.bound(bound),
                monitoring=monitoring,
                webhooks=webhooks,
                status=status,
                pipeline=pipeline,
                keeper=keeping.keeper,
            )
        finally:
            for child in children:
                child.cancel()


@asynccontextmanager
async def _monitoring(
    address: Address | None,
    cache: Cache,
    status: Status,
    *,
    pipeline: Pipeline,
    more: tuple[Metric, ...],
) -> AsyncIterator[Address | None]:
    """Serve metrics and health, if anybody wants them."""
    if address is None:
        yield None
        return
    # aiohttp takes a third of a second to import, and the demo does without.
    from smi_xds.web.monitoring import monitoring_pages
    from smi_xds.web.server import serving

    problems = problems_gauge(lambda: all_problems(status, lambda: pipeline.problems))
    metrics = (
        *(*status.meters.all(), *gauges(cache, status)),
        *(*pipeline.meters.all(), problems),
        *more,
    )
    pages = monitoring_pages(metrics, is_ready=lambda: cache.is_ready)
    async with serving(pages, address, what="monitoring", flag="--monitoring-address") as port:
        yield Address(address.host, port)


def serve(config: ServeConfig) -> int:
    """Serve until a signal; the exit code."""
    configure_logging(config.log)
    share_heaps()
    run_until_signal(_serve(config))
    log.info("stopped")
    return 0


async def _serve(config: ServeConfig) -> None:
    log.info(
        "starting",
        pid=os.getpid(),
        files=[str(folder) for folder in config.files],
        kubernetes=config.kubernetes is not None,
        state=str(config.authority.secret or config.state_folder),
        trust_domain=config.mesh.trust_domain,
    )
    async with running(config) as server:
        log.info(
            "serving",
            xds_address=_shown(server, PLAINTEXT),
            xds_tls_address=_shown(server, TOKENS),
            xds_mtls_address=_shown(server, CERTIFICATES),
            monitoring_address=server.monitoring and str(server.monitoring),
            webhook_address=server.webhooks and str(server.webhooks),
        )
        if (plain := server.xds.get(PLAINTEXT)) is not None:
            who = "any process on this machine" if plain.is_loopback else "anyone"
            log.warning(
                "identities_unproven",
                message=f"{who} that reaches {plain} may ask for any identity, with its key",
            )
        await asyncio.Event().wait()


def _shown(server: Running, port: str) -> str | None:
    address = server.xds.get(port)
    return None if address is None else str(address)


def mesh_settings(config: ServeConfig) -> MeshSettings:
    """The mesh's part of the configuration, in the mesh's words."""
    mesh = config.mesh
    return MeshSettings(
        trust_domain=mesh.trust_domain, access=mesh.access_mode, mtls=mesh.mtls_mode
    )


async def _opened(config: ServeConfig) -> Sequence[Source]:
    sources: list[Source] = []
    if config.files:
        files = FilesSource(config.files)
        await files.open()
        sources.append(files)
    if config.kubernetes is not None:
        # Half a second to import, and only for those who have an API server.
        from smi_xds.sources.kubernetes import KubernetesSource

        api_server = KubernetesSource(config.kubernetes)
        await api_server.open()
        sources.append(api_server)
    return sources
