"""Replicas of an installation: processes that take themselves for the pods of the Deployment.

There is no node that runs containers. So what a kubelet would do is done here: the arguments are
the Deployment's, the account's token and root are where `--in-cluster` looks for them (in a mount
namespace of its own, in which nothing can be written), the host name is the pod's. Only the
addresses differ: 0.0.0.0 is the pod's.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from smi_xds.install.names import MONITORING_PORT, NAME, NAMESPACE, SELECTOR
from tests.kube.cluster import KubeCluster
from tests.support.wait import eventually

_MAIN = "from smi_xds.cli.main import main; main()"
# $1: the pod's name, $2: a folder with what is mounted at .../serviceaccount.
_IN_POD = """
set -e
hostname "$1"
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io
cp -r "$2" /run/secrets/kubernetes.io/serviceaccount
for mounted in $(awk '{print $5}' /proc/self/mountinfo); do
  case $mounted in
    /proc*|/sys*|/dev*) ;;
    *) mount -o remount,bind,ro "$mounted" 2>/dev/null || true ;;
  esac
done
if touch /tmp/it-can-be-written 2>/dev/null; then exit 1; fi
shift 2
exec "$@"
"""


@dataclass(slots=True)
class Replica:
    """One of them."""

    pod: str
    ip: str
    loopback: str
    """Its own loopback address: all pods share one network namespace."""
    log: Path
    process: subprocess.Popen[bytes]

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What it has logged, under that name or at all."""
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in found if name in {"", event["event"]}]

    def is_ready(self) -> bool:
        """What the kubelet would ask."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.pod} ended:\n{self.log.read_text()}")
        url = f"http://{self.ip}:{MONITORING_PORT}/readyz"
        with urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running_replicas(kube: KubeCluster, folder: Path, *, number: int) -> Iterator[list[Replica]]:
    """Run the pods of the Deployment, which is applied already, and make them ready."""
    pods = eventually(lambda: _pods(kube, number), deadline=60, what=f"{number} pods")
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(_running(kube, pod, folder, place=place))
            for place, pod in enumerate(pods, start=1)
        ]
        for it in replicas:
            eventually(it.is_ready, deadline=60, retry_on=(URLError, OSError), what=it.pod)
            kube.mark_ready(it.pod, it.ip, namespace=NAMESPACE)
        yield replicas


def _pods(kube: KubeCluster, number: int) -> list[Any]:
    label = ",".join(f"{key}={value}" for key, value in SELECTOR.items())
    found: list[Any] = kube.get("pods", f"--namespace={NAMESPACE}", f"--selector={label}")["items"]
    return found if len(found) == number else []


@contextmanager
def _running(kube: KubeCluster, pod: Any, folder: Path, *, place: int) -> Iterator[Replica]:
    name, ip, loopback = pod["metadata"]["name"], f"10.244.0.{place}", f"127.0.1.{place}"
    mounted = folder / name
    mounted.mkdir()
    token = kube.kubectl(
        *("create", "token", NAME, f"--namespace={NAMESPACE}"),
        *("--bound-object-kind=Pod", f"--bound-object-name={name}"),
    )
    (mounted / "token").write_text(token.strip())
    (mounted / "ca.crt").write_bytes((kube.scratch / "ca.crt").read_bytes())
    (mounted / "namespace").write_text(NAMESPACE)
    [container] = pod["spec"]["containers"]
    arguments = [it.replace("=0.0.0.0:", f"={ip}:") for it in container["args"]]
    command = [
        *("unshare", "--mount", "--uts", "sh", "-c", _IN_POD, "sh", name, str(mounted)),
        *(sys.executable, "-c", _MAIN, *arguments, f"--xds-address={loopback}:15010"),
    ]
    environment = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(kube.port),
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/",
    }
    log = folder / f"{name}.log"
    with (
        log.open("wb") as written,
        subprocess.Popen(command, env=environment, stdout=written, stderr=written) as process,
    ):
        replica = Replica(pod=name, ip=ip, loopback=loopback, log=log, process=process)
        try:
            yield replica
        finally:
            replica.kill()
