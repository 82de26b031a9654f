"""The roots where sidecars in pods find them: a ConfigMap in each namespace that has some.

By these they know our server, before it has told them anything. The leader writes them, and a
rotation waits until all have the roots of its phase.
"""

import asyncio
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Any, Final, NoReturn, Protocol

import msgspec
import structlog

from smi_xds.problems import SourceError
from smi_xds.sources.kube_api import RefusedError, UnreachableError

NAME: Final = "smi-xds-trust"
KEY: Final = "ca.crt"

_LABELS: Final = {"app.kubernetes.io/name": "smi-xds"}
# A new namespace, or new roots: pods wait for them to start.
_EVERY: Final = 2.0
# Somebody may have changed or deleted one; a read for each is nothing to an API server then.
_LOOK_AGAIN: Final = 30
# What an API server says of a namespace that is being deleted (its admission, NamespaceLifecycle).
_LEAVING: Final = "because it is being terminated"

log = structlog.get_logger()


class Api(Protocol):
    """As much of an API server as is needed."""

    async def read(self, path: str, /) -> bytes:
        """RefusedError or UnreachableError where it cannot be."""

    async def send(self, method: str, path: str, body: bytes = b"", /) -> bytes:
        """Ask for a change; fails in the same ways."""

    async def renew(self) -> None:
        """Read the credentials again."""


class _ConfigMap(msgspec.Struct):
    """As much of one as we read."""

    metadata: dict[str, Any]
    data: dict[str, str] | None = None


class TrustMaps:
    """Keeps them; the state is what stands where, as far as was seen."""

    def __init__(
        self,
        api: Api,
        *,
        bundle: Callable[[], bytes],
        namespaces: Callable[[], Collection[str]],
        is_leader: Callable[[], bool],
    ) -> None:
        self._api = api
        self._bundle = bundle
        self._namespaces = namespaces
        self._is_leader = is_leader
        self._written: dict[str, str] = {}
        self._told: dict[str, str] = {}

    def lacking(self) -> list[str]:
        """Which do not have the roots of now."""
        bundle = self._bundle().decode()
        lacking = (it for it in self._namespaces() if self._written.get(it) != bundle)
        return [f"ConfigMap {it}/{NAME}" for it in sorted(lacking)] if self._is_leader() else []

    async def run(self) -> NoReturn:
        """For ever."""
        looks = 0
        while True:
            if looks % _LOOK_AGAIN == 0 or not self._is_leader():
                self._written.clear()
            await self.step()
            looks += 1
            await asyncio.sleep(_EVERY)

    async def step(self) -> None:
        """Write what is not as it should be, once."""
        if not self._is_leader():
            return
        bundle = self._bundle().decode()
        for namespace in sorted(self._namespaces()):
            if self._written.get(namespace) == bundle:
                continue
            try:
                await self._keep(namespace, bundle)
                self._written[namespace] = bundle
                self._told.pop(namespace, None)
            except RefusedError as error:
                if error.status == HTTPStatus.FORBIDDEN and _LEAVING in str(error):
                    # Nobody starts there any more; it may stay like that for weeks, and no rotation
                    # is to wait for it.
                    self._written[namespace] = bundle
                else:
                    await self._refused(namespace, error)
            except UnreachableError as error:
                self._tell(namespace, str(error))
                return  # so are all others

    async def _keep(self, namespace: str, bundle: str) -> None:
        folder = f"/api/v1/namespaces/{namespace}/configmaps"
        try:
            document = _config_map(await self._api.read(f"{folder}/{NAME}"))
        except RefusedError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            await self._api.send("POST", folder, msgspec.json.encode(_new(namespace, bundle)))
            return
        data = document.get("data") or {}
        if data.get(KEY) != bundle:
            changed = {**document, "data": {**data, KEY: bundle}}
            await self._api.send("PUT", f"{folder}/{NAME}", msgspec.json.encode(changed))
            log.info("trust_written", namespace=namespace)

    async def _refused(self, namespace: str, error: RefusedError) -> None:
        match error.status:
            case HTTPStatus.NOT_FOUND | HTTPStatus.CONFLICT:
                pass  # the namespace is going, or somebody else wrote: the next look tells
            case HTTPStatus.UNAUTHORIZED:
                try:
                    await self._api.renew()
                except SourceError:
                    self._tell(namespace, str(error))
            case _:
                self._tell(namespace, str(error))

    def _tell(self, namespace: str, reason: str) -> None:
        if self._told.get(namespace) != reason:
            log.warning(
                "trust_not_written",
                namespace=namespace,
                reason=reason,
                cure=f"Let smi-xds get, create and update ConfigMaps named {NAME} there.",
            )
        self._told[namespace] = reason


def _config_map(answer: bytes) -> dict[str, Any]:
    """All of it; something on the way may have answered instead of the API server."""
    try:
        document: dict[str, Any] = msgspec.json.decode(answer)
        msgspec.convert(document, _ConfigMap)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreachableError(f"what came is no ConfigMap: {error}") from None
    return document


def _new(namespace: str, bundle: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": NAME, "labels": _LABELS},
        "data": {KEY: bundle},
    }
