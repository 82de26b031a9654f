"""What API servers, and what stands before them, do rarely: the last good objects outlive it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from smi_xds.objects.store import Event, Origin
from smi_xds.problems import ProblemCode
from smi_xds.sources import kube_connection, kube_watch
from smi_xds.sources.kube_availability import Availability
from smi_xds.sources.kube_connection import Connection
from tests.sources.fake_api import (
    ACCOUNTS,
    CUT,
    END,
    SPLITS,
    VERSIONS_OF_SPLITS,
    FakeApi,
    quicken,
    watching,
)
from tests.support.relay import listening
from tests.support.wait import eventually_async

BACKENDS = [{"service": "v1", "weight": 1}]
AWAY = [ProblemCode.SOURCE_UNAVAILABLE]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait but a moment where people are waited for."""
    quicken(monkeypatch)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """Give a fake API server that runs, with one service account in it."""
    fake = FakeApi()
    fake.put(ACCOUNTS, "a")
    async with fake.running():
        yield fake


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the pauses that are made from now on, which are as short as can be."""
    monkeypatch.setattr(kube_watch, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(kube_watch, "LONGEST_PAUSE", 5.0)
    made: list[float] = []

    async def pause(_self: object, seconds: float) -> None:
        made.append(seconds)
        await asyncio.sleep(0.001)

    monkeypatch.setattr(Availability, "pause", pause)
    return made


async def test_parts_that_always_expire(api: FakeApi, tmp_path: Path) -> None:
    """A list whose parts the API server forgets too soon is asked for as a whole, once."""
    api.page, api.keeps_tokens = 1, False
    api.put(ACCOUNTS, "b")
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(sink.is_synced)

    assert sink.accounts == {"a", "b"}
    assert sink.codes == []
    asked = [("limit" in it, "continue" in it) for it in api.asked(ACCOUNTS, watch=False)]
    assert asked == [(True, False), (True, True), (False, False)]


@pytest.mark.parametrize(
    "status",
    [
        {"code": 500, "reason": "InternalError", "message": "etcdserver: no leader"},
        {"reason": "Expired", "message": "too old resource version"},
        {},
    ],
)
async def test_an_error_in_a_watch(api: FakeApi, tmp_path: Path, status: dict[str, object]) -> None:
    """All is listed again; if the API server can do that, it is nothing to tell people."""
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        del api.objects[ACCOUNTS]["a"]  # told to nobody
        api.send(ACCOUNTS, {"type": "ERROR", "object": {"kind": "Status", **status}})
        await eventually_async(lambda: sink.accounts == set())
        await api.watched(ACCOUNTS)

    assert sink.codes == []
    assert len(api.asked(ACCOUNTS, watch=False)) == 2


@pytest.mark.parametrize("status", [400, 410])
async def test_lists_that_do_not_help(
    api: FakeApi, tmp_path: Path, pauses: list[float], status: int
) -> None:
    """Where every list is followed by a watch that fails, lists become rare: they cost most."""
    api.refusals[f"{ACCOUNTS}?watch"] = status
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(lambda: len(api.asked(ACCOUNTS, watch=False)) > 7)

    assert sink.accounts == {"a"}
    assert pauses[:7] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def has_watched(api: FakeApi, times: int) -> bool:
    return len(api.asked(ACCOUNTS, watch=True)) == times


async def test_watches_that_are_cut_at_once(
    api: FakeApi, tmp_path: Path, pauses: list[float]
) -> None:
    """Each may have been of use, so the next is never far away, and needs no list."""
    async with watching(api.config(tmp_path)):
        for count in range(1, 8):
            await eventually_async(partial(has_watched, api, count))
            await api.watched(ACCOUNTS)
            api.send(ACCOUNTS, CUT)
        await eventually_async(lambda: len(pauses) == 7)

    assert pauses == [0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert len(api.asked(ACCOUNTS, watch=False)) == 1


async def test_a_backup_that_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long outage all is listed; a history that is shorter is believed at a second look."""
    monkeypatch.setattr(kube_watch, "OUTAGE", 0.1)
    api = FakeApi(version=1000)
    api.put(ACCOUNTS, "new")
    async with api.running():
        config = api.config(tmp_path)
    async with watching(config) as sink:
        async with api.running():
            await eventually_async(sink.is_synced)
            await api.watched(ACCOUNTS)
        await eventually_async(lambda: sink.codes == AWAY)
        await asyncio.sleep(0.15)  # longer than what counts as long here

        api.objects.clear()
        api.requests.clear()
        api.history.clear()
        api.version = 10
        api.put(ACCOUNTS, "old")
        async with api.running():
            await eventually_async(lambda: sink.accounts == {"old"})
            await api.watched(ACCOUNTS)
            api.put(ACCOUNTS, "older")
            await eventually_async(lambda: sink.accounts == {"old", "older"})
            assert len(api.asked(ACCOUNTS, watch=False)) == 2
            assert {it["resourceVersion"] for it in api.asked(ACCOUNTS, watch=True)} == {"11"}
            # Other kinds may still be asked for.
            await eventually_async(lambda: sink.codes == [])


async def test_an_api_server_that_is_behind(api: FakeApi, tmp_path: Path) -> None:
    """Of several behind one address one may give an old list: it is looked at again, not used."""
    api.version = 100
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        old, api.objects[ACCOUNTS] = api.objects[ACCOUNTS], {}
        api.put(ACCOUNTS, "b")
        await eventually_async(lambda: sink.accounts == {"a", "b"})

        metadata = {"resourceVersion": "50", "continue": ""}
        body = json.dumps({"metadata": metadata, "items": list(old.values())}).encode()
        api.once[ACCOUNTS] = (200, "application/json", body)
        seen = len(sink.pictures)
        gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}
        api.send(ACCOUNTS, gone)
        await eventually_async(lambda: sink.accounts == {"b"})

    assert not api.once
    assert all("b" in picture for picture in sink.pictures[seen:])
    assert sink.codes == []


async def test_versions_never_go_back_in_a_watch(api: FakeApi, tmp_path: Path) -> None:
    """What is deleted may come in the version that it had: the watch goes on from the last one."""
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        api.version = 70
        api.put(ACCOUNTS, "b")
        await eventually_async(lambda: sink.accounts == {"a", "b"})
        api.send(ACCOUNTS, {"type": "DELETED", "object": api.objects[ACCOUNTS]["a"]})
        await eventually_async(lambda: sink.accounts == {"b"})
        api.send(ACCOUNTS, CUT)
        await eventually_async(lambda: len(api.asked(ACCOUNTS, watch=True)) == 2)

    assert api.asked(ACCOUNTS, watch=True)[1]["resourceVersion"] == "71"


STATUS = b'{"kind": "Status", "metadata": {"resourceVersion": "9"}, "status": "Failure"}'
LOGIN = b"<html>\n<h1>Please log in</h1>"
FOREVER = b'{"metadata": {"resourceVersion": "9", "continue": "t"}, "items": []}'


@pytest.mark.parametrize(
    "answer, said",
    [
        ((200, "text/html", LOGIN), "200 a page for people, no API server"),
        ((200, "application/json", LOGIN), "a list that cannot be read"),
        ((200, "application/json", STATUS), "a list that cannot be read"),
        ((200, "application/json", b'{"metadata": {}, "items": []}'), "without a resourceVersion"),
        ((200, "application/json", FOREVER), "a list that goes on for ever"),
        ((200, "application/json", b"\xff\x00" * 1000), "a list that cannot be read"),
        ((302, "text/html", LOGIN), "302 Found"),
        ((404, "text/html", LOGIN), "404 Not Found"),
        ((500, "text/html", LOGIN), "500 Internal Server Error"),
        ((502, "text/html", LOGIN * 10000), "502 Bad Gateway"),
        ((503, "application/json", STATUS), "503 Service Unavailable"),
    ],
)
async def test_answers_of_others(
    api: FakeApi, tmp_path: Path, answer: tuple[int, str, bytes], said: str
) -> None:
    """What a proxy on the way answers is one problem, takes nothing away, and is got over."""
    for path in VERSIONS_OF_SPLITS:
        api.put(path, "s", spec={"service": "web", "backends": BACKENDS})
    async with watching(api.config(tmp_path)) as sink:
        for path in (ACCOUNTS, SPLITS):
            await api.watched(path)
        api.answers["*"] = answer
        for path in (ACCOUNTS, SPLITS):
            api.send(path, {"type": "ERROR", "object": {"kind": "Status", "code": 410}})
        await eventually_async(lambda: sink.codes == AWAY)
        (problem,) = sink.objects.problems
        assert said in problem.message
        lists = len(api.asked(SPLITS, watch=False))
        await eventually_async(lambda: len(api.asked(SPLITS, watch=False)) > lists + 2)
        assert sink.accounts == {"a"}
        assert sink.objects.splits
        assert not api.asked("/elsewhere", watch=False)  # which would be told our token

        api.answers.clear()
        await eventually_async(lambda: sink.codes == [])
        assert sink.accounts == {"a"}
        assert sink.objects.splits


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"\x00\xff" * 5000,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 999 \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc",
    ],
)
async def test_something_else_at_the_port(tmp_path: Path, noise: bytes) -> None:
    """Whatever bytes come, it is an outage, and everything goes on when the API server is back."""

    async def make_noise(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(noise)
        await asyncio.sleep(0.01)
        writer.transport.abort()

    server = await asyncio.start_server(make_noise, "127.0.0.1", 0)
    api = FakeApi(port=server.sockets[0].getsockname()[1])
    api.put(ACCOUNTS, "a")
    async with watching(api.config(tmp_path)) as sink:
        async with server:
            await eventually_async(lambda: sink.codes == AWAY)
            assert not sink.is_synced()
        async with api.running():
            await eventually_async(lambda: sink.is_synced() and sink.codes == [])

    assert sink.accounts == {"a"}


async def test_a_frozen_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes every request and answers none is away, though nothing breaks off."""
    monkeypatch.setattr(kube_connection, "HEADERS", 0.1)

    async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.transport.abort()

    api = FakeApi()
    api.put(ACCOUNTS, "a")
    async with listening(freeze) as server:
        api.port = server.sockets[0].getsockname()[1]
        async with watching(api.config(tmp_path)) as sink:
            await eventually_async(lambda: sink.codes == AWAY)
            server.close()
            async with api.running():
                await eventually_async(lambda: sink.is_synced() and sink.codes == [])
    assert sink.accounts == {"a"}


async def test_not_found_at_the_start(api: FakeApi, tmp_path: Path) -> None:
    """A server that starts while something else says "not found" for it does not begin empty."""
    for path in VERSIONS_OF_SPLITS:
        api.put(path, "s", spec={"service": "web", "backends": BACKENDS})
    for path in (*VERSIONS_OF_SPLITS, "/apis"):
        api.answers[path] = (404, "text/plain", b"404 page not found")
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(lambda: len(api.asked("/apis", watch=False)) > 2)
        await eventually_async(lambda: sink.codes == AWAY)
        assert not sink.is_synced()

        api.answers.clear()
        await eventually_async(sink.is_synced)
    assert sink.objects.splits
    assert sink.codes == []


async def test_a_crd_that_is_made_again(api: FakeApi, tmp_path: Path) -> None:
    """Removed with its objects, and made again with others: each is followed, none by a restart."""
    api.put(SPLITS, "s", spec={"service": "web", "backends": BACKENDS})
    async with watching(api.config(tmp_path)) as sink:
        for number in range(3):
            await api.watched(SPLITS)
            await eventually_async(lambda: sink.objects.splits and sink.codes == [])
            api.remove(SPLITS, "s")
            api.refusals |= dict.fromkeys(VERSIONS_OF_SPLITS, 404)
            api.refusals |= {f"{SPLITS}?watch": 404}
            api.send(SPLITS, END)
            await eventually_async(lambda: sink.codes == [ProblemCode.MISSING_CRD])
            assert sink.objects.splits == {}

            api.put(SPLITS, "s", spec={"service": f"web-{number}", "backends": BACKENDS})
            # Older versions stay away: who is just asking for them would stay with them.
            del api.refusals[f"{SPLITS}?watch"], api.refusals[SPLITS]
        await eventually_async(lambda: sink.objects.splits)
        assert {ref.name for ref in sink.objects.splits} == {"web-2"}
        assert sink.codes == []


async def test_a_crd_that_is_replaced(api: FakeApi, tmp_path: Path) -> None:
    """Where an older version was all there was, a newer one is looked for when a watch ends."""
    newer, older, oldest = VERSIONS_OF_SPLITS[1:]
    api.refusals |= dict.fromkeys((SPLITS, newer, oldest), 404)
    api.put(older, "s", spec={"service": "web", "backends": BACKENDS})
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(older)
        # The CRD that takes its place has them all.
        api.put(SPLITS, "s", spec={"service": "web", "backends": BACKENDS})
        api.refusals.clear()
        api.send(older, END)
        await api.watched(SPLITS)
        assert {it.version for (it,) in sink.objects.splits.values()} == {"v1alpha4"}
    assert sink.codes == []


async def test_huge_objects_in_tiny_pieces(api: FakeApi, tmp_path: Path) -> None:
    """A line of a megabyte, most of which is managedFields, comes in whatever pieces it likes."""
    fields = [{"manager": "m", "fieldsV1": {f"f:{i}": {} for i in range(100)}}] * 1000
    metadata = {"name": "b", "namespace": "shop", "resourceVersion": "9", "managedFields": fields}
    line = json.dumps({"type": "ADDED", "object": {"metadata": metadata}}).encode() + b"\n"
    assert len(line) > 1_000_000
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        for start in range(0, len(line), 5000):
            api.send(ACCOUNTS, line[start : start + 5000])
        await eventually_async(lambda: sink.accounts == {"a", "b"})


async def test_a_kubeconfig_that_turns_to_another_cluster(api: FakeApi, tmp_path: Path) -> None:
    """`kubectl config use-context` is for kubectl: we read again the context of the start."""
    other = FakeApi()
    other.put(ACCOUNTS, "stranger")
    async with other.running():
        api.tokens = {"old"}
        async with watching(api.config(tmp_path, token="old")) as sink:
            await api.watched(ACCOUNTS)
            file = tmp_path / "kubeconfig"
            config = json.loads(file.read_text())
            config["users"][0]["user"] = {"token": "new"}
            config["clusters"].append(
                {"name": "other", "cluster": {"server": f"http://127.0.0.1:{other.port}"}}
            )
            config["contexts"].append({"name": "y", "context": {"cluster": "other", "user": "u"}})
            config["current-context"] = "y"
            file.write_text(json.dumps(config))
            api.tokens = {"new"}
            api.send(ACCOUNTS, END)
            api.put(ACCOUNTS, "b")
            await eventually_async(lambda: sink.accounts == {"a", "b"})

    assert other.requests == []


async def test_a_plug_in_that_never_ends(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that are not found in time are looked for again."""
    monkeypatch.setattr(kube_connection, "RENEWAL", 0.3)
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "old"},
    }
    plug_in = tmp_path / "plug-in"
    plug_in.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    plug_in.chmod(0o700)
    config = api.config(tmp_path)
    file = tmp_path / "kubeconfig"
    content = json.loads(file.read_text())
    content["users"][0]["user"] = {
        "exec": {
            "apiVersion": answer["apiVersion"],
            "command": str(plug_in),
            "interactiveMode": "Never",
        }
    }
    file.write_text(json.dumps(content))
    api.tokens = {"old"}
    async with watching(config) as sink:
        await api.watched(ACCOUNTS)
        answer["status"] = {"token": "new"}
        once = f"test -e {tmp_path}/asked || {{ touch {tmp_path}/asked; exec sleep 1; }}"
        plug_in.write_text(f"#!/bin/sh\n{once}\necho '{json.dumps(answer)}'\n")
        api.tokens = {"new"}
        api.send(ACCOUNTS, END)
        await eventually_async(lambda: sink.codes == AWAY)
        await eventually_async(lambda: sink.codes == [])
        assert (tmp_path / "asked").exists()
        await asyncio.sleep(1)  # until the plug-in has ended, which the loop has to see


async def test_a_peer_that_vanishes_is_looked_for(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are kept alive by TCP, so that a machine that lost its power is found soon."""
    options: list[tuple[int, int]] = []
    keep_alive = kube_connection._keep_alive

    def seen(response: aiohttp.ClientResponse) -> None:
        assert response.connection is not None
        assert response.connection.transport is not None
        found = response.connection.transport.get_extra_info("socket")
        keep_alive(response)
        alive = found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options.append((alive, found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)))

    monkeypatch.setattr(kube_connection, "_keep_alive", seen)
    connection = Connection(api.config(tmp_path))
    await connection.open()
    watch = {"watch": "1", "resourceVersion": "1"}
    try:
        async with connection.get(ACCOUNTS, watch, silence=5) as chunks:
            assert await anext(chunks)
    finally:
        await connection.close()
    assert options == [(1, 15)]


class Told:
    """Remembers what is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def apply(self, origin: Origin, events: Sequence[Event], /) -> None:
        del origin
        for event in events:
            problems = getattr(event, "problems", ())
            self.messages.append(problems[0].message.rpartition(": ")[2] if problems else "well")


def test_what_still_fails_is_told() -> None:
    """One problem for all, of what failed twice in a row; when the kind it names has long been
    well, what still fails takes its place.
    """
    told = Told()
    availability = Availability(server="s", sink=told)
    pods, splits = Origin("kubernetes", "pods"), Origin("kubernetes", "splits")

    availability.fail(pods, "cut while it connected", cure="")
    availability.succeed(pods)
    for origin in (pods, splits, pods, splits):
        availability.fail(origin, f"refused {origin.part}", cure="")
    availability.succeed(pods)
    assert told.messages == ["well", "refused pods"]
    for number in range(1, 7):
        availability.fail(splits, f"conversion webhook failed {number}", cure="")
    availability.succeed(splits)

    assert told.messages[2:] == ["conversion webhook failed 5", "well"]
