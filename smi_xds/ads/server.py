"""The gRPC server of xDS: it listens, names its services, and stops in an orderly way."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import grpc
import structlog

from smi_xds.ads.admission import Admission
from smi_xds.ads.cache import Cache, Observer
from smi_xds.ads.calls import Calls
from smi_xds.ads.guard import Guard
from smi_xds.ads.health import HEALTH, Health
from smi_xds.ads.limits import DEFAULTS, Limits
from smi_xds.ads.opening import serve_stream
from smi_xds.ads.quiet import Quiet
from smi_xds.ads.reflection import reflection_handlers
from smi_xds.ads.services import DISCOVERY_SERVICES, Service
from smi_xds.ads.status import Status
from smi_xds.ads.stream import DELTA, SOTW, Context, Shared
from smi_xds.ads.wire import Bodies
from smi_xds.problems import ServeError

_NO_SERVICES: Final[Mapping[str, grpc.GenericRpcHandler]] = MappingProxyType({})


log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A port where proxies ask."""

    host: str
    port: int
    """0 takes a free one."""
    flag: str = "--xds-address"
    """What a user changes to have it elsewhere."""
    credentials: grpc.ServerCredentials | None = None
    """None for plaintext."""
    guard: Guard | None = None
    """None where callers are who they say they are."""
    services: Mapping[str, grpc.GenericRpcHandler] = field(default_factory=dict)
    """More that it is to serve, by their full names; protobuf's default pool describes them."""
    reflection: bool = True


@asynccontextmanager
async def listening(
    cache: Cache,
    status: Status,
    *,
    host: str,
    port: int,
    identifier: str = "smi-xds",
    services: Mapping[str, grpc.GenericRpcHandler] = _NO_SERVICES,
    limits: Limits = DEFAULTS,
) -> AsyncIterator[int]:
    """
    Serve xDS in plaintext, reflection and health while the block runs; yields the port.

    Port 0 takes a free one. Until the first `cache.publish` streams are refused with UNAVAILABLE.
    `identifier` names this server in every response (E5). `services` are more that it is to serve,
    by their full names; protobuf's default pool describes them.
    """
    door = Door(host=host, port=port, services=services)
    async with opened(cache, status, [door], identifier=identifier, limits=limits) as ports:
        yield ports[0]


@asynccontextmanager
async def opened(
    cache: Cache,
    status: Status,
    doors: Sequence[Door],
    *,
    identifier: str = "smi-xds",
    limits: Limits = DEFAULTS,
) -> AsyncIterator[tuple[int, ...]]:
    """Serve xDS and health at all of these doors while the block runs; yields their ports."""
    bodies = Bodies(identifier)
    guards = tuple(door.guard for door in doors if door.guard is not None)
    calls = Calls(limits)
    admission = Admission(rate=limits.rate, burst=limits.burst, longest=limits.longest_wait)
    shared = Shared(cache, status, bodies, calls, admission, limits, Quiet(), Quiet())
    with ExitStack() as observing:
        observers: tuple[Observer, ...] = (*guards, status, bodies)
        for observer in observers:
            cache.observe(observer)
            observing.callback(cache.unobserve, observer)
        for guard in guards:
            observing.enter_context(guard.ending_expired())
        servers, ports = await _started(shared, doors)
        try:
            with calls.ending_stalled():
                yield ports
        finally:
            status.feed.close()
            await _stop(servers, calls)


@dataclass(frozen=True, slots=True)
class _Server:
    grpc: grpc.aio.Server
    health: Health


async def _started(
    shared: Shared, doors: Sequence[Door]
) -> tuple[tuple[_Server, ...], tuple[int, ...]]:
    """All of them, or none."""
    servers, ports = [], []
    try:
        for door in doors:
            server = _server(shared, door)
            servers.append(server)
            ports.append(_bind(server.grpc, door))
        for server, door, port in zip(servers, doors, ports, strict=True):
            await server.grpc.start()
            log.info("xds_listening", host=door.host, port=port, tls=door.credentials is not None)
    except BaseException:
        for server in servers:
            await server.grpc.stop(grace=None)
        raise
    return tuple(servers), tuple(ports)


def _server(shared: Shared, door: Door) -> _Server:
    server = grpc.aio.server(options=shared.limits.options())
    names = tuple(service.name for service in DISCOVERY_SERVICES)
    health = Health(shared.status, *names, *door.services)
    discovery = (_discovery_handler(shared, service, door.guard) for service in DISCOVERY_SERVICES)
    described = reflection_handlers(*names, HEALTH, *door.services) if door.reflection else ()
    handlers = (*discovery, health.handler(), *door.services.values(), *described)
    server.add_generic_rpc_handlers(handlers)
    return _Server(server, health)


# How long calls that are no streams of proxies may take to end by themselves, in seconds.
_GOODBYE = 1.0


async def _stop(servers: Sequence[_Server], calls: Calls) -> None:
    """Accept nothing more, say so, and let the streams go one after another."""
    for server in servers:
        server.health.close()
    async with asyncio.TaskGroup() as group:
        # GOAWAY goes out at once, and from now on nobody can connect.
        stopping = {
            group.create_task(server.grpc.stop(grace=calls.longest_drain), name="xds-stop")
            for server in servers
        }
        try:
            await calls.drain()
            await calls.ended()
            # Watchers have been told to end, and need a turn to do so.
            await asyncio.wait(stopping, timeout=_GOODBYE)
        finally:
            # What is left is no stream of ours, or its client does not read.
            for server in servers:
                await server.grpc.stop(grace=None)


def _bind(server: grpc.aio.Server, door: Door) -> int:
    """Take the port, or say in one line why not."""
    host, port = door.host, door.port
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        # gRPC's own attempt would write its troubles to stderr and tell less.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        if door.credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, door.credentials)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the port cannot be taken"
        raise ServeError(
            f"xDS cannot be served on {address}: {reason}; "
            f"stop what uses it, or give another address ({door.flag})"
        ) from error


def _discovery_handler(
    shared: Shared, service: Service, guard: Guard | None
) -> grpc.GenericRpcHandler:
    """Both streams of a service; bytes go through as they are."""

    async def sotw(_requests: object, context: Context) -> None:
        await serve_stream(SOTW, shared, context, only=service.type, guard=guard)

    async def delta(_requests: object, context: Context) -> None:
        await serve_stream(DELTA, shared, context, only=service.type, guard=guard)

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        f"Stream{service.noun}": grpc.stream_stream_rpc_method_handler(sotw),
        f"Delta{service.noun}": grpc.stream_stream_rpc_method_handler(delta),
    }
    return grpc.method_handlers_generic_handler(service.name, methods)
