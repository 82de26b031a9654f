"""The pod of deploy/sidecar with a real API server and a real Envoy: as the kubelet starts it.

The ConfigMap is what `smi-xds bootstrap --for-pods` prints, and goes through the API server; the
arguments are those of the manifest. Only the folders differ from what is mounted in a pod.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from smi_xds import app
from smi_xds.app import Running
from smi_xds.app.xds_ports import TOKENS
from smi_xds.config import parse_kubernetes, parse_serve, parse_xds_tls
from smi_xds.demo import processes
from smi_xds.demo.envoy import Sidecar, envoy_binary
from smi_xds.identity.issuer import wall_clock
from tests.kube.api import Kube
from tests.kube.cluster import KubeCluster
from tests.kube.netns import in_netns
from tests.kube.plugin import CRDS
from tests.support.identity import load_or_create, mk_authority
from tests.support.tokens import make_token
from tests.support.wait import eventually_async

pytestmark = [pytest.mark.kube, pytest.mark.envoy]

MANIFEST = Path(__file__).parents[2] / "deploy" / "sidecar" / "pod.yaml"
NODE = "shop/web"
ADDRESS = "10.244.0.5"


class Volume:
    """A folder as the kubelet keeps it: files are links, which change all at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir(parents=True)

    def write(self, files: Mapping[str, str]) -> None:
        self._number += 1
        version = self.folder / f"..{self._number}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_text(content)
        new = self.folder / "..data_tmp"
        new.symlink_to(version.name)
        new.rename(self.folder / "..data")
        for name in files:
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod's volumes, and what starts Envoy in it."""

    token: Volume
    trust: Volume
    files: Volume

    @classmethod
    def at(cls, folder: Path) -> "Pod":
        return cls(*(Volume(folder / name) for name in ("token", "trust", "files")))

    def arguments(self) -> list[str]:
        """Those of the manifest, with its variables filled in."""
        manifest = yaml.safe_load(MANIFEST.read_text())
        [envoy] = [it for it in manifest["spec"]["initContainers"] if it["name"] == "envoy"]
        meta, spec = manifest["metadata"], manifest["spec"]
        fields = {
            "metadata.name": meta["name"],
            "metadata.namespace": meta["namespace"],
            "spec.serviceAccountName": spec["serviceAccountName"],
        }
        values = {
            it["name"]: fields[it["valueFrom"]["fieldRef"]["fieldPath"]] for it in envoy["env"]
        }
        filled = [
            re.sub(r"\$\((\w+)\)", lambda match: str(values[match[1]]), argument)
            for argument in envoy["args"]
        ]
        return [it.replace("/etc/smi-xds", str(self.files.folder)) for it in filled]


@asynccontextmanager
async def running(kube: KubeCluster, folder: Path) -> AsyncIterator[tuple[Running, bytes]]:
    config = parse_serve(
        kubernetes=parse_kubernetes(kubeconfig=str(kube.kubeconfig)),
        xds_address="off",
        xds_tls=parse_xds_tls(tokens="127.0.0.1:15012"),
        state_folder=folder / "state",
    )
    async with app.running(config) as server:
        authority = load_or_create(folder / "state", trust_domain="cluster.local", now=wall_clock())
        yield server, authority.trust_bundle


@asynccontextmanager
async def envoy(pod: Pod, folder: Path) -> AsyncIterator[Sidecar]:
    command = processes.tethered(
        envoy_binary(), "--disable-hot-restart", "--concurrency", "1", *pod.arguments()
    )
    log = folder / "envoy.log"
    with log.open("wb") as stderr:
        async with processes.running(command, stdout=stderr, stderr=stderr):
            yield Sidecar(name="web", admin_host="127.0.0.1", log=log, access_log=log)


def apply_pod(kube: Kube) -> None:
    """The pod of the manifest, ready; nothing runs its containers."""
    kube.apply(MANIFEST)
    kube.mark_ready("web", ADDRESS, namespace="shop")


def new_token(kube: Kube) -> dict[str, str]:
    return {"token": make_token(kube, "web", namespace="shop", account="web")}


async def config_map(kube: Kube, pod: Pod, server: Running) -> Mapping[str, str]:
    """What the command prints, applied and read back."""
    main = "from smi_xds.cli.main import main; main()"
    flags = [
        *("bootstrap", "--for-pods", "--server", str(server.xds[TOKENS])),
        *("--server-name", "smi-xds.smi-xds.svc"),
        *("--token", str(pod.token.folder / "token"), "--root", str(pod.trust.folder / "ca.crt")),
        *("--secrets", str(pod.files.folder)),
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", main, *flags), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    await asyncio.to_thread(kube.apply, printed.decode(), namespace="shop")
    found = await asyncio.to_thread(kube.get, "configmap", "smi-xds-sidecar", "-n", "shop")
    data: dict[str, str] = found["data"]
    return data


@in_netns()
async def test_a_pod_proves_itself_by_the_token_of_the_moment(
    kube_binary: Path, tmp_path: Path
) -> None:
    """It gets its own configuration; when another pod takes its name, its token counts no more,
    and the one that the kubelet puts in its place is on the next stream. Roots are read again, too.
    """
    with KubeCluster(binary=kube_binary) as kube:
        kube.apply_crds(CRDS)
        kube.make_namespace("shop")
        kube.kubectl("create", "serviceaccount", "web", "--namespace=shop")
        apply_pod(kube)
        pod = Pod.at(tmp_path / "pod")
        async with running(kube, tmp_path) as (server, root):
            pod.files.write(await config_map(kube, pod, server))
            pod.trust.write({"ca.crt": root.decode()})
            pod.token.write(new_token(kube))
            async with envoy(pod, tmp_path) as sidecar:
                await sidecar.wait_until_ready()
                _is_itself(server, await _certificates(sidecar))

                other = mk_authority()
                pod.trust.write({"ca.crt": (root + other.trust_bundle).decode()})
                serial = other.certificate.serial_number
                await eventually_async(lambda: _trusts(sidecar, serial), deadline=30)

                await _replaced(kube, server)
                pod.token.write(new_token(kube))
                await eventually_async(lambda: bool(server.status.streams), deadline=60)
                await server.converged([NODE])
                _is_itself(server, await _certificates(sidecar))


async def _replaced(kube: KubeCluster, server: Running) -> None:
    """Another pod of the name: the stream ends, and the old token is refused from now on."""
    refusals = server.status.meters.unproven.values
    await asyncio.to_thread(kube.remove_pod, "web", namespace="shop")
    await asyncio.to_thread(apply_pod, kube)
    # Whichever it meets: the watch and the API server each hear of it by themselves.
    refused = {"replaced_pod", "invalid_token", "unknown_node"}
    await eventually_async(
        lambda: "revoked" in refusals and bool(refused & refusals.keys()),
        deadline=60,
        what=f"refusals, which are {refusals}",
    )
    assert not server.status.streams


def _is_itself(server: Running, certificates: Any) -> None:
    [stream] = server.status.streams.values()
    assert stream.node.id == NODE
    assert stream.is_known
    uris = [
        name["uri"]
        for each in certificates["certificates"]
        for chain in each["cert_chain"]
        for name in chain["subject_alt_names"]
        if "uri" in name
    ]
    assert set(uris) == {"spiffe://cluster.local/ns/shop/sa/web"}


async def _certificates(sidecar: Sidecar) -> Any:
    return json.loads(await sidecar._get("/certs"))


async def _trusts(sidecar: Sidecar, serial: int) -> bool:
    found = await _certificates(sidecar)
    # As numbers: Envoy writes whole bytes, with a zero before an odd digit.
    return serial in {
        int(ca["serial_number"], 16) for it in found["certificates"] for ca in it["ca_cert"]
    }
