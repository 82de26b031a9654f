"""In a pod: tokens and authorities in its files are rotated while it runs."""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes_asyncio.config import incluster_config

from smi_xds.config import KubernetesConfig
from smi_xds.problems import ProblemCode
from smi_xds.sources.kube_api import UnreachableError
from smi_xds.sources.kube_connection import Connection
from tests.kube.pki import make_serving_certificate
from tests.sources.fake_api import ACCOUNTS, END, FakeApi, quicken, watching
from tests.support.wait import eventually_async

IN_CLUSTER = KubernetesConfig(kubeconfig=None, in_cluster=True)


@dataclass(frozen=True, slots=True)
class Mounted:
    """The files that a kubelet keeps in a pod."""

    folder: Path

    def write_token(self, token: str) -> None:
        """Rotate the token."""
        (self.folder / "token").write_text(token)

    def new_authority(self) -> ssl.SSLContext:
        """Rotate the authority; what the API server presents from now on."""
        serving = make_serving_certificate(addresses=["127.0.0.1"], names=[])
        for name, content in (("tls.crt", serving.certificate), ("tls.key", serving.key)):
            (self.folder / name).write_bytes(content)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
        (self.folder / "ca.crt").write_bytes(serving.ca)
        return context


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    """Let this process take itself for a pod."""
    quicken(monkeypatch)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    return Mounted(tmp_path)


def _lead_to(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))


async def test_a_token_that_is_rotated(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the old one is refused the file is read again, also if it is only just being written."""
    api = FakeApi(tokens={"old"})
    api.put(ACCOUNTS, "a")
    mounted.write_token("old\n")
    async with api.running(mounted.new_authority()):
        _lead_to(api, monkeypatch)
        async with watching(IN_CLUSTER) as sink:
            await api.watched(ACCOUNTS)
            api.tokens = {"new"}
            mounted.write_token("")
            api.send(ACCOUNTS, END)
            await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
            await asyncio.sleep(0.05)  # some tries without a token

            mounted.write_token("new")
            await eventually_async(lambda: sink.codes == [])
            api.put(ACCOUNTS, "b")
            await eventually_async(lambda: sink.accounts == {"a", "b"})


async def test_an_authority_that_is_rotated(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server that we do not trust is away; trusted is whom the file of now says."""
    renewed: list[str] = []
    renew = Connection.renew

    async def counted(self: Connection) -> None:
        await renew(self)
        renewed.append(self.server)

    monkeypatch.setattr(Connection, "renew", counted)
    api = FakeApi()
    api.put(ACCOUNTS, "a")
    mounted.write_token("t")
    old = mounted.new_authority()
    async with api.running(old):
        _lead_to(api, monkeypatch)
    async with watching(IN_CLUSTER) as sink:
        async with api.running(old):
            await api.watched(ACCOUNTS)
        trusted = (mounted.folder / "ca.crt").read_bytes()
        new = mounted.new_authority()
        rotated = (mounted.folder / "ca.crt").read_bytes()
        (mounted.folder / "ca.crt").write_bytes(trusted)  # the kubelet is late
        async with api.running(new):
            await eventually_async(lambda: len(renewed) > 2)
            await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
            (mounted.folder / "ca.crt").write_bytes(rotated)
            await eventually_async(lambda: sink.codes == [])
            await api.watched(ACCOUNTS)
            api.put(ACCOUNTS, "b")
            await eventually_async(lambda: sink.accounts == {"a", "b"})


async def test_an_authority_that_is_not_there_for_a_moment(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just when the first request is to be sent: it is away, as when it cannot be reached."""
    api = FakeApi(tokens={"it"})
    api.put(ACCOUNTS, "a")
    mounted.write_token("it")
    async with api.running(mounted.new_authority()):
        _lead_to(api, monkeypatch)
        connection, authority = Connection(IN_CLUSTER), mounted.folder / "ca.crt"
        await connection.open()
        try:
            authority.rename(mounted.folder / "moved")
            with pytest.raises(UnreachableError, match="certificates cannot be read"):
                await connection.read(ACCOUNTS)
            (mounted.folder / "moved").rename(authority)
            assert b'"a"' in await connection.read(ACCOUNTS)
        finally:
            await connection.close()
