"""What commands say of where to ask, before they ask; and a server that is asked for one proxy."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
import yaml
from structlog.testing import capture_logs

from smi_xds.cli import proxies as command
from smi_xds.cli.offline import read_mesh
from smi_xds.cli.quiet import quiet
from smi_xds.config import MeshConfig
from smi_xds.debug.service import debug_services
from smi_xds.values import Secret
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator
from tests.ads.client import Served, serving
from tests.support.cli import run_cli

EXAMPLES = Path(__file__).parents[2] / "examples"
CANARY = EXAMPLES / "03-canary"
PROXY = "canary/client"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server that has what the proxies of the canary get."""
    mesh = read_mesh([CANARY], MeshConfig())
    leaf = leaf_secret(b"certificate", Secret(b"a private key"))
    leaves = {it.identity: leaf for it in mesh.workloads.values()}
    credentials = Credentials(trust_bundle=b"root", leaves=leaves)
    with capture_logs():
        async with serving(debug_services) as here:
            here.cache.publish(Translator()(mesh, credentials=credentials))
            yield here


async def test_a_server_shows_what_a_proxy_gets(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same as from the files, in the same order, in both forms; but for the certificates."""
    asked = ("translate", "--server", served.target, "--proxy", PROXY)
    assert await asyncio.to_thread(run_cli, *asked, "-o", "json") == 0
    by_server = json.loads(capsys.readouterr().out)
    assert await asyncio.to_thread(run_cli, *asked) == 0
    text = capsys.readouterr().out
    assert run_cli("translate", "--files", CANARY, "--proxy", PROXY, "-o", "json") == 0
    by_files = json.loads(capsys.readouterr().out)

    assert "a private key" not in text
    assert yaml.safe_load(text) == by_server
    assert by_server.pop("Secret")[0]["name"] == by_files.pop("Secret")[0]["name"] == "identity"
    assert json.dumps(by_server) == json.dumps(by_files)


async def test_a_server_has_nothing_static(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its keys are not shown, so a bootstrap of them would not start."""
    asked = ("translate", "--server", served.target, "--proxy", PROXY, "-o", "static")
    assert await asyncio.to_thread(run_cli, *asked) == 2
    assert "--output static is made of folders: give --files." in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("proxies", "--server", "a:1", "--kubernetes"), "Give --server or --kubernetes"),
        (("proxies", "--context", "a"), "--context says which cluster to ask: add --kubernetes."),
        (("graph", "--kubeconfig", "a"), "--kubeconfig says which cluster to ask"),
        (("graph", "--files", CANARY, "--kubernetes", "--kubeconfig", "a"), "not two of them."),
        (("check",), "Give either --files or --kubernetes."),
        (("check", "--files", CANARY, "--kubernetes"), "Give either --files or --kubernetes."),
        (("check", "--files", CANARY, "--namespace", "a"), "of an API server, not of folders"),
        (("graph", "--access-mode", "shadow"), "--access-mode says how to understand --files"),
        (("graph", "--kubernetes", "--mtls-mode", "strict"), "--mtls-mode says how to"),
    ],
)
def test_two_places_at_once_are_refused(
    arguments: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to leave out, or to add."""
    assert run_cli(*arguments) == 2
    assert message in capsys.readouterr().err


def test_without_kubectl_no_cluster_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names it, and what to do instead."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert run_cli("proxies", "--kubernetes", "--kubeconfig", tmp_path / "config") == 2

    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("smi-xds: kubectl is not on PATH")
    assert "--server" in line


def test_replicas_are_shown_as_one() -> None:
    """A proxy's streams are those of all replicas; the replicas that it left count for nothing."""
    away = {"state": "STATE_NOT_CONNECTED", "configured": True, "streams": [], "resources": []}
    here = {**away, "state": "STATE_SYNCED", "streams": [{"number": 1}], "resources": ["r"]}
    bad = {**here, "state": "STATE_NACKED", "configured": False, "streams": [{"number": 2}]}

    found = command.merged(
        [
            [{"node": "b", **away}, {"node": "c", **here}],
            [{"node": "b", **here}, {"node": "a", **away}, {"node": "c", **bad}],
        ]
    )

    assert found == [
        {"node": "a", **away},
        {"node": "b", **here},
        {**bad, "node": "c", "configured": True, "streams": [{"number": 1}, {"number": 2}]}
        | {"resources": ["r"]},
    ]


def test_commands_that_end_write_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    """It would stand in their output; what was configured before is so again afterwards."""
    log = structlog.get_logger()
    with quiet():
        log.error("inside")
    with capture_logs() as after:
        log.debug("outside")

    assert capsys.readouterr() == ("", "")
    assert [it["event"] for it in after] == ["outside"]
