"""How API servers come to trust our webhooks: our root, in the objects that name our Service.

Looked after again and again, as those objects are applied, replaced and made anew at any time.
"""

import asyncio
import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, NoReturn, Protocol

import msgspec
import structlog

from smi_xds.crds.webhooks import VALIDATION_NAME
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.problems import SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError

log = structlog.get_logger()

PATHS: Final = (
    *(
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{it.plural}.{it.group}"
        for it in SMI_KINDS.values()
    ),
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/" + VALIDATION_NAME,
)
"""What names our Service, where there is one."""

# Until then, objects of other versions than the stored one cannot be read after their CRD was made
# anew. Seven reads of one object each are nothing to an API server.
_EVERY: Final = 5.0


class Api(Protocol):
    """As much of an API server as is needed."""

    async def read(self, path: str, /) -> bytes:
        """RefusedError or UnreachableError where it cannot be."""

    async def patch(self, path: str, patch: bytes, /) -> bytes:
        """Apply a JSON patch (RFC 6902); fails in the same ways."""

    async def renew(self) -> None:
        """Read the credentials again."""


Patch = Sequence[Mapping[str, Any]]


def trust_patch(
    document: Mapping[str, Any], bundle: bytes, *, namespace: str, service: str
) -> Patch:
    """What makes a definition or a webhook configuration trust this bundle (PEM); often nothing.

    Only where they name that Service: what leads to somebody else is not ours.
    """
    encoded = base64.b64encode(bundle).decode()
    patch: list[Mapping[str, Any]] = []
    for path, client in _clients(document):
        named = client.get("service") or {}
        if (named.get("namespace"), named.get("name")) != (namespace, service):
            continue
        if client.get("caBundle") != encoded:
            # Lists are patched by place: whoever moved things meanwhile makes the test fail.
            patch.append({"op": "test", "path": f"{path}/service/name", "value": service})
            patch.append({"op": "add", "path": f"{path}/caBundle", "value": encoded})
    return patch


def _clients(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    conversion = (document.get("spec") or {}).get("conversion") or {}
    if client := (conversion.get("webhook") or {}).get("clientConfig"):
        yield "/spec/conversion/webhook/clientConfig", client
    for place, webhook in enumerate(document.get("webhooks") or ()):
        yield f"/webhooks/{place}/clientConfig", webhook.get("clientConfig") or {}


class Trust:
    """Keeps the bundle in place; the state is what was told already."""

    def __init__(
        self, api: Api, bundle: Callable[[], bytes], *, namespace: str, service: str
    ) -> None:
        self._api = api
        self._bundle = bundle
        self._namespace = namespace
        self._service = service
        self._told: dict[str, str] = {}

    async def run(self) -> NoReturn:
        """For ever."""
        while True:
            await self.step()
            await asyncio.sleep(_EVERY)

    async def step(self) -> None:
        """Look at everything once."""
        for path in PATHS:
            try:
                await self._keep(path)
                self._told.pop(path, None)
            except RefusedError as error:
                await self._refused(path, error)
            except UnreachableError as error:
                self._tell(path, str(error))
                return  # so are all others

    async def _keep(self, path: str) -> None:
        document = _object(await self._api.read(path))
        patch = trust_patch(
            document, self._bundle(), namespace=self._namespace, service=self._service
        )
        if patch:
            await self._api.patch(path, msgspec.json.encode(patch))
            log.info("webhook_trusted", path=path)

    async def _refused(self, path: str, error: RefusedError) -> None:
        match error.status:
            case HTTPStatus.NOT_FOUND:
                pass  # it may come; without it there is nobody to trust us
            case HTTPStatus.CONFLICT | HTTPStatus.UNPROCESSABLE_ENTITY:
                pass  # changed meanwhile: the next round sees what it is now
            case HTTPStatus.UNAUTHORIZED:
                self._tell(path, str(error))
                with suppress(SourceError):  # told already: the old ones are refused
                    await self._api.renew()
            case _:
                self._tell(path, str(error))

    def _tell(self, path: str, reason: str) -> None:
        if self._told.get(path) != reason:
            log.warning(
                "webhook_untrusted",
                path=path,
                reason=reason,
                cure="It is tried again; where that is refused, let smi-xds get and patch it: "
                "kubectl apply -k deploy/kubernetes/webhooks.",
            )
        self._told[path] = reason


def _object(answer: bytes) -> Mapping[str, Any]:
    """Something on the way may have answered instead of the API server."""
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreachableError(f"what came is no object: {error}") from None
