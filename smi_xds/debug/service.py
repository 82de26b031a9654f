"""The debug service on gRPC: reads the account of streams, changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import grpc

from smi_xds._proto.smi_xds.debug.v1 import (
    ExplainRequest,
    GetProxyRequest,
    GraphRequest,
    ListProblemsRequest,
    ListProxiesRequest,
    Proxy,
    WatchEventsRequest,
)
from smi_xds.ads.cache import Cache
from smi_xds.ads.feed import Kind
from smi_xds.ads.standing import oversized, proxies
from smi_xds.ads.status import Status
from smi_xds.debug import answers, report
from smi_xds.debug.descriptors import describe
from smi_xds.mesh.model import Mesh
from smi_xds.problems import AskError, Problem
from smi_xds.xds.encode import encode, fragment, splice
from smi_xds.xds.resources import ResourceSet

DEBUG: Final = "smi_xds.debug.v1.Debug"

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Problems: TypeAlias = Callable[[], Iterable[Problem]]
LastMesh: TypeAlias = Callable[[], Mesh | None]

# Named where a proxy is not found; more would be no line that anybody reads.
_NAMED: Final = 20


def _no_mesh() -> Mesh | None:
    return None


def debug_services(
    cache: Cache, status: Status, *, problems: Problems = tuple, mesh: LastMesh = _no_mesh
) -> Mapping[str, grpc.GenericRpcHandler]:
    """What `ads.server.listening` takes to serve the debug API.

    `problems` are the objects', `mesh` is the one that was published last; None where there is
    none, because resources are served that somebody else made.
    """
    describe()
    return {DEBUG: _Debug(cache, status, problems, mesh).handler()}


def all_problems(status: Status, problems: Problems) -> list[Problem]:
    """Those of the objects, and those of what was made of them."""
    return sorted({*problems(), *oversized(status)})


class _Debug:
    """Answers from what there is at the moment of the question."""

    def __init__(self, cache: Cache, status: Status, problems: Problems, mesh: LastMesh) -> None:
        self._cache = cache
        self._status = status
        self._problems = problems
        self._mesh = mesh

    def handler(self) -> grpc.GenericRpcHandler:
        """All methods."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "ListProxies": stream(self._list_proxies, ListProxiesRequest.parse, encode),
            "GetProxy": unary(self._get_proxy, GetProxyRequest.parse, bytes),
            "ListProblems": stream(self._list_problems, ListProblemsRequest.parse, encode),
            "Explain": unary(self._explain, ExplainRequest.parse, bytes),
            "Graph": unary(self._graph, GraphRequest.parse, bytes),
            "WatchEvents": stream(self._watch_events, WatchEventsRequest.parse, encode),
        }
        return grpc.method_handlers_generic_handler(DEBUG, methods)

    async def _list_proxies(
        self, _request: ListProxiesRequest, _context: Context
    ) -> AsyncIterator[object]:
        """A message each: of thousands, none is waited for while another is made."""
        for node, streams in proxies(self._cache, self._status).items():
            configured = self._cache.get(node) is not None
            yield report.proxy(node, streams, is_configured=configured, status=self._status)

    async def _get_proxy(self, request: GetProxyRequest, context: Context) -> bytes:
        node, resources = request.node, self._cache.get(request.node)
        streams = [each for each in self._status.streams.values() if each.node.id == node]
        if resources is None and not streams:
            await context.abort(grpc.StatusCode.NOT_FOUND, self._unknown(node))
        found = report.proxy(
            node, streams, is_configured=resources is not None, status=self._status
        )
        if resources is None or request.without_resources:
            return encode(found)
        return splice(found, "resources", await _fragments(resources))

    def _unknown(self, node: str) -> str:
        known = tuple(proxies(self._cache, self._status))
        named = ", ".join(known[:_NAMED]) or "none at all"
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        asked = f"no proxy {node}" if node else "no proxy is named: set node to NAMESPACE/POD"
        return f"{asked}; there are {named}{more}"

    async def _list_problems(
        self, _request: ListProblemsRequest, _context: Context
    ) -> AsyncIterator[object]:
        for problem in all_problems(self._status, self._problems):
            yield report.problem(problem)

    async def _explain(self, request: ExplainRequest, context: Context) -> bytes:
        return await self._answer(context, lambda mesh: answers.explanation(mesh, request))

    async def _graph(self, request: GraphRequest, context: Context) -> bytes:
        return await self._answer(context, lambda mesh: answers.graph(mesh, request.namespace))

    async def _answer(self, context: Context, answer: Callable[[Mesh], bytes]) -> bytes:
        """In a thread: a mesh is frozen, and a graph of thousands of services takes its time."""
        if (mesh := self._mesh()) is None:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "this server has no mesh to be asked about"
            )
        try:
            return await asyncio.to_thread(answer, mesh)
        except AskError as error:
            wrong = str(error)
        await context.abort(grpc.StatusCode.NOT_FOUND, wrong)
        raise AssertionError(wrong)

    async def _watch_events(
        self, request: WatchEventsRequest, context: Context
    ) -> AsyncIterator[object]:
        with self._status.feed.watching(request.node) as watch:
            # A client knows from the headers that nothing escapes it from now on.
            await context.send_initial_metadata(())
            while happening := await watch.next():
                yield report.event(happening)
                if happening.kind is Kind.DROPPED:
                    break
        if happening is not None:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "events were lost: they were read too slowly"
            )


async def _fragments(resources: ResourceSet) -> list[bytes]:
    """Each resource encoded; streams get their turn after each, for there may be thousands."""
    encoded = []
    for type_ in resources.layers:
        for _, each in sorted(resources.all(type_).items()):
            encoded.append(fragment(Proxy, "resources", encode(report.resource(each))))
            await asyncio.sleep(0)
    return encoded
