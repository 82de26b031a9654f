"""A real API server that asks a real `smi-xds serve`: as an operator installs it."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from smi_xds.config import Address
from smi_xds.crds.definition import WEBHOOK_NAMESPACE, WEBHOOK_SERVICE
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.serving import ServerTls, service_names
from smi_xds.objects.convert import convert
from smi_xds.objects.metadata import CONVERTED_ANNOTATION
from smi_xds.objects.smi import SmiObject
from smi_xds.objects.versions import ALL, SMI_KINDS
from smi_xds.problems import Problem
from smi_xds.web.server import serving
from smi_xds.web.webhooks import webhook_forms
from tests.kube.api import KubectlError
from tests.kube.cluster import KubeCluster
from tests.kube.installed import (
    BAD,
    DEADLINE,
    DENIED,
    NAMESPACE,
    Installed,
    as_list,
    call,
    documents,
    fields,
    lead_to,
    mk_split,
    read,
    refusal,
)
from tests.kube.test_conversion import WRITTEN
from tests.kube.test_migration import migrate, store_as
from tests.support.wait import eventually_async

# A start of all that is here takes 15 s; this is for a machine that does much else.
pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube"), pytest.mark.timeout(600)]


def test_every_version_is_read_in_every_other(installed: Installed) -> None:
    """What is written in any version is what every other version can say of it, and comes back
    as it was written after it was written back in each."""
    kube = installed.kube
    written = [*documents("all", per_version=9)]
    kube.kubectl("apply", "-f", "-", stdin=as_list(written))

    for version in ALL:
        back: list[dict[str, Any]] = []
        for kind in (it for it in SMI_KINDS.values() if version in it.versions):
            ours = [it for it in written if it["kind"] == kind.kind]
            shown = read(kube, kind.kind, version)
            found = [shown[it["metadata"]["name"]] for it in ours]
            assert [fields(it) for it in found] == [fields(convert(it, version)) for it in ours]
            back.extend(found)
        kube.kubectl("replace", "-f", "-", stdin=as_list(back))

    for kind_name, version in WRITTEN:
        shown = read(kube, kind_name, version)
        its = [
            it
            for it in written
            if (it["kind"], it["apiVersion"].rpartition("/")[2]) == (kind_name, version)
        ]
        assert [fields(shown[it["metadata"]["name"]]) for it in its] == [fields(it) for it in its]


def test_what_can_never_work_is_refused(installed: Installed) -> None:
    """With our words, by every way of writing, in a dry run as well; nothing is stored."""
    for flags in ((), ("--dry-run=server",)):
        message = refusal(installed.kube, "create", BAD, *flags)
        assert DENIED in message
        assert "spec.destination.name: 'Not a name' cannot be the name of an object" in message
        assert "[InvalidObject] Use lower case letters" in message
    assert DENIED in refusal(installed.kube, "apply", BAD, "--server-side")

    assert "bad" not in read(installed.kube, "TrafficTarget", "v1alpha3")


def test_what_may_become_right_is_warned_of(installed: Installed) -> None:
    """The object is stored, or would be; the writer hears what the mesh makes of it."""
    kube = installed.kube
    split = mk_split("of-nothing", service="nowhere")
    strict = "--warnings-as-errors"

    for flags in (("--dry-run=server",), ()):
        message = refusal(kube, "create", split, strict, *flags)
        assert "Warning: TrafficSplit default/of-nothing spec.service: There is no" in message
        assert "[MissingService]" in message
        is_stored = "of-nothing" in read(kube, "TrafficSplit", "v1alpha4")
        assert is_stored == (flags == ())
    kube.kubectl("delete", "ts", "of-nothing", "-n", NAMESPACE)


def test_a_restriction_is_not_dropped_unseen(installed: Installed) -> None:
    """A client of an older version that loses our annotation is refused; others go on."""
    kube = installed.kube
    match = {"kind": "HTTPRouteGroup", "name": "beta"}
    kube.apply(mk_split("restricted", matches=[match]))
    seen = read(kube, "TrafficSplit", "v1alpha2")["restricted"]
    assert "matches" not in seen["spec"]
    seen["spec"]["backends"][0]["weight"] = 7
    careless = json.loads(json.dumps(seen))
    del careless["metadata"]["annotations"][CONVERTED_ANNOTATION]

    message = refusal(kube, "replace", careless)

    where = "TrafficSplit default/restricted spec.matches"
    assert f"{DENIED}{where}: the update drops a restriction that v1alpha2" in message
    kube.kubectl("replace", "-f", "-", stdin=json.dumps(seen))
    kept = read(kube, "TrafficSplit", "v1alpha4")["restricted"]["spec"]
    assert (kept["matches"], kept["backends"][0]["weight"]) == ([match], 7)


def test_while_nobody_answers_things_go_on(installed: Installed) -> None:
    """What is stored is read, written and made in its own version, unjudged, by kubectl as by us;
    other versions come back with the webhook, and with another root after it was lost."""
    kube = installed.kube
    before = installed.bundles()
    assert len(before) == 1
    store_as(kube, "v1alpha3")
    kube.apply(_old("migrated"))
    store_as(kube, "v1alpha4")
    migrate(kube, "v1alpha4")
    installed.kill()
    try:
        kube.apply(mk_split("meanwhile"))
        for kind in SMI_KINDS.values():
            found = list(read(kube, kind.kind, kind.stored).values())
            kube.kubectl("replace", "-f", "-", stdin=as_list(found[:1]))
        kube.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(BAD))
        _use_kubectl(kube)
        with pytest.raises(KubectlError, match="conversion webhook"):
            read(kube, "TrafficSplit", "v1alpha1")
        # Which the server cannot list before it converts it itself.
        store_as(kube, "v1alpha3")
        kube.apply(_old("unmigrated"))
        store_as(kube, "v1alpha4")
    finally:
        installed.forget_authority()
        installed.start()

    assert "meanwhile" in read(kube, "TrafficSplit", "v1alpha1")
    assert {"migrated", "unmigrated"} <= set(read(kube, "TrafficTarget", "v1alpha4"))
    after = installed.bundles()
    assert (len(after), after & before) == (1, set())


def _old(name: str) -> dict[str, Any]:
    """A TrafficTarget as the definitions of smi-sdk-go store it."""
    spec = {**BAD["spec"], "destination": {"kind": "ServiceAccount", "name": "web"}}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {**BAD, "apiVersion": "access.smi-spec.io/v1alpha3", "metadata": metadata, "spec": spec}


def _use_kubectl(kube: KubeCluster) -> None:
    """By short names, which mean what the API server prefers; a namespace ends with all in it."""
    shown = kube.kubectl("get", "tt,htr,tr,ur,ts,ib", "-n", NAMESPACE, "-o", "name")
    assert "traffictarget.access.smi-spec.io/bad" in shown
    kube.edit("tt", "bad", "s/Not a name/books/", namespace=NAMESPACE)
    assert kube.get("tt", "bad", "-n", NAMESPACE)["spec"]["destination"]["name"] == "books"
    kube.kubectl("delete", "tt", "bad", "-n", NAMESPACE)
    kube.make_namespace("ends")
    elsewhere = {"metadata": {"name": "bad", "namespace": "ends"}}
    kube.kubectl("create", "-f", "-", stdin=json.dumps(BAD | elsewhere))
    kube.kubectl("delete", "namespace", "ends", "--wait", "--timeout=30s")


async def test_new_certificates_fail_no_request(installed: Installed) -> None:
    """Objects are read and written in another version, by several at once, while the certificate
    is renewed again and again: nothing fails, and each write has been judged.

    (The server behind the webhooks is this process.)
    """
    installed.kill()
    kube = installed.kube
    tls = ServerTls(installed.authority(), service_names(WEBHOOK_NAMESPACE, WEBHOOK_SERVICE))
    judged: Counter[str] = Counter()
    serials = set()

    def foresee(it: SmiObject) -> tuple[Problem, ...]:
        judged[it.name] += 1
        return ()

    async with serving(
        {},
        Address("127.0.0.1", 0),
        what="webhooks",
        flag="",
        forms=webhook_forms(foresee=foresee),
        tls=tls.context,
    ) as port:
        await asyncio.to_thread(lead_to, kube, port)
        await eventually_async(
            lambda: asyncio.to_thread(read, kube, "TrafficSplit", "v1alpha1"),
            deadline=DEADLINE,
            retry_on=(KubectlError,),
        )
        async with asyncio.TaskGroup() as tasks:
            users = [
                tasks.create_task(asyncio.to_thread(_write_some, kube, f"rotated-{number}"))
                for number in range(4)
            ]
            while not all(user.done() for user in users):
                tls.certificate = tls._issue(wall_clock())
                serials.add(tls.certificate.certificate_chain)
                await asyncio.sleep(0.01)
    installed.lead_back()
    # Not in a thread: the server ends with the one that started it.
    installed.start()

    assert len(serials) > 5
    assert {name: count for name, count in judged.items() if name.startswith("rotated")} == {
        f"rotated-{number}": _WRITES for number in range(4)
    }


_WRITES = 40


def _write_some(kube: KubeCluster, name: str) -> None:
    """As a rollout tool does: read, and write it back with another weight."""
    path = f"/apis/split.smi-spec.io/v1alpha1/namespaces/{NAMESPACE}/trafficsplits"
    it = call(kube, "POST", path, mk_split(name, "v1alpha1"))
    for weight in range(1, _WRITES):
        it = call(kube, "GET", f"{path}/{name}")
        it["spec"]["backends"][0]["weight"] = str(weight)
        it = call(kube, "PUT", f"{path}/{name}", it)
    assert it["spec"]["backends"] == [{"service": "v1", "weight": str(_WRITES - 1)}]
