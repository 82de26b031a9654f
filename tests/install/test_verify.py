"""What `smi-xds verify` says of each thing that can be wrong with an installation."""

import asyncio
import base64
import copy
from collections.abc import Mapping
from typing import Any, cast

import pytest

from smi_xds.config import Address
from smi_xds.crds.definition import Conversion, definitions
from smi_xds.crds.webhooks import validating_webhook
from smi_xds.debug.service import debug_services
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.serving import ServerTls, service_names
from smi_xds.install import verify_objects, verify_servers
from smi_xds.install.cluster import Cluster, ForbiddenError, path_of
from smi_xds.install.findings import Finding, State
from smi_xds.install.names import NAME, NAMESPACE
from smi_xds.install.verify_answers import conversion_answers, validation_answers
from smi_xds.install.verify_rights import ACCOUNT, rights_granted
from smi_xds.install.workload import Choices, deployment
from smi_xds.objects.versions import SMI_KINDS
from smi_xds.sources.kube_api import RefusedError
from smi_xds.xds.resources import CLUSTER
from tests.ads.client import NODE, serving, stream
from tests.ads.play import resources
from tests.support.identity import mk_authority

ROOT = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
TARGET = "traffictargets.access.smi-spec.io"


class Objects:
    """A cluster that has these objects."""

    def __init__(self, *documents: Mapping[str, Any]) -> None:
        self.by_path: dict[str, Any] = {path_of(it): it for it in documents}
        self.rewrites = False
        """Whether somebody writes them again all the time."""

    async def find(self, path: str) -> Any:
        found = self.by_path.get(path)
        if found is not None and self.rewrites:
            metadata = found["metadata"]
            metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)
        return copy.deepcopy(found)


def cluster(*documents: Mapping[str, Any]) -> Cluster:
    return cast("Cluster", Objects(*documents))


def installed() -> dict[str, Any]:
    """The definitions as they are after a while, by name."""
    found = {it["metadata"]["name"]: copy.deepcopy(it) for it in definitions(Conversion.WEBHOOK)}
    for it in found.values():
        it["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        if "webhook" in it["spec"]["conversion"]:
            client = it["spec"]["conversion"]["webhook"]["clientConfig"]
            client["caBundle"] = base64.b64encode(ROOT.encode()).decode()
    return found


async def judged(documents: Mapping[str, Any], *, bundle: str = ROOT) -> dict[str, Finding]:
    here = cluster(*documents.values())
    found = [it async for it in verify_objects.definitions_there(here, bundle)]
    return {it.what.removeprefix("CRD "): it for it in found}


async def test_definitions_as_we_install_them_are_well() -> None:
    """All six, with their versions; by any root, where ours is not known."""
    by_ours, by_any = [await judged(installed(), bundle=bundle) for bundle in (ROOT, "")]
    assert by_ours == by_any
    assert [it.state for it in by_any.values()] == [State.OK] * 6
    assert by_any[TARGET].detail == "v1alpha1, v1alpha2, v1alpha3, v1alpha4"


async def test_what_is_wrong_with_a_definition_is_told_with_its_cure() -> None:
    """Missing, of another mesh, not served, not converted, or converted by whom nobody trusts."""
    documents = installed()
    del documents["udproutes.specs.smi-spec.io"]
    documents[TARGET]["spec"]["versions"][0]["served"] = False
    documents["tcproutes.specs.smi-spec.io"]["status"] = {}
    documents["trafficsplits.split.smi-spec.io"]["spec"]["conversion"] = {"strategy": "None"}
    webhook = documents["httproutegroups.specs.smi-spec.io"]["spec"]["conversion"]["webhook"]
    webhook["clientConfig"]["caBundle"] = base64.b64encode(b"other").decode()

    found = await judged(documents)
    del webhook["clientConfig"]["caBundle"]
    later = await judged(documents, bundle="")

    bad = {name: it.detail for name, it in found.items() if it.state is not State.OK}
    assert bad == {
        "udproutes.specs.smi-spec.io": "is not there",
        TARGET: "does not serve v1alpha4",
        "tcproutes.specs.smi-spec.io": "is not served yet",
        "trafficsplits.split.smi-spec.io": "is not converted by smi-xds",
        "httproutegroups.specs.smi-spec.io": "trusts another root than the control plane has",
    }
    assert all(found[name].cure for name in bad)
    assert later["httproutegroups.specs.smi-spec.io"].detail == "trusts nobody yet"


async def test_objects_stored_in_a_former_version_are_a_warning() -> None:
    """They take the webhook to be read; the cure is to write them again, and then to say so."""
    documents = installed()
    documents[TARGET]["status"]["storedVersions"] = ["v1alpha3", "v1alpha4"]
    documents["tcproutes.specs.smi-spec.io"]["status"]["storedVersions"] = ["v1alpha4"]

    found = await judged(documents)

    assert [name for name, it in found.items() if it.state is not State.OK] == [TARGET]
    assert found[TARGET].state is State.WARNING
    assert found[TARGET].detail == "some objects may still be stored as v1alpha3"
    assert found[TARGET].cure == (
        f"Write them again: `kubectl get {TARGET} -A -o json | kubectl replace -f -`; then "
        f"`kubectl patch crd {TARGET} --subresource=status --type=merge "
        """-p '{"status":{"storedVersions":["v1alpha4"]}}'`."""
    )


async def test_the_webhook_configuration_leads_to_us_and_trusts_us() -> None:
    """Else nobody is asked."""

    async def said(**client: object) -> str:
        it = copy.deepcopy(validating_webhook())
        it["webhooks"][0]["clientConfig"].update(client)
        return (await verify_objects.validation_there(cluster(it), ROOT)).detail

    ours = base64.b64encode(ROOT.encode()).decode()
    assert await said(caBundle=ours) == "trusts the root of the control plane"
    assert await said() == "trusts nobody yet"
    assert await said(caBundle=ours, service={}) == "does not lead to smi-xds"
    missing = await verify_objects.validation_there(cluster(), ROOT)
    assert (missing.state, missing.detail) == (State.FAILED, "is not there")


async def test_the_deployment_has_to_be_rolled_out() -> None:
    """All replicas new and available, of its newest generation."""

    async def said(**status: int) -> Finding:
        it = deployment(Choices())
        it["metadata"] = {**it["metadata"], "generation": 2}
        it["status"] = {"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, **status}
        return await verify_objects.replicas_ready(cluster(it))

    assert (await said(availableReplicas=2)).state is State.OK
    assert (await said(availableReplicas=1)).detail == "2 of 2 replicas are new, 1 available"
    assert (await said(availableReplicas=2, replicas=3)).state is State.FAILED
    assert (await said(availableReplicas=2, observedGeneration=1)).state is State.FAILED
    assert (await verify_objects.replicas_ready(cluster())).detail.endswith("is not there")


def lease(holder: str | None) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "smi-xds-leader", "namespace": NAMESPACE, "resourceVersion": "1"},
        "spec": {"holderIdentity": holder},
    }


async def test_a_leader_renews_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever only has its name there is none."""
    monkeypatch.setattr(verify_objects, "_LEASE_PAUSE", 0.0)
    alive = Objects(lease("smi-xds-1"))
    alive.rewrites = True
    well = await verify_objects.leader_alive(cast("Cluster", alive))
    monkeypatch.setattr(verify_objects, "_LEASE_SECONDS", 0.05)
    dead = await verify_objects.leader_alive(cluster(lease("smi-xds-1")))

    assert (well.state, well.detail) == (State.OK, "smi-xds-1 renews its lease")
    assert (dead.state, dead.detail[:9]) == (State.FAILED, "smi-xds-1")
    for nobody in (cluster(), cluster(lease(None))):
        assert (await verify_objects.leader_alive(nobody)).detail.startswith("nobody holds")


async def test_the_trust_bundle_is_where_pods_get_it() -> None:
    """Under the key that sidecars mount."""
    bundle = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "smi-xds-trust", "namespace": NAMESPACE},
        "data": {"ca.crt": ROOT * 2},
    }
    there = await verify_objects.trust_bundle(cluster(bundle))
    missing = await verify_objects.trust_bundle(cluster())

    assert (there[0], there[1].detail) == (ROOT * 2, "2 roots in smi-xds-trust")
    assert (missing[0], missing[1].state) == ("", State.FAILED)


async def test_what_may_not_be_seen_is_unknown() -> None:
    """Rather than well, or failed."""

    async def looked() -> Finding:
        raise ForbiddenError("you may not; ask")

    found = await verify_objects.tolerant("leader", looked())

    assert (found.state, found.what, found.detail) == (State.UNKNOWN, "leader", "you may not; ask")


async def test_the_xds_port_is_known_by_its_certificate() -> None:
    """By our name and our root; another root, or nobody there, is told with the pod."""
    authority, other = (mk_authority(now=wall_clock()) for _ in range(2))
    tls = ServerTls(authority, service_names(NAMESPACE, NAME))
    tls.context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls.context
    )
    async with server:
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])

        async def said(root: str) -> Finding:
            return await asyncio.to_thread(verify_servers._port, ["one"], [address], root)

        good = await said(authority.trust_bundle.decode())
        bad = await said(other.trust_bundle.decode())
    gone = await said(authority.trust_bundle.decode())

    assert (good.state, good.detail.split()[:2]) == (State.OK, ["1", "replicas"])
    assert (bad.state, bad.detail[:5]) == (State.FAILED, "one: ")
    assert "certificate verify failed" in bad.detail
    assert "refused" in gone.detail.lower()
    assert (await said("")).state is State.UNKNOWN


async def test_proxies_have_to_be_connected_and_content() -> None:
    """Who refused, or is not there, is named."""
    async with serving(debug_services) as served:
        address = Address("127.0.0.1", served.port)

        async def said() -> Finding:
            return await asyncio.to_thread(verify_servers._proxies, [address])

        served.cache.publish({})
        assert (await said()).detail == "there are none yet"
        served.cache.publish({NODE: resources("cluster a 1"), "shop/later": resources()})
        async with stream(served.target) as client:
            await client.ask(CLUSTER)
            response = await client.hear()
            assert (await said()).detail == "shop/later of 2 are not connected"
            await client.answer(response, error="no")
            await served.status.converged()
            assert (await said()).detail == f"{NODE} refused what was sent"
        served.cache.publish({NODE: resources("cluster a 1")})
        async with stream(served.target) as client:
            await client.ask(CLUSTER)
            await client.answer(await client.hear())
            await served.status.converged()
            found = await said()
    assert (found.state, found.detail) == (State.OK, "1 are connected")


class Reviews:
    """A cluster that judges rights; what was asked is kept."""

    def __init__(self, *, me: str, denied: str = "", refuses: int = 0) -> None:
        self.me, self.denied, self.refuses = me, denied, refuses
        self.kinds: set[str] = set()
        self.users: set[str] = set()

    async def create(self, path: str, it: Mapping[str, Any], **_: object) -> dict[str, Any]:
        if path.endswith("/selfsubjectreviews"):
            return {"status": {"userInfo": {"username": self.me}}}
        if self.refuses:
            raise RefusedError(self.refuses, "you may not review")
        self.kinds.add(it["kind"])
        self.users.add(it["spec"].get("user", ""))
        return {"status": {"allowed": it["spec"]["resourceAttributes"]["resource"] != self.denied}}


async def test_rights_are_asked_one_by_one() -> None:
    """Of the account by others, of itself by itself; what is missing is listed."""
    admin, itself = Reviews(me="admin"), Reviews(me=ACCOUNT, denied="secrets")

    whole = await rights_granted(cast("Cluster", admin))
    part = await rights_granted(cast("Cluster", itself))

    assert (whole.state, admin.kinds) == (State.OK, {"SubjectAccessReview"})
    assert admin.users == {ACCOUNT}
    assert (part.state, itself.kinds) == (State.FAILED, {"SelfSubjectAccessReview"})
    assert part.detail == (
        f"{ACCOUNT} may not create secrets; get secrets smi-xds-ca; update secrets smi-xds-ca"
    )


async def test_who_may_not_ask_for_rights_does_not_know() -> None:
    """And hears which right that takes."""
    found = await rights_granted(cast("Cluster", Reviews(me="nobody", refuses=403)))

    assert (found.state, found.detail) == (State.UNKNOWN, "you may not review")
    assert "subjectaccessreviews" in found.cure


class Webhooks:
    """A cluster whose API server answers like that to whatever is tried."""

    def __init__(self, status: int = 0, message: str = "") -> None:
        self._status, self._message = status, message
        self.tried: list[str] = []

    async def create(
        self, path: str, it: Mapping[str, Any], *, params: Mapping[str, str]
    ) -> dict[str, Any]:
        assert params == {"dryRun": "All"}
        self.tried.append(f"{it['kind']} {it['apiVersion'].rpartition('/')[2]}")
        if self._status:
            raise RefusedError(self._status, self._message)
        return dict(it)


async def test_conversion_is_tried_with_every_kind() -> None:
    """From the oldest version; the first that fails is told in the API server's words."""
    fine, bad = Webhooks(), Webhooks(500, "conversion webhook failed: x509")

    well = await conversion_answers(cast("Cluster", fine))
    failed = await conversion_answers(cast("Cluster", bad))
    unknown = await conversion_answers(cast("Cluster", Webhooks(403, "you may not create")))

    old = {f"{it.kind} {it.versions[0]}" for it in SMI_KINDS.values() if len(it.versions) > 1}
    assert (well.state, set(fine.tried)) == (State.OK, old)
    assert (failed.state, len(bad.tried)) == (State.FAILED, 1)
    assert "x509" in failed.detail
    assert unknown.state is State.UNKNOWN


async def test_validation_has_to_refuse() -> None:
    """By our webhook: what is taken, or refused by somebody else, was not judged by us."""
    ours = 'admission webhook "validate.smi-xds.io" denied the request: no'
    said = {
        webhooks: (await validation_answers(cast("Cluster", webhooks))).state
        for webhooks in (Webhooks(400, ours), Webhooks(), Webhooks(422, "?"), Webhooks(403, "?"))
    }

    assert list(said.values()) == [State.OK, State.FAILED, State.FAILED, State.UNKNOWN]
