"""The control plane for tests itself: what other tests rely on."""

import http.client
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kube.api import Kube, KubectlError
from tests.kube.cluster import ControlPlaneError, KubeCluster
from tests.support.wait import eventually

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "example.test/app"}]},
        },
    },
}


def test_endpoints_follow_pods(kube: Kube, namespace: str) -> None:
    """A pod that becomes ready, or ceases to be, changes the EndpointSlices of its service."""
    kube.apply(SERVICE, namespace=namespace)
    for number in (1, 2):
        kube.make_pod(
            f"web-{number}",
            namespace=namespace,
            labels={"app": "web"},
            ip=f"10.244.1.{number}",
        )
    kube.wait_for_addresses("web", ["10.244.1.1", "10.244.1.2"], namespace=namespace)

    kube.mark_ready("web-1", "10.244.1.1", namespace=namespace, ready=False)
    kube.wait_for_addresses("web", ["10.244.1.2"], namespace=namespace)

    kube.remove_pod("web-2", namespace=namespace)
    kube.wait_for_addresses("web", [], namespace=namespace)


def test_deployments_make_pods(kube: Kube, namespace: str) -> None:
    """The pods of a Deployment appear by themselves, can be made ready, and go with it."""
    kube.apply(SERVICE, DEPLOYMENT, namespace=namespace)

    def pods() -> list[str]:
        found = kube.get("pods", "-n", namespace, "-l", "app=web")["items"]
        return [pod["metadata"]["name"] for pod in found]

    eventually(lambda: len(pods()) == 2)
    for number, pod in enumerate(pods(), start=1):
        kube.mark_ready(pod, f"10.244.2.{number}", namespace=namespace)
    kube.wait_for_addresses("web", ["10.244.2.1", "10.244.2.2"], namespace=namespace)

    kube.kubectl("scale", "deployment", "web", "--replicas=0", "-n", namespace)
    kube.wait_for_addresses("web", [], namespace=namespace)


def test_a_new_identity_has_no_rights(kube: Kube, namespace: str) -> None:
    """A kubeconfig for a service account may do what its role says, and nothing before that."""
    reader = kube.kubeconfig_for("reader", namespace=namespace)
    question = ("auth", "can-i", "list", "services", "-n", namespace)

    with pytest.raises(KubectlError, match="forbidden"):
        kube.kubectl("get", "services", "-n", namespace, kubeconfig=reader)

    kube.kubectl("create", "role", "r", "--verb=list", "--resource=services", "-n", namespace)
    account = f"--serviceaccount={namespace}:reader"
    kube.kubectl("create", "rolebinding", "r", "--role=r", account, "-n", namespace)
    eventually(lambda: kube.kubectl(*question, kubeconfig=reader), retry_on=(KubectlError,))


def test_tokens_are_bound_to_pods(kube: Kube, namespace: str) -> None:
    """A token for a pod tells TokenReview which one: that is how a sidecar proves itself."""
    kube.make_pod("web-1", namespace=namespace)
    bound = ("--bound-object-kind=Pod", "--bound-object-name=web-1", "--audience=smi-xds")
    token = kube.kubectl("create", "token", "default", *bound, "-n", namespace).strip()
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {"name": "tried"},
        "spec": {"token": token, "audiences": ["smi-xds"]},
    }
    answer = kube.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review))

    user = json.loads(answer)["status"]["user"]
    assert user["username"] == f"system:serviceaccount:{namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["web-1"]


def test_an_outage_keeps_data_and_address(own_kube: KubeCluster, namespace: str) -> None:
    """While the API server is down connections are refused; then all is there again, and works."""
    own_kube.apply(SERVICE, namespace=namespace)
    url = own_kube.url

    own_kube.stop_apiserver()
    connection = http.client.HTTPConnection("127.0.0.1", own_kube.port, timeout=5)
    with pytest.raises(ConnectionRefusedError):
        connection.connect()
    own_kube.start_apiserver()

    assert own_kube.url == url
    assert own_kube.get("service", "web", "-n", namespace)["metadata"]["name"] == "web"
    own_kube.make_pod(
        "web-1",
        namespace=namespace,
        labels={"app": "web"},
        ip="10.244.3.1",
    )
    own_kube.wait_for_addresses("web", ["10.244.3.1"], namespace=namespace)


def test_the_crds_can_be_missing(kube_without_crds: KubeCluster) -> None:
    """A test may have an API server that knows no SMI."""
    # The latter where kubectl remembers that there were some a moment ago.
    unknown = "doesn't have a resource type|could not find the requested resource"
    with pytest.raises(KubectlError, match=unknown):
        kube_without_crds.kubectl("get", "trafficsplits")


def test_a_failed_start_says_why(kube_binary: Path) -> None:
    """A program that ends while it starts is an error with its last words, not a time-out."""
    cluster = KubeCluster(binary=kube_binary, service_cidr="nonsense")
    with (
        pytest.raises(ControlPlaneError, match=r"(?s)kube-apiserver ended.*not a valid cidr"),
        cluster,
    ):
        pytest.fail("it cannot start")


def test_nothing_outlives_a_killed_run(kube_binary: Path, tmp_path: Path) -> None:
    """Where the process that started it is killed, the control plane ends too."""
    code = (
        "import os, sys; from pathlib import Path; from tests.kube.cluster import KubeCluster\n"
        "kube = KubeCluster(binary=Path(sys.argv[1])).__enter__()\n"
        "print(*[process.pid for process in kube._processes.values()], flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(kube_binary)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    pids = killed.stdout.split()

    assert len(pids) == 3, killed.stderr
    eventually(lambda: not any(_runs(pid) for pid in pids))


def _runs(pid: str) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
