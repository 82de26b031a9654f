"""An API server that is read once, by `smi-xds check --kubernetes`."""

import json
from pathlib import Path

import pytest

from smi_xds.config import KubernetesConfig
from smi_xds.problems import SourceError
from smi_xds.sources.kube_once import read_cluster
from smi_xds.values import ProxyId
from tests.kube.api import Kube
from tests.kube.test_serve import mk_kubeconfig
from tests.support.cli import run_cli

SPLIT = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: of-nothing}
spec: {service: nowhere, backends: [{service: web, weight: 1}]}
"""


def test_problems_of_a_namespace_are_those_of_its_files(
    kube: Kube, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its objects are read as they are now; those of other namespaces are left out."""
    kube.apply(SPLIT, namespace=namespace)
    (tmp_path / "split.yaml").write_text(
        SPLIT.replace("{name:", f"{{namespace: {namespace}, name:")
    )
    asked = ("check", "--kubernetes", "--kubeconfig", kube.kubeconfig, "-o", "json")

    code = run_cli(*asked, "--namespace", namespace)
    by_cluster = json.loads(capsys.readouterr().out)
    assert run_cli("check", "--files", tmp_path, "-o", "json") == code == 1
    assert json.loads(capsys.readouterr().out) == by_cluster
    assert [it["code"] for it in by_cluster["problems"]] == ["MissingService"]

    assert run_cli(*asked, "--namespace", "kube-public") == 0

    assert run_cli(*asked, "--namespace", "shoop") == 2
    assert "there is no namespace 'shoop'" in capsys.readouterr().err


async def test_the_picture_is_whole(kube: Kube, namespace: str) -> None:
    """Objects of every kind that there are are in it, once it is given."""
    kube.make_pod("web", namespace=namespace, ip="10.244.0.9")
    config = KubernetesConfig(kubeconfig=str(kube.kubeconfig), namespaces=(namespace,))

    objects = await read_cluster(config)

    assert set(objects.namespaces) == {namespace}
    assert objects.pods[ProxyId(namespace, "web")].pod.ips == ("10.244.0.9",)
    assert objects.problems == ()


async def test_without_the_right_to_read_nothing_is_said(kube: Kube, namespace: str) -> None:
    """Half a picture would have problems that there are not: the missing right is named."""
    kubeconfig = kube.kubeconfig_for("stranger", namespace=namespace)

    with pytest.raises(SourceError, match=r"^you may not list and watch [\w.]+ in all namespaces"):
        await read_cluster(KubernetesConfig(kubeconfig=str(kubeconfig)))


async def test_an_api_server_that_is_away_is_not_waited_for(tmp_path: Path) -> None:
    """Unlike `serve`, a command ends, and names the server."""
    path = mk_kubeconfig(tmp_path, "https://127.0.0.1:1")

    with pytest.raises(SourceError, match=r"127\.0\.0\.1:1 cannot be read: .*; make it reachable"):
        await read_cluster(KubernetesConfig(kubeconfig=str(path)))


def test_a_cluster_without_us_says_so(kube: Kube, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that ask a server in it name the cure."""
    assert run_cli("graph", "--kubernetes", "--kubeconfig", kube.kubeconfig) == 2

    assert "no smi-xds runs in the namespace smi-xds" in capsys.readouterr().err
