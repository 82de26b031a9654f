"""A real API server that asks a real `smi-xds serve`: as an operator installs it.

The Service leads to this machine (ExternalName), by the name that the certificate is for; our
rights are those of deploy/kubernetes/webhooks and reading, no more.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from deploy.generate import WEBHOOKS
from smi_xds.config import DEFAULT_TRUST_DOMAIN, Address
from smi_xds.crds import Conversion, definitions
from smi_xds.crds.definition import WEBHOOK_NAMESPACE, WEBHOOK_SERVICE
from smi_xds.crds.webhooks import VALIDATION_NAME
from smi_xds.demo.processes import tethered
from smi_xds.identity.ca import Authority
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.serving import ServerTls, service_names
from smi_xds.identity.state import load_or_create
from smi_xds.objects.convert import convert
from smi_xds.objects.metadata import CONVERTED_ANNOTATION
from smi_xds.objects.versions import ALL, SMI_KINDS
from smi_xds.web.server import serving
from smi_xds.web.webhooks import webhook_forms
from tests.kube.api import Kube, KubectlError
from tests.kube.cluster import ADMIN_TOKEN, KubeCluster
from tests.kube.test_conversion import COMMON, WRITTEN
from tests.support.wait import eventually, eventually_async

# A start of all that is here takes 15 s; this is for a machine that does much else.
pytestmark = [pytest.mark.kube, pytest.mark.xdist_group("kube"), pytest.mark.timeout(600)]

DEADLINE = 60.0
NAMESPACE = "default"
READ = (
    "namespaces,serviceaccounts,services,pods,endpointslices.discovery.k8s.io,"
    + ",".join(f"{it.plural}.{it.group}" for it in SMI_KINDS.values())
)  # fmt: skip
CLIENT = "{.items[*].spec.conversion.webhook.clientConfig.caBundle}"
SPLIT = "split.smi-spec.io"


class Installed:
    """A cluster in which webhooks are installed, and the server behind them."""

    def __init__(self, kube: KubeCluster, folder: Path) -> None:
        self.kube = kube
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._probes = count()
        self._kubeconfig = kube.kubeconfig_for("smi-xds", namespace=WEBHOOK_NAMESPACE)

    def start(self) -> None:
        """Start the server, lead the API server to it, and wait until it is trusted."""
        self._starts += 1
        log = self._folder / f"serve-{self._starts}.log"
        flags = [
            *("serve", "--kubernetes", "--kubeconfig", str(self._kubeconfig)),
            *("--xds-address", "127.0.0.1:0", "--monitoring-address", "127.0.0.1:0"),
            *("--webhook-address", "127.0.0.1:0", "--log-format", "json"),
            *("--state-folder", str(self._folder / "state")),
        ]
        main = "from smi_xds.cli.main import main; main()"
        command = tethered(Path(sys.executable), "-c", main, *flags)
        with log.open("wb") as written:
            self._process = subprocess.Popen(command, stderr=written, start_new_session=True)
        address = eventually(lambda: _served(log), deadline=DEADLINE, what=f"serving in {log}")
        self.lead_to(int(address.rpartition(":")[2]))
        eventually(self._answers, deadline=DEADLINE, retry_on=(KubectlError,))

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

    def lead_to(self, port: int) -> None:
        """Have the API server ask there."""
        place = {"service": {"port": port}}
        patch = json.dumps({"spec": {"conversion": {"webhook": {"clientConfig": place}}}})
        for kind in SMI_KINDS.values():
            if len(kind.versions) > 1:
                name = f"{kind.plural}.{kind.group}"
                self.kube.kubectl("patch", "crd", name, "--type=merge", "-p", patch)
        patch = json.dumps(
            [{"op": "replace", "path": "/webhooks/0/clientConfig/service/port", "value": port}]
        )
        target = ("validatingwebhookconfiguration", VALIDATION_NAME)
        self.kube.kubectl("patch", *target, "--type=json", "-p", patch)

    def _answers(self) -> bool:
        """Whether every kind is converted, and objects are judged."""
        # New names each time: an API server whose cache lags refuses to patch what it just lost.
        name = f"probe-{next(self._probes)}"
        firsts = [it for it in _documents(name, per_version=1) if _is_oldest(it)]
        self.kube.kubectl("create", "-f", "-", stdin=_list(firsts))
        for kind in SMI_KINDS.values():
            _read(self.kube, kind.kind, kind.versions[-1])
        try:
            self.kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(BAD))
        except KubectlError as refused:
            return DENIED in str(refused)
        return False


def _is_oldest(document: Mapping[str, Any]) -> bool:
    oldest = SMI_KINDS[document["kind"]].versions[0]
    return str(document["apiVersion"]).endswith(f"/{oldest}")


def _served(log: Path) -> str | None:
    for line in log.read_text().splitlines():
        if line.startswith("{") and (event := json.loads(line))["event"] == "serving":
            address: str = event["webhook_address"]
            return address
    return None


def _documents(prefix: str, *, per_version: int) -> Iterator[dict[str, Any]]:
    for (kind, version), bodies in WRITTEN.items():
        for number, body in enumerate(bodies[:per_version]):
            metadata = {"name": f"{prefix}-{version}-{number}", "namespace": NAMESPACE}
            api_version = f"{SMI_KINDS[kind].group}/{version}"
            yield {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def _read(kube: KubeCluster, kind: str, version: str) -> dict[str, dict[str, Any]]:
    """As `kubectl get --raw`, which takes longer to start than to read."""
    it = SMI_KINDS[kind]
    url = f"{kube.url}/apis/{it.group}/{version}/namespaces/{NAMESPACE}/{it.plural}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=60, context=kube._tls) as answer:
            listed = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise KubectlError(error.read().decode()) from error
    return {found["metadata"]["name"]: found for found in listed["items"]}


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in COMMON}


def _list(items: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})


def _refusal(kube: Kube, verb: str, document: Mapping[str, Any], *flags: str) -> str:
    """What kubectl says of an object that is refused, or (with that flag) warned of."""
    with pytest.raises(KubectlError) as refused:
        kube.kubectl(verb, *flags, "-n", NAMESPACE, "-f", "-", stdin=json.dumps(document))
    return str(refused.value)


def _split(name: str, version: str = "v1alpha4", **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": f"{SPLIT}/{version}",
        "kind": "TrafficSplit",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"service": "web", "backends": [{"service": "v1", "weight": 1}], **spec},
    }


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


@contextmanager
def _installed(kube: KubeCluster, folder: Path) -> Iterator[Installed]:
    """As an operator does, but for the Service, which has no pods to lead to."""
    crds = folder / "crds.json"
    crds.write_text(_list(list(definitions(Conversion.WEBHOOK))))
    kube.apply_crds(crds)
    kube.make_namespace(WEBHOOK_NAMESPACE)
    kube.apply(WEBHOOKS)
    target = ("service", WEBHOOK_SERVICE, f"--namespace={WEBHOOK_NAMESPACE}")
    kube.kubectl("delete", *target)
    kube.kubectl(
        "create", "service", "externalname", WEBHOOK_SERVICE, "--external-name=localhost", target[2]
    )
    kube.kubectl("create", "clusterrole", "read", "--verb=list,watch", f"--resource={READ}")
    user = f"--serviceaccount={WEBHOOK_NAMESPACE}:smi-xds"
    kube.kubectl("create", "clusterrolebinding", "read", "--clusterrole=read", user)
    installed = Installed(kube, folder)
    try:
        installed.start()
        yield installed
    finally:
        installed.kill()


@pytest.fixture(scope="module")
def installed(kube_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Give a cluster of this module's own: its definitions are not those of other tests."""
    with (
        KubeCluster(binary=kube_binary) as kube,
        _installed(kube, tmp_path_factory.mktemp("webhooks")) as it,
    ):
        yield it


def test_every_version_is_read_in_every_other(installed: Installed) -> None:
    """What is written in any version is what every other version can say of it, and comes back
    as it was written after it was written back in each."""
    kube = installed.kube
    documents = list(_documents("all", per_version=9))
    kube.kubectl("apply", "-f", "-", stdin=_list(documents))

    for version in ALL:
        back: list[dict[str, Any]] = []
        for kind in (it for it in SMI_KINDS.values() if version in it.versions):
            ours = [it for it in documents if it["kind"] == kind.kind]
            shown = _read(kube, kind.kind, version)
            found = [shown[it["metadata"]["name"]] for it in ours]
            assert [_fields(it) for it in found] == [_fields(convert(it, version)) for it in ours]
            back.extend(found)
        kube.kubectl("replace", "-f", "-", stdin=_list(back))

    for kind_name, version in WRITTEN:
        shown = _read(kube, kind_name, version)
        written = [
            it
            for it in documents
            if (it["kind"], it["apiVersion"].rpartition("/")[2]) == (kind_name, version)
        ]
        assert [_fields(shown[it["metadata"]["name"]]) for it in written] == [
            _fields(it) for it in written
        ]


def test_what_can_never_work_is_refused(installed: Installed) -> None:
    """With our words, by every way of writing, in a dry run as well; nothing is stored."""
    for flags in ((), ("--dry-run=server",)):
        message = _refusal(installed.kube, "create", BAD, *flags)
        assert DENIED in message
        assert "spec.destination.name: 'Not a name' cannot be the name of an object" in message
        assert "[InvalidObject] Use lower case letters" in message
    assert DENIED in _refusal(installed.kube, "apply", BAD, "--server-side")

    assert "bad" not in _read(installed.kube, "TrafficTarget", "v1alpha3")


def test_what_may_become_right_is_warned_of(installed: Installed) -> None:
    """The object is stored, or would be; the writer hears what the mesh makes of it."""
    kube = installed.kube
    split = _split("of-nothing", service="nowhere")
    strict = "--warnings-as-errors"

    for flags in (("--dry-run=server",), ()):
        message = _refusal(kube, "create", split, strict, *flags)
        assert "Warning: spec.service: There is no Service default/nowhere" in message
        assert "[MissingService]" in message
        is_stored = "of-nothing" in _read(kube, "TrafficSplit", "v1alpha4")
        assert is_stored == (flags == ())
    kube.kubectl("delete", "ts", "of-nothing", "-n", NAMESPACE)


def test_a_restriction_is_not_dropped_unseen(installed: Installed) -> None:
    """A client of an older version that loses our annotation is refused; others go on."""
    kube = installed.kube
    match = {"kind": "HTTPRouteGroup", "name": "beta"}
    kube.apply(_split("restricted", matches=[match]))
    seen = _read(kube, "TrafficSplit", "v1alpha2")["restricted"]
    assert "matches" not in seen["spec"]
    seen["spec"]["backends"][0]["weight"] = 7
    careless = json.loads(json.dumps(seen))
    del careless["metadata"]["annotations"][CONVERTED_ANNOTATION]

    message = _refusal(kube, "replace", careless)

    assert f"{DENIED}spec.matches: the update drops a restriction that v1alpha2" in message
    kube.kubectl("replace", "-f", "-", stdin=json.dumps(seen))
    kept = _read(kube, "TrafficSplit", "v1alpha4")["restricted"]["spec"]
    assert (kept["matches"], kept["backends"][0]["weight"]) == ([match], 7)


def test_while_nobody_answers_things_go_on(installed: Installed) -> None:
    """What is stored is read, written and made in its own version, unjudged; other versions come
    back with the webhook, and with another root after it was lost."""
    kube = installed.kube
    before = installed.bundles()
    assert len(before) == 1
    installed.kill()
    try:
        kube.apply(_split("meanwhile"))
        for kind in SMI_KINDS.values():
            found = list(_read(kube, kind.kind, kind.stored).values())
            kube.kubectl("replace", "-f", "-", stdin=_list(found[:1]))
        kube.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(BAD))
        kube.kubectl("delete", "tt", "bad", "-n", NAMESPACE)
        with pytest.raises(KubectlError, match="conversion webhook"):
            _read(kube, "TrafficSplit", "v1alpha1")
    finally:
        installed.forget_authority()
        installed.start()

    assert "meanwhile" in _read(kube, "TrafficSplit", "v1alpha1")
    after = installed.bundles()
    assert (len(after), after & before) == (1, set())


async def test_new_certificates_fail_no_request(installed: Installed) -> None:
    """Objects are read in another version, by several at once, while the certificate is renewed
    again and again. (The last test: the server behind the webhooks is this process.)"""
    installed.kill()
    kube, reads = installed.kube, 40
    tls = ServerTls(installed.authority(), service_names(WEBHOOK_NAMESPACE, WEBHOOK_SERVICE))
    serials = set()

    def read_some() -> None:
        for _ in range(reads):
            assert _read(kube, "TrafficSplit", "v1alpha1")

    async with serving(
        {},
        Address("127.0.0.1", 0),
        what="webhooks",
        flag="",
        forms=webhook_forms(foresee=lambda _: ()),
        tls=tls.context,
    ) as port:
        await asyncio.to_thread(installed.lead_to, port)
        await eventually_async(
            lambda: asyncio.to_thread(_read, kube, "TrafficSplit", "v1alpha1"),
            deadline=DEADLINE,
            retry_on=(KubectlError,),
        )
        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(asyncio.to_thread(read_some)) for _ in range(4)]
            while not all(reader.done() for reader in readers):
                tls.certificate = tls._issue(wall_clock())
                serials.add(tls.certificate.certificate_chain)
                await asyncio.sleep(0.01)

    assert len(serials) > 5
