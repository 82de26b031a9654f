"""Paths are normalised as Envoy does it, which a real one is asked about."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random

import pytest

from smi_xds.mesh.explain_path import NormalPath, normalise
from tests.support.envoy import envoy

HCM = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
    "HttpConnectionManager"
)
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"

# What dot segments, escapes and slashes are made of, and what stands around them.
PARTS = (
    *("/", "/", "/", "\\", ".", "..", "%2e", "%2E", "%2f", "%5C", "%", "%%", "2", "5", "f", "e"),
    *("3", "0", ";", ";x", "?", "a", "b", "%3b", "%30", "%32", "%66", "%41", "%7e", '"', "|", "~"),
    *("%22", "%ff", "%00", "*", ":", "@", "%25", "%2", "#", "<", "^", "`", "{"),
)
ASKED = 4_000

# The options are those of `xds.filters`; the path is told in the answer.
BOOTSTRAP: Mapping[str, object] = {
    "static_resources": {
        "listeners": [
            {
                "name": "paths",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [
                    {
                        "filters": [
                            {
                                "name": "http",
                                "typed_config": {
                                    "@type": HCM,
                                    "stat_prefix": "paths",
                                    "normalize_path": True,
                                    "merge_slashes": True,
                                    "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
                                    "http_filters": [
                                        {"name": "router", "typed_config": {"@type": ROUTER}}
                                    ],
                                    "route_config": {
                                        "virtual_hosts": [
                                            {
                                                "name": "all",
                                                "domains": ["*"],
                                                "response_headers_to_add": [
                                                    {
                                                        "header": {
                                                            "key": "x-path",
                                                            "value": "%REQ(:PATH)%",
                                                        }
                                                    }
                                                ],
                                                "routes": [
                                                    {
                                                        "match": {"prefix": "/"},
                                                        "direct_response": {"status": 200},
                                                    }
                                                ],
                                            }
                                        ]
                                    },
                                },
                            }
                        ]
                    }
                ],
            }
        ]
    }
}


@pytest.mark.parametrize(
    "written, judged",
    [
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/../../x", "/x"),
        ("/a//b", "/a/b"),
        ("//", "//"),
        ("/a//../b", "/a/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/...", "/a/..."),
        ("/a/..b", "/a/..b"),
        ("/a/..;x=1/b", "/b"),
        ("/a/;/b", "/a/;/b"),
        ("/a\\..\\b", "/b"),
        ("/%41%7e%2f", "/A~/"),
        ("/a%252fb", "/a%252fb"),
        ("/%%300", "/%2500"),
        ("/%%3", "/%%3"),
        ("/%0%30", "/%2500"),
        ("/%%41", "/%A"),
        ("/%%41~", "/%A~"),
        ("/%%34z", "/%4z"),
        ('/"', "/%22"),
        ("/a?b=/../c", "/a"),
    ],
)
def test_a_path_is_judged_without_tricks(written: str, judged: str) -> None:
    """Dot segments, double and escaped slashes, needless escapes are gone; so is the query."""
    assert normalise(written).judged == judged


def test_the_query_stays_as_it_is() -> None:
    """It is passed on, and no part of what is judged."""
    assert normalise("/a//b?x=%2f//..").text == "/a/b?x=%2f//.."


@pytest.mark.parametrize("written", ["/a%2fb", "/a%5Cb", "/..%2f../a/b"])
def test_escaped_slashes_are_answered_with_a_redirect(written: str) -> None:
    """To the path that they may have meant."""
    assert normalise(written) == NormalPath(text="/a/b", redirected=True)


@pytest.mark.parametrize("written", ["", "a", "*", "/a#b", "/a%00", "/a b", "/\u00e9"])
def test_what_no_request_may_have_is_refused(written: str) -> None:
    """Envoy answers 400, and we say why."""
    assert normalise(written).refused


def test_a_dot_segment_may_appear_at_the_second_sidecar() -> None:
    """`%2e%2e;` is unescaped by one, and a dot segment for the next."""
    first = normalise("/a/%2e%2e;/b")

    assert first.text == "/a/..;/b"
    assert normalise(first.text).text == "/b"


@pytest.mark.envoy
async def test_a_real_envoy_makes_the_same_of_random_paths() -> None:
    """Thousands of paths, made of all that is special about any."""
    random = Random(20)
    paths = ["/" + "".join(random.choices(PARTS, k=random.randint(1, 10))) for _ in range(ASKED)]
    differ = []
    async with asyncio.timeout(60), envoy(BOOTSTRAP) as proxy:
        found = json.loads(await proxy.admin_get("/listeners?format=json"))
        address = found["listener_statuses"][0]["local_address"]["socket_address"]
        for path in paths:
            async with connection(address["port_value"]) as (reader, writer):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                said = await answer(reader)
                if said != expected(path):
                    differ.append((path, said, expected(path)))
    assert differ == []


def expected(path: str) -> tuple[str, str]:
    """Status, and the path that is passed on or redirected to."""
    found = normalise(path)
    if found.refused:
        return "400", ""
    return ("307" if found.redirected else "200"), found.text


async def answer(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Status, and the path that Envoy tells."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
    return head[0].split()[1], headers.get("location") or headers.get("x-path", "")


@asynccontextmanager
async def connection(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """To the listener."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
