"""A kubelet that port-forwards, and does nothing else: pods lead to ports of this machine."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kube.api import NODE, Kube


class Kubelet:
    """The kubelet of the one node, on which all pods are."""

    def __init__(self, places: Path) -> None:
        self._file = places
        self._places: dict[str, str] = {}
        self._write()

    def lead(self, pod: str, port: int, *, to: str) -> None:
        """Let a port of a pod (`namespace/name`) lead to `HOST:PORT` from now on."""
        self._places[f"{pod}:{port}"] = to
        self._write()

    def _write(self) -> None:
        written = self._file.with_suffix(".new")
        written.write_text(json.dumps(self._places))
        written.replace(self._file)


@contextmanager
def running_kubelet(kube: Kube, binary: Path, folder: Path) -> Iterator[Kubelet]:
    """Run one while the block lasts, and tell the API server where it is."""
    places = folder / "ports.json"
    kubelet = Kubelet(places)
    with (
        (folder / "kubelet.log").open("wb") as log,
        subprocess.Popen(
            [binary, "kubelet", places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        try:
            assert process.stdout is not None
            _announce(kube, port=int(process.stdout.readline()))
            yield kubelet
        finally:
            process.kill()


def _announce(kube: Kube, *, port: int) -> None:
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    patch = json.dumps({"status": status})
    kube.kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", f"--patch={patch}")
