"""An API server of dictionaries, as far as what writes back asks for it."""

import copy
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from smi_xds.sources.kube_watch import RefusedError

_NAMESPACED = re.compile(r"(/apis?/(?:[^/]+/)?[^/]+)/namespaces/[^/]+(/[^/]+)/[^/]+")


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
        self.sent: list[Any] = []
        self.fail: Callable[[str, str], Exception | None] = lambda _method, _path: None
        self.page = 2
        """Items in one part of a list."""
        self.renewals = 0
        self._version = 0

    @asynccontextmanager
    async def get(
        self, path: str, params: Mapping[str, str], *, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        assert silence
        self._begin("LIST", path)
        items = [it for key, it in sorted(self.objects.items()) if path in _lists(key)]
        begin = int(params.get("continue", "0"))
        end = begin + self.page
        token = str(end) if end < len(items) else ""
        metadata = {"continue": token, "resourceVersion": "1"}
        body = json.dumps({"metadata": metadata, "items": items[begin:end]}).encode()

        async def chunks() -> AsyncIterator[bytes]:
            yield body[:7]
            yield body[7:]

        yield chunks()

    async def read(self, path: str) -> bytes:
        self._begin("GET", path)
        path, query, selector = path.partition("?labelSelector=")
        if query:
            return json.dumps({"items": self._labelled(path, selector)}).encode()
        return json.dumps(self._find(path)).encode()

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
        if method == "DELETE":
            self._find(path)
            return json.dumps(self.objects.pop(path)).encode()
        document = json.loads(body)
        self.sent.append(document)
        match method:
            case "POST":
                path = f"{path}/{document['metadata']['name']}"
                if path in self.objects:
                    raise RefusedError(HTTPStatus.CONFLICT, "already exists")
            case "PUT":
                old = self._find(path)
                if old["metadata"]["resourceVersion"] != document["metadata"]["resourceVersion"]:
                    raise RefusedError(HTTPStatus.CONFLICT, "the object has been modified")
            case "PATCH":
                assert params == {"fieldManager": "smi-xds"}
                path = path.removesuffix("/status")
                patch = _patched if "json-patch" in content_type else _merged
                document = patch(self._find(path), document)
            case _:
                raise NotImplementedError(method)
        return json.dumps(self.put(path, document)).encode()

    async def renew(self) -> None:
        self.renewals += 1

    def put(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """Keep it, in a new version."""
        self._version += 1
        metadata = {**document["metadata"], "resourceVersion": str(self._version)}
        self.objects[path] = {**document, "metadata": metadata}
        return self.objects[path]

    def methods(self, *only: str) -> list[str]:
        """The methods that were asked for, or how often these were."""
        return [method for method, _ in self.calls if not only or method in only]

    def _labelled(self, path: str, selector: str) -> list[dict[str, Any]]:
        label, _, value = selector.partition("%3D")
        found = [it for key, it in self.objects.items() if path in _lists(key)]
        return [it for it in found if it["metadata"].get("labels", {}).get(label) == value]

    def _find(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise RefusedError(HTTPStatus.NOT_FOUND, "not found")
        return self.objects[path]

    def _begin(self, method: str, path: str) -> None:
        self.calls.append((method, path))
        if (failure := self.fail(method, path)) is not None:
            raise failure


def _lists(path: str) -> tuple[str, str]:
    """The lists that an object is in: of its namespace, and of all."""
    found = _NAMESPACED.fullmatch(path)
    every = "".join(found.groups()) if found else ""
    return path.rpartition("/")[0], every


def _patched(document: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902, as much of it as is used."""
    document = copy.deepcopy(document)
    for step in patch:
        *way, last = step["path"].strip("/").split("/")
        place: Any = document
        for part in way:
            place = place[part]
        if step["op"] == "add":
            place[last] = step["value"]
        elif place.get(last) != step["value"]:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"test of {step['path']} failed")
    return document


def _merged(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return {**document, **patch}
