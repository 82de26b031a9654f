"""`smi-xds proxies`, asking a server over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from smi_xds.cli import proxies as command
from smi_xds.debug.service import debug_services
from smi_xds.values import Secret
from smi_xds.xds.resources import CLUSTER, LISTENER, SECRET, ResourceSet
from smi_xds.xds.secrets import leaf_secret
from tests.ads.client import NODE, Served, serving, stream
from tests.ads.play import resources
from tests.support.cli import run_cli

LEAF = leaf_secret(b"-----BEGIN CERTIFICATE-----", Secret(b"-----BEGIN PRIVATE KEY-----"))


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    # The server's own log would stand between the lines of the command.
    with capture_logs():
        async with serving(debug_services) as here:
            yield here


async def run(served: Served, *arguments: str) -> int:
    """The command, beside the server that it asks."""
    return await asyncio.to_thread(run_cli, "proxies", "--server", served.target, *arguments)


async def test_without_proxies(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """That nobody is there is no trouble."""
    assert await run(served) == 0
    assert capsys.readouterr().out == "no proxies\n"


async def test_all_proxies_in_a_table(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, in aligned columns, sorted; what was never asked for is a dash."""
    served.cache.publish({NODE: resources("cluster a 1"), "shop/later": resources()})
    async with stream(served.target) as client:
        await client.ask(CLUSTER)
        response = await client.hear()
        code_before = await run(served)
        before = capsys.readouterr().out.splitlines()
        await client.answer(response)
        await served.status.converged()
        code = await run(served)
        head, one, later = capsys.readouterr().out.splitlines()

    assert (code_before, code) == (1, 0)
    assert before[1].split()[:4] == [NODE, "stale", "-", "stale"]
    words = "PROXY STATE SECRETS CLUSTERS ENDPOINTS LISTENERS ROUTES MODE CONNECTED PEER"
    assert head.split() == words.split()
    assert one.split()[:8] == [NODE, "synced", "-", "synced", "-", "-", "-", "delta"]
    assert one.split()[-1].startswith("ipv4:127.0.0.1:")
    assert later.split()[:3] == ["shop/later", "not", "connected"]
    assert head.index("CLUSTERS") == one.index("synced", one.index("synced") + 1)


async def test_a_refusal_is_shown_with_its_text(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below the table, in one line, with the names that stay refused; the exit code is 1."""
    served.cache.publish({NODE: resources("cluster a 1")})
    async with stream(served.target) as client:
        await client.ask(CLUSTER)
        await client.answer(await client.hear(), error="a: no such\n  thing")
        await served.status.converged()
        code = await run(served)

    shown = capsys.readouterr().out.splitlines()
    assert code == 1
    assert shown[1].split()[:4] == [NODE, "NACKED", "-", "NACKED"]
    assert shown[2:] == [f"{NODE}: Cluster refused (a): a: no such thing"]


async def test_a_proxy_that_nothing_is_configured_for_is_marked(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong node id is what an operator looks for."""
    served.cache.publish({})
    async with stream(served.target) as client:
        await client.ask(CLUSTER)
        await client.answer(await client.hear())
        await served.status.converged()
        assert await run(served) == 0
        assert f"{NODE}  synced (unknown here)" in capsys.readouterr().out
        assert await run(served, NODE) == 0
        assert "nothing is configured for it" in capsys.readouterr().out


async def test_the_worst_of_several_streams_counts(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """A proxy may have one stream per type, or an old one beside the new."""
    served.cache.publish({NODE: resources("cluster a 1")})
    async with stream(served.target) as old, stream(served.target, is_delta=False) as new:
        await old.ask(CLUSTER)
        await old.answer(await old.hear(), error="no")
        await new.ask(CLUSTER)
        await new.answer(await new.hear())
        await served.status.converged()
        assert await run(served) == 1
        row = capsys.readouterr().out.splitlines()[1]

    assert row.split()[:4] == [NODE, "NACKED", "-", "NACKED"]
    assert "delta, sotw" in row


async def test_one_proxy_in_full(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Nonces and versions sent and acknowledged, counts, refusals, and its resources by name."""
    served.cache.publish(
        {NODE: ResourceSet({**resources("cluster a 1").layers, SECRET: ({"identity": LEAF},)})}
    )
    async with stream(served.target) as client:
        await client.ask(CLUSTER)
        clusters = await client.hear()
        await client.answer(clusters)
        await client.ask(LISTENER)
        await client.answer(await client.hear(), error="no\nlisteners")
        await served.status.converged()
        code = await run(served, NODE)

    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert code == 1
    assert lines[0] == f"{NODE}: NACKED"
    assert lines[2].startswith("stream 1, delta: ipv4:127.0.0.1:")
    assert "connected 0s ago" in lines[2]
    row = next(line for line in lines if line.startswith("Cluster "))
    nonce, version = clusters.nonce, clusters.system_version_info
    assert row.split() == [
        *("Cluster", "synced", nonce, nonce, version, version, "0s", "ago", "1", "1", "0"),
        row.split()[-1],
    ]
    assert "Listener refused: no listeners" in lines
    assert ["Secret", "identity", LEAF.version] in [line.split() for line in lines]


async def test_json_has_everything_but_keys(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """For one proxy with the content of its resources; for all of them without."""
    served.cache.publish({NODE: ResourceSet({SECRET: ({"identity": LEAF},)})})

    def read() -> Any:
        text = capsys.readouterr().out
        assert "PRIVATE KEY" not in text
        return json.loads(text)

    assert await run(served, "--output", "json") == 0
    (listed,) = read()["proxies"]
    assert (listed["node"], listed["state"]) == (NODE, "STATE_NOT_CONNECTED")
    assert (listed["streams"], listed["resources"]) == ([], [])

    assert await run(served, NODE, "--output", "json") == 0
    (resource,) = read()["resources"]
    assert resource["content"]["tls_certificate"]["private_key"] == "<redacted>"


async def test_an_unknown_proxy_is_one_line(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names those that there are."""
    served.cache.publish({NODE: resources(), "shop/db": resources()})

    assert await run(served, "shop/web") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "smi-xds: no proxy shop/web; there are default/a, shop/db\n"


def test_no_server_is_one_line(unused_tcp_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the address and the cure."""
    assert run_cli("proxies", "--server", f"127.0.0.1:{unused_tcp_port}") == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert f"127.0.0.1:{unused_tcp_port} (UNAVAILABLE)" in line
    assert "start `smi-xds serve`" in line


async def test_another_server_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """A gRPC server without our API, and something that is no gRPC at all."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert await asyncio.to_thread(run_cli, "proxies", "--server", f"127.0.0.1:{port}") == 2
    await server.stop(None)
    assert "has no debug API of smi-xds" in capsys.readouterr().err


def test_a_wrong_address_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The flag is named."""
    assert run_cli("proxies", "--server", "nowhere") == 2
    assert "--server 'nowhere' is not HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0s"),
        (59.4, "59s"),
        (60, "1m00s"),
        (192, "3m12s"),
        (18_180, "5h03m"),
        (187_200, "2d04h"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    """Two units at most; a clock that went back shows nothing negative."""
    assert command._age(1000.0, 1000.0 + seconds) == text
    assert command._age(1000.0, 990.0) == "0s"
