"""The state of the authority in a Secret of Kubernetes, which all replicas share.

In memory here and nowhere else. Whoever is first creates it; an empty one that an installer made
will do, so that the right to create Secrets is not needed.
"""

import base64
import binascii
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec

from smi_xds.config import SecretName
from smi_xds.identity.state import NAMES, ConflictError, Stored, UnreachableStateError
from smi_xds.problems import IdentityError, SourceError
from smi_xds.sources.kube_api import RefusedError, UnreachableError

_LABELS: Final = {"app.kubernetes.io/name": "smi-xds"}
# Answers that pass, beside those of API servers that start or have lost their etcd (500 and above).
_LATER: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})


class Api(Protocol):
    """As much of an API server as is needed."""

    async def read(self, path: str, /) -> bytes:
        """RefusedError or UnreachableError where it cannot be."""

    async def send(self, method: str, path: str, body: bytes = b"", /) -> bytes:
        """Ask for a change; fails in the same ways."""

    async def renew(self) -> None:
        """Read the credentials again."""


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str


class _Secret(msgspec.Struct):
    """As much of one as we read."""

    metadata: _Metadata
    data: dict[str, str] | None = None


class SecretStore:
    """One Secret; the state is what it was when it was read last."""

    def __init__(self, api: Api, secret: SecretName) -> None:
        self._api = api
        self._secret = secret
        self._folder = f"/api/v1/namespaces/{secret.namespace}/secrets"
        self._object: dict[str, Any] | None = None

    def where(self, name: str = "", /) -> str:
        """Its name."""
        return f"Secret {self._secret}: {name}" if name else f"Secret {self._secret}"

    async def read(self) -> Stored:
        """As it is now; nothing, where there is none."""
        try:
            document = self._document(await self._asked("GET"))
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise self._refusal("read", error) from error
            self._object = None
            return Stored(files={}, version="")
        files = self._files(document.get("data") or {})
        self._object = document
        return Stored(files=files, version=document["metadata"]["resourceVersion"])

    async def write(self, files: Mapping[str, bytes], /, *, over: Stored) -> None:
        """Replace it as it was read, or create it."""
        before = self._object
        if over.version != ("" if before is None else before["metadata"]["resourceVersion"]):
            raise ConflictError
        encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        try:
            if before is None:
                await self._asked("POST", self._new(encoded))
            else:
                kept = {k: v for k, v in (before.get("data") or {}).items() if k not in NAMES}
                await self._asked("PUT", {**before, "data": {**kept, **encoded}})
        except RefusedError as error:
            if error.status == HTTPStatus.CONFLICT:
                raise ConflictError from None
            raise self._refusal("created" if before is None else "updated", error) from error

    def _new(self, data: Mapping[str, str]) -> Mapping[str, Any]:
        metadata = {"namespace": self._secret.namespace, "name": self._secret.name}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**metadata, "labels": _LABELS},
            "type": "Opaque",
            "data": data,
        }

    def _document(self, answer: bytes) -> dict[str, Any]:
        """All of it, for when it is written; something on the way may have answered instead."""
        try:
            document: dict[str, Any] = msgspec.json.decode(answer)
            msgspec.convert(document, _Secret)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnreachableStateError(
                f"{self.where()}: what came is no Secret: {error}"
            ) from None
        return document

    def _files(self, data: Mapping[str, str]) -> Mapping[str, bytes]:
        try:
            return {
                name: base64.b64decode(data[name], validate=True) for name in NAMES if name in data
            }
        except (binascii.Error, ValueError):  # not from an API server
            raise IdentityError(f"{self.where()} is not in base64") from None

    async def _asked(self, method: str, document: Mapping[str, Any] | None = None) -> bytes:
        """Once more with new credentials, where the old ones are refused."""
        for is_last in (False, True):
            try:
                return await self._ask(method, document)
            except RefusedError as error:
                if is_last or error.status != HTTPStatus.UNAUTHORIZED:
                    raise
                try:
                    await self._api.renew()
                except SourceError:
                    raise error from None
        raise AssertionError("the last time it is raised")

    async def _ask(self, method: str, document: Mapping[str, Any] | None) -> bytes:
        path = self._folder if method == "POST" else f"{self._folder}/{self._secret.name}"
        try:
            if document is None:
                return await self._api.read(path)
            return await self._api.send(method, path, msgspec.json.encode(document))
        except UnreachableError as error:
            raise UnreachableStateError(f"{self.where()} cannot be reached: {error}") from error

    def _refusal(self, what: str, error: RefusedError) -> IdentityError:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status in _LATER:
            return UnreachableStateError(f"{self.where()} cannot be {what} just now: {error}")
        return IdentityError(
            f"{self.where()} cannot be {what}: {error}: see what smi-xds may do, and whether the "
            f"namespace {self._secret.namespace} is there"
        )
