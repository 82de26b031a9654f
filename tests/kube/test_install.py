"""An operator installs the control plane into a real API server, and asks it things.

As in a cluster but for the containers: the replicas run as `tests.support.in_cluster` has it, with
the rights, tokens and arguments of the manifests, and port-forward leads to them.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.generate import KUBERNETES
from smi_xds.config import KubernetesConfig
from smi_xds.install.forward import forwarded
from smi_xds.install.names import NAME, NAMESPACE, TRUST_CONFIG_MAP, XDS_PORT, XDS_TLS_PORT
from smi_xds.install.verify_rights import ACCOUNT
from smi_xds.xds.resources import CLUSTER
from tests.ads.client import stream
from tests.kube.api import KubectlError
from tests.kube.cluster import KubeCluster
from tests.kube.kubelet import Kubelet, running_kubelet
from tests.kube.netns import in_netns
from tests.kube.plugin import CRDS
from tests.support.in_cluster import Replica, running_replicas
from tests.support.wait import eventually, eventually_async

pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube"), pytest.mark.timeout(600)]

DEADLINE = 60.0
_MAIN = "from smi_xds.cli.main import main; main()"

SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {smi-xds.io/sidecar: bound}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
"""
SPLIT = """
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: of-nothing, namespace: shop}
spec: {service: nowhere, backends: [{service: web, weight: 1}]}
"""
TARGET = {
    "apiVersion": "access.smi-spec.io/v1alpha4",
    "kind": "TrafficTarget",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "destination": {"kind": "ServiceAccount", "name": "web"},
        "sources": [{"kind": "ServiceAccount", "name": "web"}],
        "rules": [{"kind": "TCPRoute", "name": "all"}],
    },
}

FORBIDDEN = {
    "get secrets": "default",
    "list secrets": NAMESPACE,
    "get secrets/another": NAMESPACE,
    "delete secrets/smi-xds-ca": NAMESPACE,
    "update configmaps/another": NAMESPACE,
    "list configmaps": "default",
    "update leases.coordination.k8s.io/another": "kube-system",
    "create leases.coordination.k8s.io": "kube-system",
    "create pods": NAMESPACE,
    "delete pods": NAMESPACE,
    "create pods/exec": NAMESPACE,
    "create pods/portforward": NAMESPACE,
    "create serviceaccounts/token": NAMESPACE,
    "update traffictargets.access.smi-spec.io": "default",
    "patch traffictargets.access.smi-spec.io": "default",
    "delete trafficsplits.split.smi-spec.io": "default",
    "patch customresourcedefinitions.apiextensions.k8s.io/another": "",
    "create customresourcedefinitions.apiextensions.k8s.io": "",
    "patch validatingwebhookconfigurations.admissionregistration.k8s.io/another": "",
    "create clusterrolebindings.rbac.authorization.k8s.io": "",
    "escalate clusterroles.rbac.authorization.k8s.io": "",
    "impersonate users": "",
    "list nodes": "",
    "create subjectaccessreviews.authorization.k8s.io": "",
}
"""What a control plane might be abused for, and where."""


class Operator:
    """Somebody at a terminal."""

    def __init__(self, kube: KubeCluster) -> None:
        self.kube = kube

    def run(self, *arguments: str, code: int = 0) -> str:
        """What a command printed; its exit code has to be that."""
        return self._done(*arguments, code=code).stdout

    def complaint(self, *arguments: str, code: int) -> str:
        """What it said on standard error."""
        return self._done(*arguments, code=code).stderr

    def _done(self, *arguments: str, code: int) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *arguments],
            env=os.environ | {"KUBECONFIG": str(self.kube.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def ask(self, *arguments: str, code: int = 0) -> Any:
        """The same as JSON."""
        return json.loads(self.run(*arguments, "--output", "json", code=code))

    def verify(self, *, code: int) -> dict[str, str]:
        """What is not well, with its detail."""
        found = self.ask("verify", code=code)["findings"]
        assert all(it["cure"] for it in found if it["state"] != "ok")
        return {it["what"]: it["detail"] for it in found if it["state"] != "ok"}

    def installs(self, *flags: str) -> set[str]:
        """Install; what became of the objects."""
        return {it["outcome"] for it in self.ask("install", *flags)["objects"]}


@in_netns()
def test_an_operator_installs_asks_and_verifies(kube_binary: Path, tmp_path: Path) -> None:
    """`kubectl apply -k` and `smi-xds install` are the same; what runs by their rights works, and
    has no others; `verify` tells when it does, and each thing that is broken.
    """
    with KubeCluster(binary=kube_binary) as kube:
        operator = Operator(kube)
        _is_applied_either_way(operator)
        _nobody_is_ready(operator)
        with (
            running_kubelet(kube, kube_binary, tmp_path) as kubelet,
            running_replicas(kube, tmp_path, number=2) as replicas,
        ):
            _lead_to(kube, kubelet, replicas)
            operator.run("install", "--wait", "--timeout", str(int(DEADLINE)))
            eventually(lambda: operator.verify(code=0) == {}, deadline=DEADLINE)
            kube.apply(SHOP)
            kube.make_pod(
                "web", namespace="shop", service_account="web", labels={"app": "web"},
                ip="10.244.1.1",
            )  # fmt: skip
            asyncio.run(_a_proxy_is_seen(operator, replicas))
            _objects_answer_back(kube)
            _nothing_was_forbidden(replicas)
            _nothing_else_is_allowed(kube)
            _is_applied_again(operator)
            _what_is_broken_is_told(operator, replicas)


def test_flags_are_not_forgotten_and_crds_outlive_the_rest(kube_binary: Path) -> None:
    """An upgrade without its flags is refused before anything is applied; `kubectl replace` takes
    conversion away, which `apply` may not, and keeps the objects; --force brings it back.
    """
    with KubeCluster(binary=kube_binary) as kube:
        operator = Operator(kube)
        shadow = ("--access-mode", "shadow")
        operator.run("install", "--image", "it:1", *shadow, "--", "--leaf-lifetime", "12h")
        kube.kubectl("delete", "crd", "udproutes.specs.smi-spec.io", "--wait")
        [said] = operator.complaint("install", "--image", "it:2", code=2).splitlines()
        assert "`--access-mode=shadow -- --leaf-lifetime=12h`, which would be gone" in said
        with pytest.raises(KubectlError):
            kube.get("crd", "udproutes.specs.smi-spec.io")
        operator.run("install", "--image", "it:2", *shadow, "--", "--leaf-lifetime=12h")
        operator.installs("--access-mode", "strict", "--force")
        kube.apply(SHOP, TARGET)

        for flags in ((), ("--server-side", "--force-conflicts")):
            with pytest.raises(KubectlError, match="webhookClientConfig: Forbidden"):
                kube.kubectl("apply", *flags, "-k", str(CRDS))
        kube.kubectl("replace", "-k", str(CRDS))
        assert _conversions(kube) == {"None"}
        assert kube.get("traffictarget", "web", "--namespace=shop")["spec"] == TARGET["spec"]
        assert "take it over with --force" in operator.complaint("install", code=2)
        operator.installs("--force")
        assert "Webhook" in _conversions(kube)
        assert operator.installs() == {"unchanged"}


def _conversions(kube: KubeCluster) -> set[str]:
    return {it["spec"]["conversion"]["strategy"] for it in kube.get("crd")["items"]}


def _is_applied_either_way(operator: Operator) -> None:
    """By kubectl, then by us: there is nothing left to do but to say that it is ours as well."""
    operator.kube.apply(KUBERNETES)
    assert operator.installs() <= {"unchanged", "configured"}
    assert operator.installs() == {"unchanged"}
    operator.kube.kubectl("apply", "-k", str(KUBERNETES), "--dry-run=server")
    operator.kube.kubectl("apply", "-k", str(KUBERNETES), "--server-side", "--dry-run=server")


def _nobody_is_ready(operator: Operator) -> None:
    """What cannot be asked yet says so, and which pods are not there."""
    eventually(
        lambda: (
            "no replica of smi-xds is ready (smi-xds-"
            in operator.complaint("proxies", "--kubernetes", code=2)
        ),
        deadline=DEADLINE,
    )


def _lead_to(kube: KubeCluster, kubelet: Kubelet, replicas: Sequence[Replica]) -> None:
    """Ports of pods to their processes, and that Service, which nobody routes, to one of them."""
    for it in replicas:
        pod = f"{NAMESPACE}/{it.pod}"
        kubelet.lead(pod, XDS_PORT, to=f"{it.loopback}:{XDS_PORT}")
        kubelet.lead(pod, XDS_TLS_PORT, to=f"{it.ip}:{XDS_TLS_PORT}")
    _webhooks_at(kube, replicas[0].ip)


def _webhooks_at(kube: KubeCluster, host: str) -> None:
    patch = {"spec": {"type": "ExternalName", "externalName": host}}
    kube.kubectl(
        "patch", "service", "smi-xds-webhooks", f"--namespace={NAMESPACE}", "--type=merge",
        f"--patch={json.dumps(patch)}",
    )  # fmt: skip


async def _a_proxy_is_seen(operator: Operator, replicas: Sequence[Replica]) -> None:
    """It proves itself by its token, and what it gets is what the commands show."""
    kube = operator.kube
    token = kube.kubectl(
        *("create", "token", "web", "--namespace=shop", "--audience=smi-xds"),
        *("--bound-object-kind=Pod", "--bound-object-name=web"),
    ).strip()
    trust: str = await eventually_async(
        lambda: kube.get("configmap", TRUST_CONFIG_MAP, "--namespace=shop")["data"]["ca.crt"],
        deadline=DEADLINE,
        retry_on=(KubectlError,),
    )
    credentials = grpc.ssl_channel_credentials(trust.encode())
    config = KubernetesConfig(kubeconfig=str(kube.kubeconfig))
    with forwarded(config, [replicas[1].pod], port=XDS_TLS_PORT) as (address,):
        opened = stream(str(address), node="shop/web", credentials=credentials, token=token)
        async with opened as proxy:
            await proxy.ask(CLUSTER)
            await proxy.answer(await proxy.hear())
            await asyncio.to_thread(_commands_agree, operator)
            refused = stream(str(address), node="shop/web", credentials=credentials, token="no")
            async with refused as thief:
                # Before anything it says is read.
                assert await thief.call.code() == grpc.StatusCode.UNAUTHENTICATED


def _commands_agree(operator: Operator) -> None:
    def states() -> dict[str, str]:
        found = operator.ask("proxies", "--kubernetes")["proxies"]
        return {it["node"]: it["state"] for it in found}

    eventually(lambda: states() == {"shop/web": "STATE_SYNCED"}, deadline=DEADLINE)
    # Its Service's slice may come after its pod.
    eventually(lambda: "inbound|8080" in _translated(operator), deadline=DEADLINE)
    resources = operator.ask("proxies", "--kubernetes", "shop/web")["resources"]
    names = [it["name"] for it in resources if it["type"] == "Cluster"]
    assert names == _translated(operator)
    question = ("--from", "shop/web", "--to", "shop/web:8080")
    assert operator.ask("explain", "--kubernetes", *question, code=1)["verdict"] == "denied"
    services = operator.ask("graph", "--kubernetes", "--namespace", "shop")["services"]
    assert [it["service"] for it in services] == ["shop/web"]


def _translated(operator: Operator) -> list[str]:
    found = operator.ask("translate", "--kubernetes", "--proxy", "shop/web")["Cluster"]
    return [it["name"] for it in found]


def _objects_answer_back(kube: KubeCluster) -> None:
    """What is wrong with an object of an old version is written into it, and told as an event."""
    kube.apply(SPLIT)
    where = ("--namespace=shop",)

    def accepted() -> Any:
        conditions = kube.get("trafficsplit", "of-nothing", *where).get("status", {})
        by_type = {it["type"]: it for it in conditions.get("conditions", ())}
        return by_type.get("Accepted") or by_type.get("ResolvedRefs")

    eventually(accepted, deadline=DEADLINE, what="status")
    eventually(
        lambda: "MissingService" in _event_reasons(kube, "shop"), deadline=DEADLINE, what="an event"
    )


def _event_reasons(kube: KubeCluster, namespace: str) -> set[str]:
    found = kube.get("events.events.k8s.io", f"--namespace={namespace}")["items"]
    return {it.get("reason", "") for it in found}


def _nothing_was_forbidden(replicas: Sequence[Replica]) -> None:
    """In all that was done so far: the rights suffice."""
    for it in replicas:
        told = [event for event in it.events() if "forbidden" in json.dumps(event).lower()]
        assert told == []
        errors = [event for event in it.events() if event["level"] in {"error", "critical"}]
        assert errors == []


def _nothing_else_is_allowed(kube: KubeCluster) -> None:
    """By the API server's own judgement."""
    allowed = []
    for right, namespace in FORBIDDEN.items():
        verb, resource = right.split()
        where = f"--namespace={namespace}" if namespace else "--all-namespaces"
        try:
            kube.kubectl("auth", "can-i", verb, resource, where, f"--as={ACCOUNT}", "--quiet")
            allowed.append(right)
        except KubectlError:
            pass
    assert allowed == []
    # The question can be answered with yes.
    kube.kubectl(
        "auth", "can-i", "update", "secrets/smi-xds-ca", f"--namespace={NAMESPACE}",
        f"--as={ACCOUNT}", "--quiet",
    )  # fmt: skip


def _is_applied_again(operator: Operator) -> None:
    """What the control plane has set meanwhile (its root) stays, by both ways; what an operator
    has changed is not changed back unless that is wanted.
    """
    kube, deployment = operator.kube, ("deployment", NAME, f"--namespace={NAMESPACE}")
    before = _roots(kube)
    assert all(before)
    kube.apply(KUBERNETES)
    kube.kubectl("scale", *deployment, "--replicas=3")
    said = operator.complaint("install", "--replicas", "2", code=2)
    assert "Deployment smi-xds: " in said
    assert ".spec.replicas" in said
    assert "take it over with --force" in said
    assert operator.installs("--force") <= {"unchanged", "configured"}
    assert kube.get(*deployment)["spec"]["replicas"] == 2
    assert _roots(kube) == before


def _roots(kube: KubeCluster) -> list[str]:
    crds = "{.items[*].spec.conversion.webhook.clientConfig.caBundle}"
    webhooks = "{.items[*].webhooks[*].clientConfig.caBundle}"
    found = kube.kubectl("get", "crd", "-o", f"jsonpath={crds}").split()
    judge = ("get", "validatingwebhookconfiguration", "-o", f"jsonpath={webhooks}")
    return [*found, *kube.kubectl(*judge).split()]


def _what_is_broken_is_told(operator: Operator, replicas: Sequence[Replica]) -> None:
    """All at once, each with its cure; and nothing else."""
    kube, lost, left = operator.kube, *replicas
    kube.kubectl("delete", "crd", "udproutes.specs.smi-spec.io", "--wait")
    kube.kubectl("delete", "clusterrolebinding", NAME)
    _webhooks_at(kube, "10.244.9.9")
    kube.mark_ready(lost.pod, lost.ip, namespace=NAMESPACE, ready=False)
    for it in (lost, left):
        it.kill()

    bad = eventually(
        lambda: found if len(found := operator.verify(code=1)) == 8 else {}, deadline=DEADLINE
    )

    assert set(bad) == {
        "CRD udproutes.specs.smi-spec.io",
        "rights",
        "deployment",
        "leader",
        "conversion",
        "validation",
        "xDS port",
        "proxies",
    }
    assert "list pods" in bad["rights"]
    assert bad["deployment"] == "2 of 2 replicas are new, 1 available"
    assert left.pod in bad["xDS port"]
