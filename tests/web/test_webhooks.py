"""The webhook server over real sockets: TLS, limits, and certificates that change."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import aiohttp
import pytest

from smi_xds.config import Address
from smi_xds.identity.ca import Authority
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.serving import ServerTls
from smi_xds.web import server
from smi_xds.web.meters import ReviewMeters
from smi_xds.web.monitoring import Reply
from smi_xds.web.review import Form, Reviewed, Verdict
from smi_xds.web.server import serving
from smi_xds.web.webhooks import webhook_forms
from tests.support.identity import mk_authority
from tests.support.wait import eventually_async
from tests.web.reviews import admission, conversion, split

ANYWHERE = Address("127.0.0.1", 0)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return mk_authority(now=wall_clock() - timedelta(hours=1))


@asynccontextmanager
async def serve(
    authority: Authority, forms: Mapping[str, Form] | None = None
) -> AsyncIterator[tuple[str, ServerTls]]:
    tls = ServerTls(authority, ["localhost"])
    forms = forms or webhook_forms(foresee=lambda _: ())
    flags = {"what": "webhooks", "flag": "--webhook-address"}
    async with serving({}, ANYWHERE, forms=forms, tls=tls.context, **flags) as port:
        yield f"https://localhost:{port}", tls


def client(
    authority: Authority,
    change: Callable[[ssl.SSLContext], None] = lambda _: None,
    *,
    host: str = "127.0.0.1",
) -> aiohttp.ClientSession:
    """Trusts the root alone, and verifies the name."""
    context = ssl.create_default_context(cadata=authority.trust_bundle.decode())
    change(context)
    connector = aiohttp.TCPConnector(ssl=context, local_addr=(host, 0), family=socket.AF_INET)
    return aiohttp.ClientSession(connector=connector)


async def test_reviews_are_answered_over_tls(authority: Authority) -> None:
    """To whoever trusts our root and asks for the right name."""
    async with serve(authority) as (url, _), client(authority) as http:
        body = conversion([split(1)], "split.smi-spec.io/v1alpha2")
        async with http.post(f"{url}/convert", data=body) as answer:
            review = await answer.json()
            assert review["response"]["result"] == {"status": "Success"}
            assert answer.headers["Content-Type"] == "application/json"
        async with http.post(f"{url}/validate", data=admission(split(1, mirror=1))) as answer:
            assert (await answer.json())["response"]["allowed"] is False
        async with http.post(f"{url}/validate", data=b"{") as answer:
            assert (answer.status, (await answer.text())[:20]) == (400, "the body is no JSON:")
        async with http.get(f"{url}/convert") as answer:
            assert answer.status == 405
        async with http.post(f"{url}/other", data=b"") as answer:
            assert answer.status == 404


async def test_who_trusts_another_root_is_told_nothing(authority: Authority) -> None:
    """The handshake fails; the server goes on."""
    other = mk_authority(now=wall_clock())
    async with serve(authority) as (url, _):
        async with client(other) as http:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await http.post(f"{url}/validate", data=admission(split(1)))
        async with standing(url, authority) as connection:
            assert await connection.post() == b"HTTP/1.1 200 OK"


async def test_old_protocols_are_refused(authority: Authority) -> None:
    """TLS 1.2 is accepted, and nothing before it."""

    def just_1_2(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    def just_1_1(context: ssl.SSLContext) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1

    async with serve(authority) as (url, _):
        async with (
            client(authority, just_1_2) as http,
            http.post(f"{url}/validate", data=admission(split(1))) as answer,
        ):
            assert answer.status == 200
        async with client(authority, just_1_1) as http:
            with pytest.raises(aiohttp.ClientConnectorError):
                await http.post(f"{url}/validate", data=admission(split(1)))


def mk_answer(body: bytes) -> Reviewed:
    return Reviewed(Reply(200, body), Verdict.ALLOWED, {"TrafficSplit": 1})


class Standing:
    """One connection, that is used again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def serial(self) -> str:
        """Of the certificate that the server presented."""
        serial: str = self._writer.get_extra_info("peercert")["serialNumber"]
        return serial

    async def post(self) -> bytes:
        """A review; the first line of the answer."""
        body = admission(split(1))
        head = f"POST /validate HTTP/1.1\r\nHost: it\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answered = await self._reader.readuntil(b"\r\n\r\n")
        [length] = [it for it in answered.split(b"\r\n") if it.startswith(b"Content-Length: ")]
        await self._reader.readexactly(int(length.partition(b": ")[2]))
        return answered.partition(b"\r\n")[0]


@asynccontextmanager
async def standing(url: str, authority: Authority) -> AsyncIterator[Standing]:
    context = ssl.create_default_context(cadata=authority.trust_bundle.decode())
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        yield Standing(reader, writer)
    finally:
        writer.transport.abort()


async def test_a_new_certificate_ends_no_connection(authority: Authority) -> None:
    """Who is connected stays so; who connects anew sees the new one."""
    async with serve(authority) as (url, tls), standing(url, authority) as old:
        assert await old.post() == b"HTTP/1.1 200 OK"
        tls.certificate = tls._issue(wall_clock())

        async with standing(url, authority) as new:
            assert await new.post() == b"HTTP/1.1 200 OK"
            assert await old.post() == b"HTTP/1.1 200 OK"
            assert new.serial != old.serial


async def test_bodies_have_a_limit(authority: Authority) -> None:
    """Whether the length is told beforehand or not; up to it, all is taken."""

    async def in_chunks(size: int) -> AsyncIterator[bytes]:
        yield b"x" * (size // 2)
        yield b"x" * (size - size // 2)

    forms = {"/it": Form(answer=lambda body: mk_answer(str(len(body)).encode()), limit=200_000)}
    async with serve(authority, forms) as (url, _), client(authority) as http:
        for data in (b"x" * 200_000, in_chunks(200_000)):
            async with http.post(f"{url}/it", data=data) as answer:
                assert (answer.status, await answer.text()) == (200, "200000")
        for data in (b"x" * 200_001, in_chunks(200_001)):
            async with http.post(f"{url}/it", data=data) as answer:
                assert answer.status == 413
                assert await answer.text() == "the body is larger than 200000 bytes\n"


def test_an_update_of_the_largest_object_is_taken() -> None:
    """An API server takes 3 MiB, and sends the former object along."""
    forms = webhook_forms(foresee=lambda _: ())

    assert all(form.limit >= 2 * 3 * 1024 * 1024 for form in forms.values())


@pytest.mark.parametrize("limit", ["_POST_SECONDS", "_BODY_SECONDS"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """One clear line, and the connection is over; the body has but a part of the time."""
    monkeypatch.setattr(server, limit, 0.2)
    async with serve(authority) as (url, _):
        context = ssl.create_default_context(cadata=authority.trust_bundle.decode())
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"POST /convert HTTP/1.1\r\nHost: it\r\nContent-Length: 10\r\n\r\n{")
        async with asyncio.timeout(20):
            answered = await reader.read()
        writer.close()

    assert answered.startswith(b"HTTP/1.1 408 ")
    assert answered.endswith(b"not done within 0.2 s\n")


async def test_a_large_review_holds_nobody_up(authority: Authority) -> None:
    """It is worked on in a thread, while the loop serves sidecars."""
    began, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_: bytes) -> Reviewed:
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(20)
        return mk_answer(b"done")

    async with (
        serve(authority, {"/it": Form(answer=slow, limit=1)}) as (url, _),
        client(authority) as http,
        asyncio.TaskGroup() as tasks,
    ):
        asked = tasks.create_task(http.post(f"{url}/it", data=b""))
        async with asyncio.timeout(20):
            await began.wait()
        go.set()
        answer = await asked
        assert await answer.text() == "done"


class Work:
    """Answers that take their time; how many are worked on at a time."""

    def __init__(self, seconds: float = 0.1) -> None:
        self.most = self._now = 0
        self._seconds = seconds
        self._lock, self._never = threading.Lock(), threading.Event()

    def __call__(self, body: bytes) -> Reviewed:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._never.wait(self._seconds)
        with self._lock:
            self._now -= 1
        return mk_answer(body[:1])


async def posted(url: str, clients: Iterable[aiohttp.ClientSession], size: int) -> set[int]:
    """At once; the status of the answers."""
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_posted(it, f"{url}/it", b"x" * size)) for it in clients]
    return {it.result() for it in asked}


async def _posted(http: aiohttp.ClientSession, url: str, data: bytes) -> int:
    async with http.post(url, data=data) as answer:
        return answer.status


@pytest.mark.parametrize("size, most", [(1, 3), ((256 << 10) + 1, 1)])
async def test_few_are_worked_on_at_a_time(authority: Authority, size: int, most: int) -> None:
    """In Python, a review takes many times its size; whoever posts, and from how many hosts."""
    work = Work()
    async with (
        serve(authority, {"/it": Form(answer=work, limit=1 << 20)}) as (url, _),
        AsyncExitStack() as clients,
    ):
        hosts = [f"127.0.0.{n}" for n in range(1, 7)]
        asked = [await clients.enter_async_context(client(authority, host=it)) for it in hosts]
        assert await posted(url, asked * 2, size) == {200}

    assert 0 < work.most <= most


async def test_those_of_one_host_wait_for_each_other(authority: Authority) -> None:
    """A host that posts without end keeps one thread of several busy."""
    work = Work()
    async with (
        serve(authority, {"/it": Form(answer=work, limit=1)}) as (url, _),
        client(authority) as http,
    ):
        assert await posted(url, [http] * 5, 1) == {200}

    assert work.most == 1


async def test_one_that_stalls_holds_up_nobody(authority: Authority) -> None:
    """An API server may share its address with whoever sends half of a review."""
    forms = {"/it": Form(answer=mk_answer, limit=2)}
    async with serve(authority, forms) as (url, _), client(authority) as http:
        context = ssl.create_default_context(cadata=authority.trust_bundle.decode())
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"POST /it HTTP/1.1\r\nHost: it\r\nContent-Length: 2\r\n\r\nx")
        await writer.drain()

        # In less than that one is given; the limit is the client's.
        async with asyncio.timeout(20):
            assert await posted(url, [http] * 5, 1) == {200}
        writer.transport.abort()


async def test_what_takes_too_long_is_ended_before_the_next_begins(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be stopped: with a second one beside it, memory would be used twice."""
    monkeypatch.setattr(server, "_POST_SECONDS", 0.5)
    work = Work(seconds=1.0)
    async with (
        serve(authority, {"/it": Form(answer=work, limit=1 << 20)}) as (url, _),
        client(authority) as http,
        client(authority, host="127.0.0.2") as another,
    ):
        assert await posted(url, [http, another], 1 << 19) == {408}

    assert work.most <= 1


async def test_an_answer_that_is_not_read_is_not_kept(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends, and it is the next one's turn."""
    monkeypatch.setattr(server, "_TAKE_SECONDS", 0.2)
    answer = mk_answer(b"x" * (64 << 20))
    forms = {"/it": Form(answer=lambda _: answer, limit=1)}
    async with serve(authority, forms) as (url, _), client(authority) as http:
        context = ssl.create_default_context(cadata=authority.trust_bundle.decode())
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"POST /it HTTP/1.1\r\nHost: it\r\nContent-Length: 1\r\n\r\nx")
        await reader.readuntil(b"\r\n\r\n")

        # Of the same host: it waits for that one.
        async with http.post(f"{url}/it", data=b"x") as second:
            assert second.status == 200
        writer.transport.abort()


async def test_a_bug_of_ours_ends_nothing(authority: Authority) -> None:
    """500 for this one, and the next is answered."""
    bodies: list[bytes] = []

    def broken(body: bytes) -> Reviewed:
        bodies.append(body)
        if len(bodies) == 1:
            raise ZeroDivisionError
        return mk_answer(body)

    async with (
        serve(authority, {"/it": Form(answer=broken, limit=9)}) as (url, _),
        client(authority) as http,
    ):
        async with http.post(f"{url}/it", data=b"1") as answer:
            assert answer.status == 500
        async with http.post(f"{url}/it", data=b"2") as answer:
            assert await answer.text() == "2"


async def test_reviews_are_counted(authority: Authority) -> None:
    """By what became of them and by kind, with the time they took; no kind is of the asker."""
    meters = ReviewMeters()
    forms = webhook_forms(foresee=lambda _: (), meters=meters)
    async with serve(authority, forms) as (url, _), client(authority) as http:
        bodies = [
            admission(split(1)),
            admission(split(1, mirror=1)),
            b"{",
            admission({"kind": "x"}),
        ]
        for body in bodies:
            async with http.post(f"{url}/validate", data=body):
                pass
        body = conversion([split(1)] * 3, "split.smi-spec.io/v1alpha2")
        async with http.post(f"{url}/convert", data=body):
            pass

    assert meters.validation.verdicts.values == {"allowed": 1, "refused": 2, "unreadable": 1}
    assert meters.validation.objects.values == {"TrafficSplit": 2, "other": 1}
    assert sum(meters.validation.seconds.tallies[""].counts) == len(bodies)
    assert meters.conversion.verdicts.values == {"converted": 1}
    assert meters.conversion.objects.values == {"TrafficSplit": 3}


@pytest.mark.parametrize("size, verdict", [(9, Verdict.UNANSWERED), (10, Verdict.TOO_LARGE)])
async def test_what_was_not_answered_is_counted(
    authority: Authority, size: int, verdict: Verdict
) -> None:
    """A bug of ours, or a body that nobody read."""
    counted: list[tuple[str, Mapping[str, int]]] = []

    def broken(_: bytes) -> Reviewed:
        raise ZeroDivisionError

    def count(verdict: str, kinds: Mapping[str, int], seconds: float) -> None:
        assert seconds >= 0
        counted.append((verdict, kinds))

    forms = {"/it": Form(answer=broken, limit=9, count=count)}
    async with (
        serve(authority, forms) as (url, _),
        client(authority) as http,
        http.post(f"{url}/it", data=b"x" * size),
    ):
        pass

    assert counted == [(verdict, {})]


async def test_the_server_ends_though_a_body_does_not_come(authority: Authority) -> None:
    """Soon: who still has sidecars to send away has 30 s in all."""
    loop = asyncio.get_running_loop()
    async with serve(authority) as (url, _):
        context = ssl.create_default_context(cadata=authority.trust_bundle.decode())
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"POST /convert HTTP/1.1\r\nHost: it\r\nContent-Length: 10\r\n\r\n{")
        await writer.drain()
        async with client(authority) as http:  # when that is answered, the other one was seen
            await posted(f"{url}/validate?", [http], 1)
        began = loop.time()
    seconds = loop.time() - began
    writer.transport.abort()

    assert seconds < 15.0


def test_connections_outlive_those_of_go() -> None:
    """A POST on a connection that both ends close at one moment would be lost."""
    assert server._IDLE_SECONDS > 90


async def test_clients_that_hang_up_are_forgotten(authority: Authority) -> None:
    """In the middle of a body; the next is answered."""
    async with serve(authority) as (url, _), client(authority) as http:
        context = ssl.create_default_context(cadata=authority.trust_bundle.decode())
        port = int(url.rpartition(":")[2])
        for _ in range(3):
            _, writer = await asyncio.open_connection("localhost", port, ssl=context)
            writer.write(b"POST /convert HTTP/1.1\r\nHost: it\r\nContent-Length: 10\r\n\r\n{")
            await writer.drain()
            writer.transport.abort()

        async def answered() -> bool:
            async with http.post(f"{url}/validate", data=admission(split(1))) as answer:
                return answer.status == 200

        assert await eventually_async(answered)
