"""The API server as `install` and `verify` ask it, where what answers is another one."""

from typing import cast

import pytest

from smi_xds.install.cluster import Cluster
from smi_xds.problems import AskError
from smi_xds.sources.kube_connection import Connection


class Page:
    """Something that answers everything with 200."""

    server = "https://10.0.0.1"

    def __init__(self, said: bytes) -> None:
        self.said = said

    async def read(self, _: str) -> bytes:
        return self.said

    async def send(self, *_: object, **__: object) -> bytes:
        return self.said


@pytest.mark.parametrize("said", [b"", b"ok", b"[]", b"\xff", b"[" * 5000])
async def test_what_is_no_api_server_is_one_line(said: bytes) -> None:
    """A proxy on the way, or another port of the machine: it is named, with a cure."""
    cluster = Cluster(cast("Connection", Page(said)))
    it = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}

    for asked in (
        cluster.find("/api/v1/namespaces/x"),
        cluster.create("/api/v1/namespaces", it),
        cluster.apply(it, force=False),
    ):
        with pytest.raises(AskError, match=r"10\.0\.0\.1 is no API server, .* another --context"):
            await asked
