"""What `check`, `translate` and `bootstrap` read: a mesh without a server of ours."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from smi_xds.config import KubernetesConfig, MeshConfig
from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings, Workload
from smi_xds.objects.views import Objects
from smi_xds.problems import SourceError
from smi_xds.sources.files import read_folders
from smi_xds.values import ProxyId


def read_mesh(folders: Sequence[Path], config: MeshConfig) -> Mesh:
    """Read the folders once, and understand them as `serve` would."""
    return _understood(read_folders(folders), config)


def read_cluster_mesh(cluster: KubernetesConfig, config: MeshConfig) -> Mesh:
    """Read an API server once, and understand it as `serve` would."""
    from smi_xds.cli.quiet import quiet
    from smi_xds.sources.kube_once import read_cluster

    with quiet():
        objects = asyncio.run(read_cluster(cluster))
    for name in cluster.namespaces:
        if name not in objects.namespaces:
            raise SourceError(f"there is no namespace {name!r}; correct --namespace")
    return _understood(objects, config)


def _understood(objects: Objects, config: MeshConfig) -> Mesh:
    settings = MeshSettings(
        trust_domain=config.trust_domain, access=config.access_mode, mtls=config.mtls_mode
    )
    return MeshBuilder(settings)(objects)


def find_workload(mesh: Mesh, proxy: ProxyId) -> Workload:
    """The workload of that name; SourceError names those that there are."""
    workload = mesh.workloads.get(proxy)
    if workload is not None:
        return workload
    known = ", ".join(str(name) for name in sorted(mesh.workloads)) or "none at all"
    raise SourceError(
        f"no proxy {proxy}: it is no pod with a sidecar and an address; there are {known}"
    )
