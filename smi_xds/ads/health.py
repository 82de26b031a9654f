"""grpc.health.v1: proxies may come once there was a first complete picture."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2 as pb

from smi_xds.ads.status import Status

HEALTH: Final = "grpc.health.v1.Health"

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_SERVING: Final = pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)
_NOT_SERVING: Final = pb.HealthCheckResponse(status=pb.HealthCheckResponse.NOT_SERVING)
_UNKNOWN: Final = pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)


class Health:
    """Answers for the server as a whole (the empty name) and for its services."""

    def __init__(self, status: Status, *services: str) -> None:
        self._status = status
        self._services = frozenset({"", *services})
        self._closed = asyncio.Event()

    def close(self) -> None:
        """The server stops: say so to who asks and who watches."""
        self._closed.set()

    @property
    def _is_serving(self) -> bool:
        return bool(self._status.rounds) and not self._closed.is_set()

    def handler(self) -> grpc.GenericRpcHandler:
        """What answers Check and Watch."""
        read = pb.HealthCheckRequest.FromString
        write = pb.HealthCheckResponse.SerializeToString
        check = grpc.unary_unary_rpc_method_handler(self._check, read, write)
        watch = grpc.unary_stream_rpc_method_handler(self._watch, read, write)
        return grpc.method_handlers_generic_handler(HEALTH, {"Check": check, "Watch": watch})

    async def _check(
        self, request: pb.HealthCheckRequest, context: Context
    ) -> pb.HealthCheckResponse:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return _SERVING if self._is_serving else _NOT_SERVING

    async def _watch(
        self, request: pb.HealthCheckRequest, _context: Context
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """The present state, then each change, until one of both leaves."""
        if request.service not in self._services:
            yield _UNKNOWN
            await self._closed.wait()
            return
        if not self._is_serving:
            yield _NOT_SERVING
            if not await self._published():
                return
        yield _SERVING
        await self._closed.wait()
        yield _NOT_SERVING

    async def _published(self) -> bool:
        """Wait until there is something to serve; False where the server stops before."""
        waits = (self._status.published(), self._closed.wait())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait) for wait in waits]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        return not self._closed.is_set()
