"""The ports of xDS: plaintext for this machine, TLS for those who prove who they are."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

import grpc

from smi_xds.ads.auth import Authenticate, Known
from smi_xds.ads.guard import Guard
from smi_xds.ads.limits import DEFAULTS, Limits
from smi_xds.ads.meters import Meters
from smi_xds.ads.server import Door
from smi_xds.ads.tokens import Tokens, judging_tokens
from smi_xds.config import Address, KubernetesConfig, ServeConfig
from smi_xds.identity.clients import ClientCertificates
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.serving import ServerTls
from smi_xds.objects.kube import Pod
from smi_xds.objects.store import Store
from smi_xds.values import ObjectRef, ProxyId

TOKENS, CERTIFICATES, PLAINTEXT = "tls", "mtls", "plaintext"
"""What the ports are called where they are told apart."""

_FLAGS: Final = {TOKENS: "--xds-tls-address", CERTIFICATES: "--xds-mtls-address"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The doors, by what they are called."""

    doors: Mapping[str, Door]

    def bound(self, ports: tuple[int, ...]) -> Mapping[str, Address]:
        """Where they are, once they are open."""
        return {
            name: Address(door.host, port)
            for (name, door), port in zip(self.doors.items(), ports, strict=True)
        }


@asynccontextmanager
async def xds_ports(
    config: ServeConfig,
    authority: CurrentAuthority,
    *,
    store: Store,
    meters: Meters,
    services: Mapping[str, grpc.GenericRpcHandler],
    issuer_roots: Callable[[], bytes],
    limits: Limits = DEFAULTS,
) -> AsyncIterator[Ports]:
    """
    Have what the ports need while the block runs.

    `services` are for operators, so they are served in plaintext alone, and so is reflection:
    they tell of all proxies, and pods have no business there. `issuer_roots` are those of the
    workloads' certificates; clients may also have one of our own authority.
    """
    doors: dict[str, Door] = {}
    if (plain := config.xds_address) is not None:
        doors[PLAINTEXT] = Door(host=plain.host, port=plain.port, services=services)
    if (wanted := config.xds_tls) is None:
        yield Ports(doors=doors)
        return
    tls = ServerTls(authority, wanted.names)
    known = Pods(store, by_api_server=config.kubernetes is not None)

    def client_roots() -> bytes:
        own, issuers = authority.trust_bundle, issuer_roots()
        return own if issuers in (b"", own) else own + issuers

    def door(name: str, address: Address, judge: Authenticate) -> Door:
        roots = client_roots if name == CERTIFICATES else None
        served = Served(tls, roots, begun=_counting(meters, name))
        guard = Guard(judge, known, refusals=meters.unproven, limits=limits)
        return Door(
            host=address.host,
            port=address.port,
            flag=_FLAGS[name],
            credentials=served.credentials(),
            guard=guard,
            reflection=False,
        )

    async with AsyncExitStack() as stack:
        if wanted.tokens is not None:
            assert config.kubernetes is not None, "judged by the configuration"
            tokens = await stack.enter_async_context(_reviewed_by(config.kubernetes))
            doors[TOKENS] = door(TOKENS, wanted.tokens, tokens)
        if wanted.certificates is not None:
            judge = ClientCertificates(lambda: authority.trust_domains, client_roots)
            doors[CERTIFICATES] = door(CERTIFICATES, wanted.certificates, judge)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        renewing = group.create_task(tls.run(), name="xDS certificate")
        try:
            yield Ports(doors=doors)
        finally:
            renewing.cancel()


@asynccontextmanager
async def _reviewed_by(config: KubernetesConfig) -> AsyncIterator[Tokens]:
    from smi_xds.sources.kube_connection import Connection
    from smi_xds.sources.kube_reviews import TokenReviews

    connection = Connection(config)
    await connection.open()
    try:
        async with judging_tokens(TokenReviews(connection)) as tokens:
            yield tokens
    finally:
        await connection.close()


def _counting(meters: Meters, port: str) -> Callable[[], object]:
    """Count in the loop, whose metrics they are: handshakes begin in gRPC's own threads."""
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(meters.handshakes.add, port)


class Served:
    """The certificate of one port as gRPC wants it: it asks before every handshake."""

    def __init__(
        self, tls: ServerTls, roots: Callable[[], bytes] | None, *, begun: Callable[[], object]
    ) -> None:
        self._tls = tls
        self._roots = roots
        self._begun = begun
        self._given = self._now()

    def credentials(self) -> grpc.ServerCredentials:
        """For a port; clients that have a certificate must show it, where there are roots."""
        # None means that nothing changed, which their stubs do not know.
        newer = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._newer)
        return grpc.dynamic_ssl_server_credentials(
            _configured(*self._given),
            newer,
            require_client_authentication=self._roots is not None,
        )

    def _now(self) -> tuple[bytes, bytes, bytes | None]:
        certificate = self._tls.certificate
        return (
            certificate.private_key.value,
            certificate.certificate_chain,
            self._roots() if self._roots is not None else None,
        )

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """What to serve from now on, None for the same; called in a thread of gRPC's."""
        self._begun()
        now = self._now()
        if now == self._given:
            return None
        self._given = now
        return _configured(*now)


def _configured(
    key: bytes, chain: bytes, roots: bytes | None
) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)


class Pods:
    """The pods of a store, as the doors' guards ask for them."""

    def __init__(self, store: Store, *, by_api_server: bool) -> None:
        self._store = store
        self._by_api_server = by_api_server

    @property
    def edition(self) -> object:
        """The very same while no pod changed; asked for in rounds alone, which have made it."""
        return self._store.objects().pods

    def find(self, proxy: ProxyId, /) -> Known | None:
        """A pod, as it is at this moment."""
        pod = self._store.find(ObjectRef("Pod", proxy.namespace, proxy.name))
        if not isinstance(pod, Pod):
            return None
        # Files may be copies of what an API server had, with uids that nobody reviews tokens for.
        return Known(account=pod.account, uid=pod.uid if self._by_api_server else "")
