"""Whether what was installed is there as it should be: definitions, webhooks, pods, the lease."""

import asyncio
import base64
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import msgspec

from smi_xds.crds.definition import Conversion, definitions
from smi_xds.crds.webhooks import validating_webhook
from smi_xds.install.apply import is_established, is_rolled_out, progress
from smi_xds.install.cluster import Cluster, ForbiddenError, Json, path_of
from smi_xds.install.findings import INSTALL, Finding, Findings, failed, unknown, warned, well
from smi_xds.install.manifests import Manifest
from smi_xds.install.names import LEASE, NAME, NAMESPACE, TRUST_CONFIG_MAP, TRUST_KEY

_LOGS: Final = f"See `kubectl logs --namespace {NAMESPACE} deployment/{NAME}`."
_PODS: Final = f"See `kubectl describe pods --namespace {NAMESPACE}`."
_TRUST_CURE: Final = f"A replica puts it there, every few seconds. {_LOGS}"

# Its holder writes every two seconds, and no clock has to be believed.
_LEASE_PAUSE, _LEASE_SECONDS = 0.5, 15.0


async def trust_bundle(cluster: Cluster) -> tuple[str, Finding]:
    """The roots of the control plane as pods get them, PEM; empty where they are not to be seen."""
    what, found = "trust bundle", ""

    async def look() -> Finding:
        nonlocal found
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{TRUST_CONFIG_MAP}"
        found = str((((await cluster.find(path)) or {}).get("data") or {}).get(TRUST_KEY, ""))
        if not found:
            detail = f"there is no ConfigMap {NAMESPACE}/{TRUST_CONFIG_MAP} with {TRUST_KEY}"
            return failed(what, detail, cure=f"The leader writes it. {_LOGS}")
        number = found.count("-----BEGIN CERTIFICATE-----")
        return well(what, f"{number} root{'s' if number > 1 else ''} in {TRUST_CONFIG_MAP}")

    finding = await tolerant(what, look())
    return found, finding


async def definitions_there(cluster: Cluster, bundle: str) -> Findings:
    """Each CustomResourceDefinition, with all its versions, converted by us."""
    for wanted in definitions(Conversion.WEBHOOK):
        what = f"CRD {wanted['metadata']['name']}"
        yield await tolerant(what, _definition(cluster, what, wanted, bundle))


async def _definition(cluster: Cluster, what: str, wanted: Manifest, bundle: str) -> Finding:
    found = await cluster.find(path_of(wanted))
    if found is None:
        return failed(what, "is not there", cure=INSTALL)
    missing = _served(wanted) - _served(found)
    if missing:
        detail = f"does not serve {', '.join(sorted(missing))}"
        return failed(what, detail, cure="Run `smi-xds install --force`: it is somebody else's.")
    if not is_established(found):
        detail = "is not served yet"
        return failed(what, detail, cure=f"See `kubectl describe crd {what.split()[1]}`.")
    asked, has = _conversion(wanted), _conversion(found)
    if asked:
        if not asked.items() <= has.items():
            detail = "is not converted by smi-xds"
            return failed(what, detail, cure="Run `smi-xds install --force`.")
        if distrust := _distrust(has, bundle):
            return failed(what, distrust, cure=_TRUST_CURE)
    if former := _former_versions(found):
        detail = f"some objects may still be stored as {', '.join(former)}"
        return warned(what, detail, cure=_migration(found))
    return well(what, ", ".join(sorted(_served(wanted))))


def _former_versions(definition: Mapping[str, Any]) -> list[str]:
    """Versions that were stored once; objects in one take the webhook to be read in any other."""
    return sorted({*definition["status"].get("storedVersions", ())} - {_stored(definition)})


def _stored(definition: Mapping[str, Any]) -> str:
    return next(str(it["name"]) for it in definition["spec"]["versions"] if it["storage"])


def _migration(definition: Mapping[str, Any]) -> str:
    """As docs/decisions/0002 says: what is written again is stored as the API server stores now."""
    name = definition["metadata"]["name"]
    status = msgspec.json.encode({"status": {"storedVersions": [_stored(definition)]}}).decode()
    return (
        f"Write them again: `kubectl get {name} -A -o json | kubectl replace -f -`; then `kubectl "
        f"patch crd {name} --subresource=status --type=merge -p '{status}'`."
    )


def _served(definition: Mapping[str, Any]) -> set[str]:
    return {it["name"] for it in definition["spec"]["versions"] if it["served"]}


def _conversion(definition: Mapping[str, Any]) -> dict[str, Any]:
    conversion = definition["spec"].get("conversion") or {}
    return dict((conversion.get("webhook") or {}).get("clientConfig") or {})


def _distrust(client: Mapping[str, Any], bundle: str) -> str:
    """Why it would not believe us. Where the bundle is not known, webhooks show by answering."""
    trusted = base64.b64decode(str(client.get("caBundle", ""))).decode(errors="replace")
    if not trusted:
        return "trusts nobody yet"
    return "trusts another root than the control plane has" if bundle not in {"", trusted} else ""


async def validation_there(cluster: Cluster, bundle: str) -> Finding:
    """The configuration by which API servers have objects judged."""
    what = "validating webhook"
    wanted = validating_webhook()
    found = await cluster.find(path_of(wanted))
    if found is None:
        return failed(what, "is not there", cure=INSTALL)
    [ours] = wanted["webhooks"]
    clients = {it["name"]: it["clientConfig"] for it in found.get("webhooks") or ()}
    client: Mapping[str, Any] = clients.get(ours["name"], {})
    if not ours["clientConfig"]["service"].items() <= (client.get("service") or {}).items():
        return failed(what, "does not lead to smi-xds", cure="Run `smi-xds install --force`.")
    if distrust := _distrust(client, bundle):
        return failed(what, distrust, cure=_TRUST_CURE)
    return well(what, "trusts the root of the control plane")


async def replicas_ready(cluster: Cluster) -> Finding:
    """The Deployment, as `kubectl rollout status` judges."""
    what = "deployment"
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}"
    found = await cluster.find(path)
    if found is None:
        return failed(what, f"{NAMESPACE}/{NAME} is not there", cure=INSTALL)
    if not is_rolled_out(found):
        return failed(what, progress(found), cure=_PODS)
    return well(what, f"{found['spec']['replicas']} replicas are ready")


async def leader_alive(cluster: Cluster) -> Finding:
    """Whether one replica writes status, events and certificates: it renews its lease."""
    what = "leader"
    path = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}"
    first = await cluster.find(path)
    holder = ((first or {}).get("spec") or {}).get("holderIdentity")
    if first is None or not holder:
        return failed(what, f"nobody holds the Lease {NAMESPACE}/{LEASE}", cure=_LOGS)
    try:
        async with asyncio.timeout(_LEASE_SECONDS):
            while True:
                now = await cluster.find(path)
                if now is not None and _version(now) != _version(first):
                    return well(what, f"{holder} renews its lease")
                await asyncio.sleep(_LEASE_PAUSE)
    except TimeoutError:
        detail = f"{holder} holds the lease and did not renew it for {_LEASE_SECONDS:.0f} s"
        return failed(what, detail, cure=f"Another replica takes it over. {_LOGS}")


def _version(it: Json) -> str:
    return str(it["metadata"]["resourceVersion"])


async def tolerant(what: str, looked: Awaitable[Finding]) -> Finding:
    """The finding, or that it may not be looked at."""
    try:
        return await looked
    except ForbiddenError as error:
        return unknown(what, str(error), cure="Verify as somebody who may read it.")
