"""The SMI objects of an API server, as far as their status goes: listed, read and patched.

In the version that the source reads, which is the stored one where it is served: nothing has to be
converted, and a conversion webhook that is down does no harm.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec

from smi_xds.objects.versions import SMI_KINDS
from smi_xds.sources.kube_kinds import KINDS, Kind
from smi_xds.sources.kube_watch import PAGE, RefusedError, UnreachableError
from smi_xds.sources.kube_wire import AnswerError, page_from
from smi_xds.values import ObjectRef
from smi_xds.writeback.conditions import merged
from smi_xds.writeback.desk import Draft, Told

MANAGER: Final = "smi-xds"
"""Who we are in `managedFields`."""

# Who we are, and how much the API server has to do, is the same for all kinds.
_OF_ALL: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.GONE,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
# Seconds that a list may be silent: the server reads all from etcd first.
_LIST_SILENCE: Final = 60.0


class Api(Protocol):
    """As much of an API server as is needed."""

    def get(
        self, path: str, params: Mapping[str, str], *, silence: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The chunks of an answer; RefusedError or UnreachableError, also amid the chunks."""

    async def read(self, path: str, /) -> bytes:
        """One small answer; fails in the same ways."""

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] = ...,
    ) -> bytes:
        """Ask for a change; fails in the same ways."""

    async def renew(self) -> None:
        """Read the credentials again."""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0


class _Object(msgspec.Struct):
    metadata: _Metadata
    status: Any = None


_object = msgspec.json.Decoder(_Object)


class Shelf:
    """Asks one API server; remembers in which version it serves each kind."""

    def __init__(self, api: Api, namespaces: Sequence[str] = ()) -> None:
        self._api = api
        self._namespaces = tuple(namespaces) or ("",)
        self._kinds = {it.kind: it for it in KINDS if it.kind in SMI_KINDS}

    def kind(self, name: str) -> Kind:
        """A kind in the version that is served."""
        return self._kinds[name]

    async def list_all(self) -> tuple[dict[ObjectRef, Told], dict[str, RefusedError]]:
        """What all objects say, and why not for the kinds that cannot be listed.

        Kinds that are not installed have none. RefusedError where it is not about a kind.
        """
        found: dict[ObjectRef, Told] = {}
        refused: dict[str, RefusedError] = {}
        for name in self._kinds:
            for namespace in self._namespaces:
                try:
                    found.update(await self._list_served(name, namespace))
                except RefusedError as error:
                    if error.status in _OF_ALL:
                        raise
                    # We may not, or a webhook that converts this kind is down.
                    refused[name] = error
        return found, refused

    async def read(self, ref: ObjectRef) -> Told | None:
        """What one object says; None where it is gone."""
        try:
            body = await self._api.read(self._path(ref))
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return _told(_read(body))

    async def write(self, draft: Draft, *, now: str) -> Told:
        """Have an object say it, if it still is the one, and says what it said; what it says then.

        RefusedError with 422 where it is not.
        """
        assert draft.told is not None, "read before"
        body = await self._api.send(
            "PATCH",
            f"{self._path(draft.ref)}/status",
            msgspec.json.encode(patch_of(draft, now=now)),
            content_type="application/json-patch+json",
            params={"fieldManager": MANAGER},
        )
        return _told(_read(body))

    def _path(self, ref: ObjectRef) -> str:
        return f"{self.kind(ref.kind).path(namespace=ref.namespace)}/{ref.name}"

    async def _list_served(self, name: str, namespace: str) -> dict[ObjectRef, Told]:
        # The CRDs of other meshes serve but one or two versions.
        for kind in self.kind(name).in_all_versions():
            try:
                found = await self._list(kind, namespace)
            except RefusedError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                continue
            self._kinds[name] = kind
            return found
        return {}

    async def _list(self, kind: Kind, namespace: str) -> dict[ObjectRef, Told]:
        found: dict[ObjectRef, Told] = {}
        token = ""
        while True:
            params = {"limit": str(PAGE), **({"continue": token} if token else {})}
            path = kind.path(namespace=namespace)
            async with self._api.get(path, params, silence=_LIST_SILENCE) as chunks:
                body = b"".join([chunk async for chunk in chunks])
            try:
                page = page_from(body)
            except AnswerError as error:
                raise UnreachableError(str(error)) from error
            for item in page.items or ():
                it = _read(item)
                found[ObjectRef(kind.kind, it.metadata.namespace, it.metadata.name)] = _told(it)
            token = page.metadata.token
            if not token:
                return found


def patch_of(draft: Draft, *, now: str) -> list[dict[str, Any]]:
    """The JSON patch (RFC 6902) that has an object say it.

    Tested together with it, at once, in the API server: that its spec is the one that was judged,
    so that nothing is ever written after a change that we have not seen; and that nobody else
    changed its status. Labels and the like may have been, which a resourceVersion would not allow.
    """
    told = draft.told
    assert told is not None, "read before"
    status = dict(told.status or {})
    status["conditions"] = merged(draft.conditions, told.conditions, now=now)
    tests: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": draft.uid},
        {"op": "test", "path": "/metadata/generation", "value": draft.generation},
    ]
    if told.status is not None:
        tests.append({"op": "test", "path": "/status", "value": dict(told.status)})
    return [*tests, {"op": "add", "path": "/status", "value": status}]


def _read(body: bytes | msgspec.Raw) -> _Object:
    try:
        return _object.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreachableError(f"what is no object: {error}") from error


def _told(it: _Object) -> Told:
    status = it.status if isinstance(it.status, dict) else None
    return Told(it.metadata.uid, it.metadata.generation, status)
