"""An API server in which our webhooks are installed, and `smi-xds serve` behind them.

The Service leads to this machine (ExternalName), by the name that the certificate is for; our
rights are those that deploy/kubernetes grants.
"""

import contextlib
import json
import random
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from deploy.generate import WEBHOOKS
from smi_xds.config import DEFAULT_TRUST_DOMAIN
from smi_xds.crds import Conversion, definitions
from smi_xds.crds.definition import WEBHOOK_NAMESPACE, WEBHOOK_SERVICE
from smi_xds.crds.webhooks import VALIDATION_NAME
from smi_xds.demo.processes import tethered
from smi_xds.identity.ca import Authority
from smi_xds.identity.issuer import wall_clock
from smi_xds.install.rights import cluster_rules, own_rules
from smi_xds.objects.versions import SMI_KINDS
from tests.kube.api import Kube, KubectlError
from tests.kube.cluster import ADMIN_TOKEN, KubeCluster
from tests.kube.test_conversion import COMMON, WRITTEN
from tests.support.identity import load_or_create
from tests.support.wait import eventually

DEADLINE = 60.0
NAMESPACE = "default"
CLIENT = "{.items[*].spec.conversion.webhook.clientConfig.caBundle}"


BAD: dict[str, Any] = {
    "apiVersion": "access.smi-spec.io/v1alpha4",
    "kind": "TrafficTarget",
    "metadata": {"name": "bad", "namespace": NAMESPACE},
    "spec": {
        "destination": {"kind": "ServiceAccount", "name": "Not a name"},
        "sources": [],
        "rules": [],
    },
}
DENIED = 'admission webhook "validate.smi-xds.io" denied the request: '


class Installed:
    """A cluster in which webhooks are installed, and the server behind them."""

    def __init__(self, kube: KubeCluster, folder: Path, *, kubeconfig: Path) -> None:
        self.kube = kube
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._kubeconfig = kubeconfig
        self._port = _free_port()
        self.lead_back()

    def start(self) -> None:
        """Start the server, and wait until it is trusted."""
        self._starts += 1
        log = self._folder / f"serve-{self._starts}.log"
        flags = [
            *("serve", "--kubernetes", "--kubeconfig", str(self._kubeconfig)),
            *("--xds-address", "127.0.0.1:0", "--monitoring-address", "127.0.0.1:0"),
            *("--webhook-address", f"127.0.0.1:{self._port}", "--log-format", "json"),
            *("--state-folder", str(self._folder / "state")),
        ]
        main = "from smi_xds.cli.main import main; main()"
        command = tethered(Path(sys.executable), "-c", main, *flags)
        with log.open("wb") as written:
            self._process = subprocess.Popen(command, stderr=written, start_new_session=True)
        eventually(lambda: _is_served(log), deadline=DEADLINE, what=f"serving in {log}")
        eventually(lambda: webhooks_answer(self.kube), deadline=DEADLINE, retry_on=(KubectlError,))

    def kill(self) -> None:
        """End it as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def forget_authority(self) -> None:
        """Lose the state folder: the next start makes another root."""
        shutil.rmtree(self._folder / "state")

    def authority(self) -> Authority:
        """That of the last start, whose root the API server trusts."""
        return load_or_create(
            self._folder / "state", trust_domain=DEFAULT_TRUST_DOMAIN, now=wall_clock()
        )

    def bundles(self) -> set[str]:
        """The roots that the definitions trust."""
        return set(self.kube.kubectl("get", "crd", "-o", f"jsonpath={CLIENT}").split())

    def lead_back(self) -> None:
        """Have the API server ask the server that `start` starts."""
        lead_to(self.kube, self._port)


def lead_to(kube: Kube, port: int) -> None:
    """Have an API server ask our webhooks at this port of the machine."""
    place = {"service": {"port": port}}
    patch = json.dumps({"spec": {"conversion": {"webhook": {"clientConfig": place}}}})
    for kind in SMI_KINDS.values():
        if len(kind.versions) > 1:
            name = f"{kind.plural}.{kind.group}"
            kube.kubectl("patch", "crd", name, "--type=merge", "-p", patch)
    patch = json.dumps(
        [{"op": "replace", "path": "/webhooks/0/clientConfig/service/port", "value": port}]
    )
    target = ("validatingwebhookconfiguration", VALIDATION_NAME)
    kube.kubectl("patch", *target, "--type=json", "-p", patch)


_probes = count()


def webhooks_answer(kube: KubeCluster) -> bool:
    """Whether every kind is converted, and objects are judged; KubectlError where not yet."""
    # New names each time: an API server whose cache lags refuses to patch what it just lost.
    name = f"probe-{next(_probes)}"
    firsts = [it for it in documents(name, per_version=1) if _is_oldest(it)]
    kube.kubectl("create", "-f", "-", stdin=as_list(firsts))
    for kind in SMI_KINDS.values():
        read(kube, kind.kind, kind.versions[-1])
    try:
        kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(BAD))
    except KubectlError as refused:
        return DENIED in str(refused)
    return False


def _is_oldest(document: Mapping[str, Any]) -> bool:
    oldest = SMI_KINDS[document["kind"]].versions[0]
    return str(document["apiVersion"]).endswith(f"/{oldest}")


def _is_served(log: Path) -> bool:
    lines = log.read_text().splitlines()
    return any(line.startswith("{") and json.loads(line)["event"] == "serving" for line in lines)


def _free_port() -> int:
    """One that stays free while the server is away: no client's connection gets it by itself."""
    for port in random.sample(range(28_000, 32_000), 100):  # below the system's own choice
        with contextlib.suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            return port
    raise OSError("there is no free port from 28000 to 31999")


def documents(prefix: str, *, per_version: int) -> Iterator[dict[str, Any]]:
    """Objects of each kind in each version: so many of each, of those that lose most."""
    for (kind, version), bodies in WRITTEN.items():
        for number, body in enumerate(bodies[:per_version]):
            metadata = {"name": f"{prefix}-{version}-{number}", "namespace": NAMESPACE}
            api_version = f"{SMI_KINDS[kind].group}/{version}"
            yield {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


class BusyError(KubectlError):
    """It says "not now" (429), as while the storage of a changed definition is made."""


def call(kube: KubeCluster, method: str, path: str, body: object = None) -> Any:
    """As `kubectl get --raw`, which takes longer to start than to read; and to write."""
    ask = partial(_call, kube, method, path, body)
    return eventually(ask, deadline=30, retry_on=(BusyError,))


def _call(kube: KubeCluster, method: str, path: str, body: object) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{kube.url}{path}", data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60, context=kube._tls) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            is_busy = error.code == HTTPStatus.TOO_MANY_REQUESTS
            raise (BusyError if is_busy else KubectlError)(error.read().decode()) from error


def read(kube: KubeCluster, kind: str, version: str) -> dict[str, dict[str, Any]]:
    """All objects of a kind, as one version shows them, by name."""
    its = SMI_KINDS[kind]
    path = f"/apis/{its.group}/{version}/namespaces/{NAMESPACE}/{its.plural}"
    return {it["metadata"]["name"]: it for it in call(kube, "GET", path)["items"]}


def fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the kind itself has."""
    return {key: value for key, value in document.items() if key not in COMMON}


def as_list(items: Iterable[Mapping[str, Any]]) -> str:
    """For `kubectl … -f -`."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})


def mk_split(name: str, version: str = "v1alpha4", **spec: object) -> dict[str, Any]:
    """A TrafficSplit of a service that nobody has."""
    return {
        "apiVersion": f"split.smi-spec.io/{version}",
        "kind": "TrafficSplit",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"service": "web", "backends": [{"service": "v1", "weight": 1}], **spec},
    }


def refusal(kube: Kube, verb: str, document: Mapping[str, Any], *flags: str) -> str:
    """What kubectl says of an object that is refused, or (with that flag) warned of."""
    with pytest.raises(KubectlError) as refused:
        kube.kubectl(verb, *flags, "-n", NAMESPACE, "-f", "-", stdin=json.dumps(document))
    return str(refused.value)


@contextlib.contextmanager
def webhooks_installed(kube: KubeCluster, folder: Path) -> Iterator[Installed]:
    """Install them, and start the server behind them."""
    installed = Installed(kube, folder, kubeconfig=install(kube, folder))
    try:
        installed.start()
        yield installed
    finally:
        installed.kill()


def install(kube: KubeCluster, folder: Path) -> Path:
    """As an operator does, but for the Service, which has no pods to lead to.

    Gives the kubeconfig of the account that may be trusted, and read; its server is to be started.
    """
    crds = folder / "crds.json"
    crds.write_text(as_list(definitions(Conversion.WEBHOOK)))
    kube.apply_crds(crds)
    kube.make_namespace(WEBHOOK_NAMESPACE)
    kube.apply(WEBHOOKS)
    target = ("service", WEBHOOK_SERVICE, f"--namespace={WEBHOOK_NAMESPACE}")
    kube.kubectl("delete", *target)
    kube.kubectl(
        "create", "service", "externalname", WEBHOOK_SERVICE, "--external-name=localhost", target[2]
    )
    kube.kubectl("apply", "-f", "-", stdin=as_list(_rights()))
    return kube.kubeconfig_for("smi-xds", namespace=WEBHOOK_NAMESPACE)


def _rights() -> Iterator[dict[str, object]]:
    """Of the account, in the cluster and in its own namespace."""
    group, name = "rbac.authorization.k8s.io", "smi-xds-server"
    subject = {"kind": "ServiceAccount", "name": "smi-xds", "namespace": WEBHOOK_NAMESPACE}
    granted = (
        ("Cluster", {"name": name}, cluster_rules()),
        ("", {"name": name, "namespace": WEBHOOK_NAMESPACE}, own_rules()),
    )
    for scope, metadata, rules in granted:
        role = f"{scope}Role"
        head = {"apiVersion": f"{group}/v1", "metadata": metadata}
        yield {**head, "kind": role, "rules": rules}
        ref = {"apiGroup": group, "kind": role, "name": name}
        yield {**head, "kind": f"{role}Binding", "roleRef": ref, "subjects": [subject]}
