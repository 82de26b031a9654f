"""An API server of dictionaries, as far as what writes back asks for it."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from smi_xds.sources.kube_watch import RefusedError


class FakeClock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeApi:
    """Objects by path, each with a version; `fail` is asked before every request."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], Exception | None] = lambda _method, _path: None
        self.renewals = 0
        self._version = 0

    async def read(self, path: str) -> bytes:
        self._begin("GET", path)
        if path not in self.objects:
            raise RefusedError(HTTPStatus.NOT_FOUND, "not found")
        return json.dumps(self.objects[path]).encode()

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        self._begin(method, path)
        document = json.loads(body)
        if method == "POST":
            path = f"{path}/{document['metadata']['name']}"
            if path in self.objects:
                raise RefusedError(HTTPStatus.CONFLICT, "already exists")
        elif method == "PUT":
            if path not in self.objects:
                raise RefusedError(HTTPStatus.NOT_FOUND, "not found")
            seen = document["metadata"]["resourceVersion"]
            if self.objects[path]["metadata"]["resourceVersion"] != seen:
                raise RefusedError(HTTPStatus.CONFLICT, "the object has been modified")
        else:
            raise NotImplementedError(method, content_type, params)
        return json.dumps(self.put(path, document)).encode()

    async def renew(self) -> None:
        self.renewals += 1

    def put(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Keep it, in a new version."""
        self._version += 1
        metadata = {**document["metadata"], "resourceVersion": str(self._version)}
        self.objects[path] = {**document, "metadata": metadata}
        return self.objects[path]

    def _begin(self, method: str, path: str) -> None:
        self.calls.append((method, path))
        if (failure := self.fail(method, path)) is not None:
            raise failure
