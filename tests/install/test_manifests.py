"""The manifests of an installation: what they promise, and that files are the same."""

import gc
from typing import Any

import pytest
import yaml

from deploy.generate import KUBERNETES
from smi_xds import app
from smi_xds.app import trust_maps
from smi_xds.cli.bootstrap_flags import DEFAULT_TLS_SERVER
from smi_xds.config import (
    DEFAULT_LEASE,
    DEFAULT_WEBHOOK_SERVICE,
    DEFAULT_XDS_SERVICE,
    LeaseConfig,
    MeshConfig,
    SecretName,
    ServeConfig,
)
from smi_xds.crds.definition import WEBHOOK_PORT
from smi_xds.install.manifests import installation, manifest_files, namespace
from smi_xds.install.names import (
    AUTHORITY_SECRET,
    LABELS,
    LEASE,
    NAME,
    NAMESPACE,
    SELECTOR,
    TRUST_CONFIG_MAP,
    TRUST_KEY,
    XDS_TLS_PORT,
)
from smi_xds.install.workload import Choices, arguments, deployment, service
from smi_xds.values import AccessMode, Mode
from tests.support.cli import run_cli

INSTALLED = installation(Choices())


def pod_spec(**choices: Any) -> Any:
    """Of the Deployment."""
    return deployment(Choices(**choices))["spec"]["template"]["spec"]


def test_files_are_generated() -> None:
    """The manifests in the repository are what `make crds` writes."""
    found = {path.name: path.read_text() for path in KUBERNETES.glob("*.yaml")}

    assert found == manifest_files()


def test_the_folder_is_what_install_applies() -> None:
    """Every object is in the folder once, and nothing else."""
    texts = [path.read_text() for path in KUBERNETES.glob("**/*.yaml")]
    documents = [it for it in map(yaml.safe_load, texts) if it["kind"] != "Kustomization"]

    def name(it: Any) -> tuple[str, str]:
        return it["kind"], it["metadata"]["name"]

    assert sorted(documents, key=name) == sorted(INSTALLED.all, key=name)


def test_the_kustomization_lists_every_file() -> None:
    """The folders of CRDs and webhooks as well, and the namespace before what is in it."""
    listed = yaml.safe_load(manifest_files()["kustomization.yaml"])["resources"]

    there = {path.name for path in KUBERNETES.iterdir()} - {"kustomization.yaml"}
    assert sorted(listed) == sorted(there)
    assert listed[0] == "namespace.yaml"


def test_the_namespace_comes_before_what_is_in_it() -> None:
    """Objects are applied one after another; the Deployment is the last."""
    kinds = [it["kind"] for it in INSTALLED.all]
    places = [it["metadata"].get("namespace") for it in INSTALLED.all]

    assert kinds.index("Namespace") < places.index(NAMESPACE)
    assert kinds[-1] == "Deployment"
    assert set(places) == {None, NAMESPACE}


def test_selectors_find_the_pods() -> None:
    """Those of the Deployment, of the Services and of the budget."""
    by_kind = [it for it in INSTALLED.all if "selector" in it.get("spec", {})]
    selectors = [it["spec"]["selector"] for it in by_kind]

    assert {it["kind"] for it in by_kind} == {"Deployment", "Service", "PodDisruptionBudget"}
    assert [it.get("matchLabels", it) for it in selectors] == [SELECTOR] * 4
    assert deployment(Choices())["spec"]["template"]["metadata"]["labels"] == LABELS
    assert SELECTOR.items() <= LABELS.items()


def test_pods_are_restricted() -> None:
    """As the label of their namespace asks, and their files cannot be written."""
    [container] = pod_spec()["containers"]

    assert pod_spec()["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    labels = namespace()["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_nothing_leads_to_the_plaintext_port() -> None:
    """It listens on loopback, no Service names it, and no flag moves it."""
    ports = [port["port"] for port in service()["spec"]["ports"]]
    webhooks = [it for it in INSTALLED.all if it["kind"] == "Service"]

    assert ports == [15012, 15014]
    assert 15010 not in [port["port"] for it in webhooks for port in it["spec"]["ports"]]
    assert not [it for it in arguments(Choices()) if it.startswith("--xds-address")]


def test_ports_are_those_of_the_container() -> None:
    """A Service's target port is one that the container names."""
    [container] = pod_spec()["containers"]
    named = {it["name"]: it["containerPort"] for it in container["ports"]}

    for it in (one for one in INSTALLED.all if one["kind"] == "Service"):
        for port in it["spec"]["ports"]:
            target = port["targetPort"]
            assert named.get(target, target) in named.values()
    assert f"{NAMESPACE}/{NAME}-webhooks" == DEFAULT_WEBHOOK_SERVICE


def test_choices_are_taken() -> None:
    """The image, how many, and how objects are understood."""
    mesh = MeshConfig(
        trust_domain="example.org", access_mode=AccessMode.SHADOW, mtls_mode=Mode.PERMISSIVE
    )
    more = ("--leaf-lifetime", "12h")
    chosen = deployment(Choices(image="here/smi-xds:7", replicas=3, mesh=mesh, more=more))
    [container] = chosen["spec"]["template"]["spec"]["containers"]

    assert chosen["spec"]["replicas"] == 3
    assert container["image"] == "here/smi-xds:7"
    wanted = {"--trust-domain=example.org", "--access-mode=shadow", "--mtls-mode=permissive"}
    assert wanted <= set(container["args"])
    assert tuple(container["args"][-2:]) == more


def test_the_arguments_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """By `serve` itself: in a pod, with the ports and names of the other manifests."""
    taken: list[ServeConfig] = []

    def take(config: ServeConfig) -> int:
        taken.append(config)
        return 0

    monkeypatch.setattr(app, "serve", take)
    # It would stop looking for garbage until it serves.
    monkeypatch.setattr(gc, "disable", lambda: None)

    assert run_cli(*arguments(Choices())) == 0

    [config] = taken
    assert config.kubernetes is not None
    assert config.kubernetes.in_cluster
    assert config.xds_address is not None
    assert str(config.xds_address) == "127.0.0.1:15010"
    assert config.xds_tls is not None
    assert str(config.xds_tls.tokens) == "0.0.0.0:15012"
    assert config.xds_tls.names[0] == f"{NAME}.{NAMESPACE}.svc"
    assert config.authority.secret == SecretName(NAMESPACE, AUTHORITY_SECRET)
    assert config.webhooks is not None
    assert str(config.webhooks.address) == f"0.0.0.0:{WEBHOOK_PORT}"
    assert config.lease == LeaseConfig(namespace=NAMESPACE, name=LEASE)
    assert config.write_back is True


def test_names_are_those_that_others_use() -> None:
    """Servers, sidecars and operators find what is installed by their own defaults."""
    assert (trust_maps.NAME, trust_maps.KEY) == (TRUST_CONFIG_MAP, TRUST_KEY)
    assert f"{NAMESPACE}/{LEASE}" == DEFAULT_LEASE
    assert f"{NAMESPACE}/{NAME}" == DEFAULT_XDS_SERVICE
    assert f"{NAME}.{NAMESPACE}.svc:{XDS_TLS_PORT}" == DEFAULT_TLS_SERVER


def test_there_is_time_to_leave() -> None:
    """After the pause the server has the 30 s for which its streams' limits are made."""
    [container] = pod_spec()["containers"]
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]

    assert pod_spec()["terminationGracePeriodSeconds"] == int(pause) + 30
