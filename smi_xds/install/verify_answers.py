"""Whether webhooks answer: objects that nobody keeps (dry runs), converted and judged."""

import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from smi_xds.install.cluster import Cluster
from smi_xds.install.findings import Finding, failed, unknown, well
from smi_xds.install.names import NAME, NAMESPACE
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.sources.kube_api import RefusedError

_CURE: Final = (
    "The API server has to reach the Service smi-xds-webhooks on port 15017. "
    f"See `kubectl logs --namespace {NAMESPACE} deployment/{NAME}`."
)
_RIGHTS: Final = "Verify as somebody who may create them."

_ACCOUNT: Final = {"kind": "ServiceAccount", "name": "verify", "namespace": NAMESPACE}
# The least that the oldest version of a kind takes; what has one version is never converted.
_OLDEST: Final[Mapping[str, Mapping[str, Any]]] = {
    "TrafficTarget": {"destination": _ACCOUNT, "sources": [], "specs": []},
    "HTTPRouteGroup": {"matches": [{"name": "all", "pathRegex": ".*", "methods": ["*"]}]},
    "TCPRoute": {},
    "TrafficSplit": {"spec": {"service": "verify", "backends": []}},
}
# No ServiceAccount can have that name.
_NEVER: Final = {"spec": {"destination": _ACCOUNT | {"name": "Not a name"}, "sources": []}}


async def conversion_answers(cluster: Cluster) -> Finding:
    """The oldest version of each kind is stored as the newest: somebody has to convert it."""
    what, kinds = "conversion", [it for it in SMI_KINDS.values() if len(it.versions) > 1]
    for kind in kinds:
        try:
            await _try(cluster, kind.kind, kind.versions[0], _OLDEST[kind.kind])
        except RefusedError as error:
            detail = f"{kind.kind} {kind.versions[0]}: {error}"
            if error.status == HTTPStatus.FORBIDDEN and "webhook" not in detail:
                return unknown(what, detail, cure=_RIGHTS)
            return failed(what, detail, cure=_CURE)
    return well(what, f"{len(kinds)} kinds are converted")


async def validation_answers(cluster: Cluster) -> Finding:
    """What can never work is refused by us; were nobody asked, it would be taken."""
    what, kind = "validation", SMI_KINDS["TrafficTarget"]
    body = {**_NEVER, "spec": {**_NEVER["spec"], "rules": []}}
    try:
        await _try(cluster, kind.kind, kind.stored, body)
    except RefusedError as error:
        if "validate.smi-xds.io" in str(error):
            return well(what, "objects are judged")
        if error.status == HTTPStatus.FORBIDDEN:
            return unknown(what, str(error), cure=_RIGHTS)
        return failed(what, str(error), cure=_CURE)
    return failed(what, "an object that can never work was taken: nobody was asked", cure=_CURE)


async def _try(cluster: Cluster, kind: str, version: str, body: Mapping[str, Any]) -> None:
    it = SMI_KINDS[kind]
    name = f"smi-xds-verify-{secrets.token_hex(4)}"
    document = {
        "apiVersion": f"{it.group}/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        **body,
    }
    path = f"/apis/{it.group}/{version}/namespaces/{NAMESPACE}/{it.plural}"
    await cluster.create(path, document, params={"dryRun": "All"})
