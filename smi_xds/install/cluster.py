"""An API server as `install` and `verify` ask it: objects in, objects out, errors in one line."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from smi_xds.config import KubernetesConfig
from smi_xds.install.names import FIELD_MANAGER
from smi_xds.problems import AskError
from smi_xds.sources.kube_api import RefusedError, UnreachableError
from smi_xds.sources.kube_connection import Connection

Json: TypeAlias = dict[str, Any]

# Seconds. An API server gives a conversion 30 to answer, and then tells why it had none.
_WEBHOOKS: Final = 45.0

_NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})

_WITHOUT_NAMESPACE: Final = frozenset(
    {
        "Namespace",
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "ValidatingWebhookConfiguration",
    }
)


class ForbiddenError(AskError):
    """The API server knows us, and we may not."""


def path_of(manifest: Mapping[str, Any]) -> str:
    """Where the API server has an object; of the kinds that an installation is made of."""
    api, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    scope = "" if kind in _WITHOUT_NAMESPACE else f"/namespaces/{metadata['namespace']}"
    prefix = "/apis" if "/" in api else "/api"
    return f"{prefix}/{api}{scope}/{kind.lower()}s/{metadata['name']}"


class Cluster:
    """One API server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def server(self) -> str:
        """Its URL."""
        return self._connection.server

    async def find(self, path: str) -> Json | None:
        """An object, or None where there is none; AskError where that cannot be known."""
        try:
            return self._object(await self._connection.read(path))
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise self._explained(error) from error
        except UnreachableError as error:
            raise self._away(error) from error

    async def create(
        self, path: str, it: Mapping[str, Any], *, params: Mapping[str, str] = _NO_PARAMS
    ) -> Json:
        """Post an object; RefusedError says why it was not taken."""
        body = msgspec.json.encode(it)
        try:
            answer = await self._connection.send(
                "POST", path, body, params=params, silence=_WEBHOOKS
            )
            return self._object(answer)
        except UnreachableError as error:
            raise self._away(error) from error

    async def apply(self, manifest: Mapping[str, Any], *, force: bool) -> Json:
        """Apply on the server's side; AskError where it refuses."""
        path = path_of(manifest)
        params = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        try:
            answer = await self._connection.send(
                "PATCH",
                path,
                msgspec.json.encode(manifest),
                content_type="application/apply-patch+yaml",
                params=params,
            )
        except RefusedError as error:
            name = f"{manifest['kind']} {manifest['metadata']['name']}"
            if error.status == HTTPStatus.CONFLICT:
                raise AskError(
                    f"{name}: {error}; somebody else has set that: leave it as it is by changing "
                    "the manifests (--dry-run prints them), or take it over with --force"
                ) from error
            raise self._explained(error, what=f"{name}: ") from error
        except UnreachableError as error:
            raise self._away(error) from error
        return self._object(answer)

    def _object(self, body: bytes) -> Json:
        try:
            return msgspec.json.decode(body, type=Json)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise AskError(
                f"{self.server} is no API server, or something on the way answers for it: {error}; "
                "give another --context"
            ) from error

    def _explained(self, error: RefusedError, *, what: str = "") -> AskError:
        match error.status:
            case HTTPStatus.UNAUTHORIZED:
                return AskError(
                    f"the API server at {self.server} does not know you: log in, or give another "
                    "--context"
                )
            case HTTPStatus.FORBIDDEN:
                return ForbiddenError(f"{what}{error}; ask for that right, or give --context")
            case _:
                return AskError(f"{what}the API server at {self.server} refuses: {error}")

    def _away(self, error: UnreachableError) -> AskError:
        return AskError(
            f"no answer of the API server at {self.server}: {error}; make it reachable, or give "
            "another --context"
        )


@asynccontextmanager
async def connected(config: KubernetesConfig) -> AsyncIterator[Cluster]:
    """The API server of a configuration, while the block lasts."""
    connection = Connection(config)
    await connection.open()
    try:
        yield Cluster(connection)
    finally:
        await connection.close()
