"""
Fixtures that give tests a Kubernetes API server.

Tests that use `kube` are kept on one pytest-xdist worker, so that one run starts one control plane
and a test may stop its API server. SMI_XDS_TEST_KUBECONFIG points them at another cluster instead.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kube import binary
from tests.kube.api import Kube
from tests.kube.cluster import KubeCluster
from tests.kube.installed import Installed, webhooks_installed

KUBECONFIG = "SMI_XDS_TEST_KUBECONFIG"
CRDS = Path(__file__).parents[2] / "deploy" / "crds"
GROUP = "kube"


@pytest.fixture(scope="session")
def kube_binary() -> Path:
    """Return the program to start a `KubeCluster` of one's own with."""
    _need_kubectl()
    try:
        return binary.kube_binary()
    except binary.GoMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kube(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kube]:
    """Give the API server of this run, with the SMI CRDs."""
    _need_kubectl()
    if kubeconfig := os.environ.get(KUBECONFIG):
        other = Kube(
            kubeconfig=Path(kubeconfig).absolute(), scratch=tmp_path_factory.mktemp("kube")
        )
        other.make_node()
        other.apply_crds(CRDS)
        yield other
        return
    with KubeCluster(binary=request.getfixturevalue("kube_binary")) as own:
        own.apply_crds(CRDS)
        yield own


@pytest.fixture
def own_kube(kube: Kube) -> Iterator[KubeCluster]:
    """Give the same where it may be stopped: after the test it runs again."""
    if not isinstance(kube, KubeCluster):
        pytest.skip(f"would disturb the API server, which is another's ({KUBECONFIG} is set)")
    yield kube
    kube.start_apiserver()


@pytest.fixture
def kube_without_crds(own_kube: KubeCluster) -> Iterator[KubeCluster]:
    """Give it without the SMI CRDs (and so without SMI objects): after the test they are back."""
    own_kube.kubectl("delete", "-k", str(CRDS), "--wait")
    yield own_kube
    own_kube.start_apiserver()
    own_kube.apply_crds(CRDS)


@pytest.fixture(scope="session")
def installed(kube_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Give another API server, with every version of every kind and our webhooks behind it."""
    with (
        KubeCluster(binary=kube_binary) as its,
        webhooks_installed(its, tmp_path_factory.mktemp("webhooks")) as it,
    ):
        yield it


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """Give a fresh namespace, which is deleted with all that is in it."""
    name = f"test-{secrets.token_hex(4)}"
    kube.make_namespace(name)
    yield name
    kube.remove_namespace(name)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep all users of the shared API server on one worker, whatever their folder."""
    for item in items:
        if "kube" in _fixtures(item):
            item.add_marker(pytest.mark.kube)
            if config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group(GROUP))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build before the first test: a cold build takes longer than a test may."""
    wanted = {"kube_binary"} if os.environ.get(KUBECONFIG) else {"kube_binary", "kube"}
    if session.config.option.collectonly:
        return
    if not any(wanted & _fixtures(item) for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    # Without Go the fixture skips, and gives the reason.
    with shown, contextlib.suppress(binary.GoMissingError):
        binary.kube_binary()


def _need_kubectl() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))
