"""What operators do to etcd, and replicas that heard of things in another order."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from smi_xds.config import KubernetesConfig
from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import MeshSettings
from smi_xds.objects.views import Objects
from smi_xds.problems import ProblemCode
from smi_xds.sources import kube_watch
from smi_xds.sources.kubernetes import KubernetesSource
from smi_xds.values import Secret, ServiceRef, TypeUrl
from smi_xds.xds.resources import TYPES
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator
from tests.kube.api import Kube
from tests.kube.cluster import KubeCluster
from tests.sources.recorder import Recorder, running
from tests.support.etcd import back_up, compact, put_back
from tests.support.wait import eventually_async


def _split(name: str, weight: int) -> dict[str, object]:
    backends = [{"service": "v1", "weight": weight}, {"service": "v2", "weight": 100 - weight}]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": name},
        "spec": {"service": name, "backends": backends},
    }


def _weights(sink: Recorder, namespace: str) -> Mapping[str, object]:
    return {
        ref.name: splits[0].backends[0].weight
        for ref, splits in sink.objects.splits.items()
        if ref.namespace == namespace
    }


@asynccontextmanager
async def _watching(kube: Kube) -> AsyncIterator[Recorder]:
    source = KubernetesSource(KubernetesConfig(kubeconfig=str(kube.kubeconfig)))
    async with running(source) as sink:
        yield sink


@pytest.mark.timeout(300)
async def test_a_backup_is_put_back(
    own_kube: KubeCluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """History goes back by some versions: what the backup has counts, and what comes after it."""
    kube = own_kube
    monkeypatch.setattr(kube_watch, "OUTAGE", 2.0)
    await asyncio.to_thread(kube.apply, _split("a", 10), _split("b", 10), namespace=namespace)
    await asyncio.to_thread(back_up, kube, tmp_path / "backup")
    async with _watching(kube) as sink:
        await eventually_async(lambda: _weights(sink, namespace) == {"a": 10, "b": 10})
        await asyncio.to_thread(kube.apply, _split("a", 20), _split("c", 20), namespace=namespace)
        await asyncio.to_thread(
            kube.kubectl, "delete", "trafficsplit", "b", f"--namespace={namespace}"
        )
        await eventually_async(lambda: _weights(sink, namespace) == {"a": 20, "c": 20})

        await asyncio.to_thread(kube.stop_apiserver)
        await asyncio.to_thread(kube.stop_etcd)
        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
        await asyncio.to_thread(put_back, kube, tmp_path / "backup")
        await asyncio.to_thread(kube.start_etcd)
        assert _weights(sink, namespace) == {"a": 20, "c": 20}
        await asyncio.to_thread(kube.start_apiserver)
        await eventually_async(lambda: _weights(sink, namespace) == {"a": 10, "b": 10}, deadline=40)

        await asyncio.to_thread(kube.apply, _split("b", 30), namespace=namespace)
        await eventually_async(lambda: _weights(sink, namespace) == {"a": 10, "b": 30})
        assert sink.codes == []


async def test_versions_that_are_gone(
    own_kube: KubeCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a watch would go on from is forgotten (410): all is listed, and what changed is seen."""
    monkeypatch.setattr(kube_watch, "OUTAGE", 1000.0)
    await asyncio.to_thread(own_kube.apply, _split("a", 10), namespace=namespace)
    with capture_logs() as logs:
        async with _watching(own_kube) as sink:
            await eventually_async(lambda: _weights(sink, namespace) == {"a": 10})
            await asyncio.to_thread(own_kube.stop_apiserver)
            await asyncio.to_thread(compact, own_kube)
            await asyncio.to_thread(own_kube.start_apiserver)
            await asyncio.to_thread(own_kube.apply, _split("a", 20), namespace=namespace)
            await eventually_async(lambda: _weights(sink, namespace) == {"a": 20}, deadline=30)
            await eventually_async(lambda: sink.codes == [])
    reasons = {it["reason"] for it in logs if it["event"] == "listing_anew"}
    assert reasons == {"the version seen last is gone"}


async def test_a_list_whose_versions_are_compacted(
    own_kube: KubeCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small its parts are, and whatever etcd forgets between them, a list is had."""
    splits = [_split(f"s{number}", number) for number in range(5)]
    await asyncio.to_thread(own_kube.apply, *splits, namespace=namespace)
    read_page = kube_watch.KindWatch._read_page
    pages: list[str] = []

    async def read_after_compaction(self: kube_watch.KindWatch, token: str) -> bytes:
        if token:
            pages.append(token)
            # Something has to change, or there is nothing that could be forgotten.
            change = _split("s0", 50 + len(pages) % 40)
            await asyncio.to_thread(own_kube.apply, change, namespace=namespace)
            await asyncio.to_thread(compact, own_kube)
        return await read_page(self, token)

    monkeypatch.setattr(kube_watch, "PAGE", 2)
    monkeypatch.setattr(kube_watch.KindWatch, "_read_page", read_after_compaction)
    async with _watching(own_kube) as sink:
        await eventually_async(lambda: len(_weights(sink, namespace)) == 5, deadline=40)
    assert pages
    assert sink.codes == []


async def test_replicas_that_heard_otherwise(kube: Kube, namespace: str) -> None:
    """One saw each change as it came, one listed what there was in the end: the same bytes."""
    async with _watching(kube) as early:
        await eventually_async(early.is_synced)
        for service in ("web", "v1", "v2"):
            await asyncio.to_thread(kube.apply, _service(service), namespace=namespace)
        for number, weight in enumerate((10, 90, 40)):
            await asyncio.to_thread(kube.apply, _split("web", weight), namespace=namespace)
            await asyncio.to_thread(
                kube.make_pod,
                f"web-{number}",
                namespace=namespace,
                labels={"app": "web"},
                annotations={"smi-xds.io/sidecar": "bound"},
                ports={"http": 8080},
                ip=f"10.244.3.{number + 1}",
            )
        await asyncio.to_thread(kube.remove_pod, "web-0", namespace=namespace)
        async with _watching(kube) as late:
            await eventually_async(late.is_synced)
            web = ServiceRef(namespace, "web")

            def settled() -> bool:
                return late.objects == early.objects and len(late.objects.services[web].pods) == 2

            await eventually_async(settled, retry_on=(KeyError,), deadline=30)
            assert _said(late.objects) == _said(early.objects)


def _service(name: str) -> dict[str, object]:
    port = {"name": "http", "port": 80, "targetPort": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": [port]},
    }


def _said(objects: Objects) -> Mapping[tuple[str, TypeUrl, str], bytes]:
    """Every byte that every proxy would get; the same certificate stands for those of all."""
    mesh = MeshBuilder(MeshSettings())(objects)
    leaf = leaf_secret(b"certificate", Secret(b"key"))
    leaves = {workload.identity: leaf for workload in mesh.workloads.values()}
    sets = Translator()(mesh, credentials=Credentials(trust_bundle=b"roots", leaves=leaves))
    found = {
        (node, type_, name): resource.body
        for node, resources in sets.items()
        for type_ in TYPES
        for name, resource in resources.all(type_).items()
    }
    assert len(found) > 10
    return found
