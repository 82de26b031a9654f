"""What an operator does to the etcd of an API server: compact it, and put back a backup."""

import http.client
import json
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.kube.cluster import KubeCluster


def compact(kube: KubeCluster) -> int:
    """Forget all versions but the last, which is returned: lists and watches of others get 410."""
    socket_file = str(kube.scratch / "etcd:1")
    revision = int(_post(socket_file, "/v3/kv/range", {"key": "AA=="})["header"]["revision"])
    with suppress(CompactedError):  # by somebody else, just now
        _post(socket_file, "/v3/kv/compaction", {"revision": revision, "physical": True})
    return revision


class CompactedError(Exception):
    """There is nothing to forget."""


def _post(socket_file: str, path: str, body: Mapping[str, object]) -> Any:
    connection = _UnixConnection(socket_file)
    try:
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        said = answer.read()
        if b"has been compacted" in said:
            raise CompactedError
        if answer.status != http.HTTPStatus.OK:
            raise OSError(f"etcd: {path}: {answer.status} {said!r}")
        return json.loads(said)
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a socket that is a file."""

    def __init__(self, file: str) -> None:
        super().__init__("etcd", timeout=10)
        self._file = file

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._file)


def back_up(kube: KubeCluster, folder: Path) -> None:
    """Copy what etcd has, while it does not run; the API server finds it again by itself."""
    kube.stop_etcd()
    shutil.copytree(kube.scratch / "etcd", folder)
    kube.start_etcd()
    kube.start_apiserver()


def put_back(kube: KubeCluster, folder: Path) -> None:
    """Give etcd what it had then; neither it nor the API server runs at the time, or afterwards."""
    shutil.rmtree(kube.scratch / "etcd")
    shutil.copytree(folder, kube.scratch / "etcd")
