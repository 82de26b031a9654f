"""What the README shows works as it stands there."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from envoy.config.cluster.v3 import cluster_pb2

from smi_xds.xds.resources import CLUSTER
from tests.ads.client import names, stream
from tests.support.cli import run_cli
from tests.support.grpcurl import needs_grpcurl, run_grpcurl

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = README.parent / "examples"


def snippet(language: str) -> str:
    """The one block of that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.M | re.S)
    assert isinstance(found, str)
    return found


async def test_the_snippet_of_the_library_runs(tmp_path: Path) -> None:
    """It serves what it says, under the label it gives, and the change that it makes."""
    script = tmp_path / "mine.py"
    script.write_text(snippet("python"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", script),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = b""
            while not line.startswith(b"serving on"):
                line = await process.stdout.readline()
                assert line, "it ended"
            target = line.decode().split()[-1]
            async with stream(target, node="shop/web") as client:
                await client.ask(CLUSTER)
                response = await client.hear()
                await client.answer(response)
                (resource,) = response.resources
                message = cluster_pb2.Cluster()
                assert resource.resource.Unpack(message)
                assert (names(response), response.system_version_info) == (["catalog"], "release-8")
                assert message.connect_timeout.seconds == 2
    finally:
        process.kill()
        await process.wait()


@needs_grpcurl
async def test_the_debug_api_is_asked_as_shown() -> None:
    """The service that the README names is the one that there is."""
    from smi_xds.debug.service import DEBUG, debug_services
    from tests.ads.client import NODE, serving
    from tests.ads.play import resources

    assert f"grpcurl -plaintext 127.0.0.1:15010 {DEBUG}/ListProxies" in README.read_text()
    async with serving(debug_services) as served:
        served.cache.publish({NODE: resources()})
        listed = json.loads(await run_grpcurl(served.target, f"{DEBUG}/ListProxies"))
        assert listed["node"] == NODE


def test_the_explanation_is_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """What the README says that it prints, word for word."""
    shown = re.search(r"^\$ smi-xds (explain .*)\n([^$]*?)^```$", README.read_text(), re.M)
    assert shown is not None
    arguments = shlex.split(shown[1].replace("--files examples", f"--files {EXAMPLES}"))

    assert run_cli(*arguments) == 1
    assert capsys.readouterr().out == shown[2]
