"""A client of our server for tests, on the independent classes of xds-protos."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from envoy.service.discovery.v3 import discovery_pb2 as pb

from smi_xds.ads.cache import Cache
from smi_xds.ads.limits import DEFAULTS, Limits
from smi_xds.ads.server import listening
from smi_xds.ads.services import DISCOVERY_SERVICES, Service
from smi_xds.ads.status import Status
from smi_xds.values import TypeUrl

NODE: Final = "default/a"


@dataclass(slots=True)
class Served:
    """A server with all that it serves from."""

    cache: Cache
    status: Status
    port: int

    @property
    def target(self) -> str:
        """Where a client finds it."""
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(
    services: Callable[[Cache, Status], Mapping[str, grpc.GenericRpcHandler]] | None = None,
    *,
    limits: Limits = DEFAULTS,
) -> AsyncIterator[Served]:
    """A server on a free port of the loopback, with further services."""
    cache, status = Cache(), Status()
    more = services(cache, status) if services else {}
    async with listening(
        cache,
        status,
        host="127.0.0.1",
        port=0,
        identifier="test",
        services=more,
        limits=limits,
    ) as port:
        yield Served(cache, status, port)


class Stream:
    """One stream, spoken by hand."""

    def __init__(self, call: Any, *, is_delta: bool, node: str | None) -> None:
        self.call = call
        self.is_delta = is_delta
        self.node = node

    async def ask(self, type_: TypeUrl, *names: str, **fields: Any) -> None:
        """Send a request; the node goes with the first."""
        node = {"node": {"id": self.node}} if self.node is not None else {}
        self.node = None
        if self.is_delta:
            request = pb.DeltaDiscoveryRequest(
                type_url=type_, resource_names_subscribe=names, **node, **fields
            )
        else:
            request = pb.DiscoveryRequest(type_url=type_, resource_names=names, **node, **fields)
        await self.call.write(request.SerializeToString())

    async def hear(self) -> Any:
        """The next response, parsed."""
        raw = await self.call.read()
        assert raw is not grpc.aio.EOF, (await self.call.code(), await self.call.details())
        kind = pb.DeltaDiscoveryResponse if self.is_delta else pb.DiscoveryResponse
        return kind.FromString(raw)

    async def answer(self, response: Any, *names: str, error: str = "", **fields: Any) -> None:
        """Acknowledge it, or refuse it with that text."""
        if error:
            fields["error_detail"] = {"code": 13, "message": error}
        if not self.is_delta and not error:
            fields["version_info"] = response.version_info
        await self.ask(TypeUrl(response.type_url), *names, response_nonce=response.nonce, **fields)


@asynccontextmanager
async def stream(
    target: str,
    *,
    is_delta: bool = True,
    node: str | None = NODE,
    service: Service = DISCOVERY_SERVICES[0],
    credentials: grpc.ChannelCredentials | None = None,
    token: str | None = None,
) -> AsyncIterator[Stream]:
    """A stream on a connection of its own, with what proves who it is."""
    method = f"{'Delta' if is_delta else 'Stream'}{service.noun}"
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    opened = (
        grpc.aio.insecure_channel(target, options)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials, options)
    )
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    async with opened as channel:
        call: Any = channel.stream_stream(f"/{service.name}/{method}")(metadata=metadata)
        try:
            yield Stream(call, is_delta=is_delta, node=node)
        finally:
            call.cancel()


def names(response: Any) -> list[str]:
    """The names in a delta response."""
    return [each.name for each in response.resources]
