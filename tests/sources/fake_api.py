"""An API server of a few lines, which does at its caller's word what a real one does rarely."""

import asyncio
import json
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from smi_xds.config import KubernetesConfig
from smi_xds.sources import kube_watch
from smi_xds.sources.kubernetes import KubernetesSource
from tests.sources.recorder import Recorder, running
from tests.support.wait import eventually_async

CUT, END = b"cut", b"end"

ACCOUNTS = "/api/v1/serviceaccounts"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
SPLITS = "/apis/split.smi-spec.io/v1alpha4/trafficsplits"
VERSIONS_OF_SPLITS = [SPLITS.replace("v1alpha4", f"v1alpha{n}") for n in (4, 3, 2, 1)]


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of seconds are for people; here they are short."""
    monkeypatch.setattr(kube_watch, "MISSING_PAUSE", 0.05)
    monkeypatch.setattr(kube_watch, "FORBIDDEN_PAUSE", 0.05)
    monkeypatch.setattr(kube_watch, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(kube_watch, "LONGEST_PAUSE", 0.1)


def watching(config: KubernetesConfig) -> AbstractAsyncContextManager[Recorder]:
    """Run a source until the end of the block."""
    return running(KubernetesSource(config))


@dataclass
class FakeApi:
    """Lists by path, each object by name; what watches were asked, and how to disturb them."""

    objects: defaultdict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    refusals: dict[str, int] = field(default_factory=dict)
    """Paths (or, with `?watch`, their watches) that are refused, and with which status."""
    tokens: set[str] = field(default_factory=set)
    """The tokens that are accepted; empty for any."""
    answers: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    """Paths (or `*`) that are answered with just this status, content type and body."""
    once: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    """Paths that are answered so the next time."""
    page: int = 500
    version: int = 1
    oldest: int = 0
    """Watches and pages of older versions are gone."""
    keeps_tokens: bool = True
    """Whether a list may be gone on with; otherwise it is always too late for the next part."""
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    history: list[tuple[int, str, bytes]] = field(default_factory=list)
    watches: dict[str, list[asyncio.Queue[bytes]]] = field(default_factory=dict)
    port: int = 0

    def put(self, path: str, name: str, **fields: Any) -> None:
        """Create or change an object, and tell those who watch."""
        kind = "MODIFIED" if name in self.objects[path] else "ADDED"
        self.version += 1
        metadata = {"name": name, "namespace": "shop", "resourceVersion": str(self.version)}
        it = {"metadata": metadata | fields.pop("metadata", {}), **fields}
        self.objects[path][name] = it
        self._tell(path, {"type": kind, "object": it})

    def remove(self, path: str, name: str) -> None:
        """Delete an object, and tell those who watch."""
        self.version += 1
        it = self.objects[path].pop(name)
        it["metadata"]["resourceVersion"] = str(self.version)
        self._tell(path, {"type": "DELETED", "object": it})

    def send(self, path: str, line: object) -> None:
        """Send a line to the watches of a path; bytes are sent as they are."""
        raw = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
        for queue in self.watches.get(path, ()):
            queue.put_nowait(raw)

    def _tell(self, path: str, line: object) -> None:
        raw = json.dumps(line).encode() + b"\n"
        self.history.append((self.version, path, raw))
        self.send(path, raw)

    def asked(self, path: str, *, watch: bool) -> list[Mapping[str, str]]:
        """The parameters of all lists, or watches, of a path."""
        return [
            params
            for asked, params in self.requests
            if asked == path and ("watch" in params) == watch
        ]

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        """Serve until the end of the block, on the same port as before."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=tls)
            await site.start()
            self.port = runner.addresses[0][1]
            yield
        finally:
            for path in self.watches:
                self.send(path, CUT)
            await runner.cleanup()

    async def watched(self, path: str) -> None:
        """Wait until somebody watches."""
        await eventually_async(lambda: self.watches.get(path))

    def config(
        self, folder: Path, *, token: str = "t", namespaces: tuple[str, ...] = ()
    ) -> KubernetesConfig:
        """A kubeconfig that leads here."""
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        return KubernetesConfig(kubeconfig=str(folder / "kubeconfig"), namespaces=namespaces)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, params = request.path, dict(request.query)
        self.requests.append((path, params))
        watch = "?watch" if "watch" in params else ""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens and token not in self.tokens:
            return _status(401, "no such token")
        if status := self.refusals.get(path + watch) or self.refusals.get("*"):
            return _status(status, "refused by the test")
        if raw := self.once.pop(path, None) or self.answers.get(path) or self.answers.get("*"):
            status, content_type, body = raw
            headers = {"Content-Type": content_type, "Location": "/elsewhere"}
            return web.Response(status=status, body=body, headers=headers)
        if path == "/apis":
            return web.json_response({"kind": "APIGroupList", "groups": []})
        if watch:
            if int(params["resourceVersion"]) < self.oldest:
                return _status(410, "too old")
            return await self._watch(request, path)
        return self._list(path, params)

    def _list(self, path: str, params: Mapping[str, str]) -> web.StreamResponse:
        start, _, version = params.get("continue", f"0:{self.version}").partition(":")
        if int(version) < self.oldest or ("continue" in params and not self.keeps_tokens):
            return _status(410, "continue token too old")
        items = list(self.objects[path].values())
        limit = min(self.page, int(params["limit"])) if "limit" in params else len(items)
        end = int(start) + limit
        token = f"{end}:{version}" if end < len(items) else ""
        metadata = {"resourceVersion": version, "continue": token}
        return web.json_response({"metadata": metadata, "items": items[int(start) : end]})

    async def _watch(self, request: web.Request, path: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        for version, changed, line in self.history:
            if changed == path and version > int(request.query["resourceVersion"]):
                queue.put_nowait(line)
        self.watches.setdefault(path, []).append(queue)
        try:
            while (line := await queue.get()) not in {CUT, END}:
                await response.write(line)
        finally:
            self.watches[path].remove(queue)
        if line == CUT and request.transport:
            request.transport.abort()
        return response


def _status(code: int, message: str) -> web.StreamResponse:
    body = {"kind": "Status", "code": code, "message": message}
    headers = {"Retry-After": "1"} if code == 429 else None
    return web.json_response(body, status=code, headers=headers)
