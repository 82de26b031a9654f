"""The gRPC server of xDS: it listens, names its services, and stops in an orderly way."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

import grpc
import structlog

from smi_xds.ads.admission import Admission
from smi_xds.ads.cache import Cache
from smi_xds.ads.calls import Calls
from smi_xds.ads.health import HEALTH, Health
from smi_xds.ads.limits import DEFAULTS, Limits
from smi_xds.ads.reflection import reflection_handlers
from smi_xds.ads.services import DISCOVERY_SERVICES, Service
from smi_xds.ads.status import Status
from smi_xds.ads.stream import DELTA, SOTW, Context, Shared, serve_stream
from smi_xds.ads.wire import Bodies
from smi_xds.problems import ServeError

_NO_SERVICES: Final[Mapping[str, grpc.GenericRpcHandler]] = MappingProxyType({})


log = structlog.get_logger()


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
    Serve xDS, reflection and health while the block runs; yields the port.

    Port 0 takes a free one. Until the first `cache.publish` streams are refused with UNAVAILABLE.
    `identifier` names this server in every response (E5). `services` are more that it is to serve,
    by their full names; protobuf's default pool describes them.
    """
    bodies = Bodies(identifier)
    cache.observe(status)
    cache.observe(bodies)
    calls = Calls(limits)
    admission = Admission(rate=limits.rate, burst=limits.burst, longest=limits.longest_wait)
    shared = Shared(cache, status, bodies, calls, admission)
    server = grpc.aio.server(options=limits.options())
    names = tuple(service.name for service in DISCOVERY_SERVICES)
    health = Health(status, *names, *services)
    discovery = (_discovery_handler(shared, service) for service in DISCOVERY_SERVICES)
    described = reflection_handlers(*names, HEALTH, *services)
    handlers = (*discovery, health.handler(), *services.values(), *described)
    server.add_generic_rpc_handlers(handlers)
    bound = _bind(server, host, port)
    await server.start()
    log.info("xds_listening", host=host, port=bound)
    try:
        with calls.ending_stalled():
            yield bound
    finally:
        status.feed.close()
        await _stop(server, calls, health)
        cache.unobserve(bodies)
        cache.unobserve(status)


# How long calls that are no streams of proxies may take to end by themselves, in seconds.
_GOODBYE = 1.0


async def _stop(server: grpc.aio.Server, calls: Calls, health: Health) -> None:
    """Accept nothing more, say so, and let the streams go one after another."""
    health.close()
    async with asyncio.TaskGroup() as group:
        # GOAWAY goes out at once, and from now on nobody can connect.
        stopping = group.create_task(server.stop(grace=calls.longest_drain), name="xds-stop")
        try:
            await calls.drain()
            await calls.ended()
            # Watchers have been told to end, and need a turn to do so.
            await asyncio.wait({stopping}, timeout=_GOODBYE)
        finally:
            # What is left is no stream of ours, or its client does not read.
            await server.stop(grace=None)


def _bind(server: grpc.aio.Server, host: str, port: int) -> int:
    """Take the port, or say in one line why not."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        # gRPC's own attempt would write its troubles to stderr and tell less.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        return server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the port cannot be taken"
        raise ServeError(
            f"xDS cannot be served on {address}: {reason}; "
            "stop what uses it, or give another address (--xds-address)"
        ) from error


def _discovery_handler(shared: Shared, service: Service) -> grpc.GenericRpcHandler:
    """Both streams of a service; bytes go through as they are."""

    async def sotw(_requests: object, context: Context) -> None:
        await serve_stream(SOTW, shared, context, only=service.type)

    async def delta(_requests: object, context: Context) -> None:
        await serve_stream(DELTA, shared, context, only=service.type)

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        f"Stream{service.noun}": grpc.stream_stream_rpc_method_handler(sotw),
        f"Delta{service.noun}": grpc.stream_stream_rpc_method_handler(delta),
    }
    return grpc.method_handlers_generic_handler(service.name, methods)
