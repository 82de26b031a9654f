"""Fills an API server as fast as it takes, and keeps it moving: many requests at a time."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import aiohttp

from benchmarks.cluster import world as made
from benchmarks.cluster.world import Document, World
from tests.kube.cluster import ADMIN_TOKEN, KubeCluster

_Item = TypeVar("_Item")

# The API server refuses more than 200 changes at a time.
_AT_ONCE: Final = 64

_PLURALS: Final = {
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "Service": "services",
    "Pod": "pods",
    "EndpointSlice": "endpointslices",
    "TrafficTarget": "traffictargets",
    "HTTPRouteGroup": "httproutegroups",
    "TrafficSplit": "trafficsplits",
}


@asynccontextmanager
async def session(kube: KubeCluster) -> AsyncIterator["Api"]:
    """What kubectl would use, without its start."""
    tls = ssl.create_default_context(cafile=kube.scratch / "ca.crt")
    async with aiohttp.ClientSession(
        kube.url,
        connector=aiohttp.TCPConnector(ssl=tls, limit=_AT_ONCE),
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        read_bufsize=2**20,
    ) as opened:
        yield Api(opened)


class Api:
    """Requests to one API server."""

    def __init__(self, opened: aiohttp.ClientSession) -> None:
        self.http = opened

    async def create(self, document: Document) -> None:
        """POST it."""
        await self._send("POST", collection(document), document, "application/json")

    async def patch(self, path: str, patch: Document) -> int:
        """Merge into what is there; the resource version that this gave."""
        return await self._send("PATCH", path, patch, "application/merge-patch+json")

    async def _send(self, method: str, path: str, body: Document, kind: str) -> int:
        async with self.http.request(
            method, path, data=json.dumps(body), headers={"Content-Type": kind}
        ) as answer:
            text = await answer.read()
            if not answer.ok:
                raise AssertionError(f"{method} {path}: {answer.status} {text[:300]!r}")
            return int(json.loads(text)["metadata"]["resourceVersion"])


def collection(document: Document) -> str:
    """The path under which objects of its kind and namespace are."""
    version, namespace = document["apiVersion"], document["metadata"].get("namespace")
    prefix = "/api" if version == "v1" else "/apis"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{prefix}/{version}{scope}/{_PLURALS[document['kind']]}"


def path_of(document: Document) -> str:
    """The path of one object."""
    return f"{collection(document)}/{document['metadata']['name']}"


async def fill(api: Api, world: World) -> None:
    """Make all of it; what others need comes first."""
    for documents in (
        made.namespaces(),
        made.accounts(world),
        made.services(world),
        made.slices(world),
        made.smi(world),
    ):
        await at_once(documents, api.create)

    async def make(both: tuple[Document, Document]) -> None:
        pod, status = both
        await api.create(pod)
        await api.patch(f"{path_of(pod)}/status", status)

    await at_once(made.pods(world), make)


async def at_once(items: Iterable[_Item], act: Callable[[_Item], Awaitable[object]]) -> None:
    """Do something with each, as many at a time as the API server likes."""
    pending = iter(items)

    async def work() -> None:
        for item in pending:
            await act(item)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(work())
