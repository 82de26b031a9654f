"""Doors with guards, over real sockets: who comes in, as whom, for how long, and how often."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest

from smi_xds.ads.auth import (
    Credentials,
    Known,
    PodProof,
    Proof,
    Reason,
    Refused,
    unauthenticated,
)
from smi_xds.ads.cache import Cache
from smi_xds.ads.guard import Guard, Visit
from smi_xds.ads.limits import DEFAULTS, Limits
from smi_xds.ads.pace import Pace
from smi_xds.ads.server import Door, opened
from smi_xds.ads.services import DISCOVERY_SERVICES, Service
from smi_xds.ads.status import Status
from smi_xds.values import ProxyId, ServiceAccountRef
from smi_xds.xds.resources import CLUSTER, SECRET
from tests.ads.client import names, stream
from tests.ads.play import resources
from tests.support.wait import eventually_async

BOTH = pytest.mark.parametrize("is_delta", [True, False], ids=["delta", "sotw"])
WEB = ServiceAccountRef("shop", "web")
FAR = 4e9


def proof(name: str, uid: str = "", *, expires: float = FAR) -> PodProof:
    return PodProof(
        pod=ProxyId("shop", name), uid=uid or f"uid-{name}", account=WEB, expires=expires
    )


@dataclass(eq=False)
class Pods:
    """Pods by name, with their uids."""

    uids: dict[str, str] = field(default_factory=lambda: {n: f"uid-{n}" for n in "abc"})

    @property
    def edition(self) -> object:
        return tuple(self.uids.items())

    def find(self, proxy: ProxyId, /) -> Known | None:
        uid = self.uids.get(proxy.name)
        return None if uid is None else Known(account=WEB, uid=uid)


@dataclass(eq=False)
class Guarded:
    """A server with one guarded door, at which whoever says a name is taken for it."""

    cache: Cache = field(default_factory=Cache)
    status: Status = field(default_factory=Status)
    pods: Pods = field(default_factory=Pods)
    proofs: dict[str, Proof] = field(default_factory=lambda: {n: proof(n) for n in "abc"})
    port: int = 0
    now: float = 0.0

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def refusals(self) -> dict[str, float]:
        return self.status.meters.unproven.values

    async def __call__(self, credentials: Credentials, /) -> Proof | Refused:
        [said] = credentials.metadata.get("authorization", ("",))
        known = self.proofs.get(said.removeprefix("Bearer "))
        return known or unauthenticated(Reason.INVALID_TOKEN, "who are you?")

    def publish(self, version: int = 1) -> None:
        """Each pod has a cluster of its own name and a secret of the constant one."""
        self.cache.publish(
            {
                f"shop/{name}": resources(
                    f"cluster {name} {version}", f"secret identity {name}", f"secret own-{name} 1"
                )
                for name in self.pods.uids
            }
        )


@asynccontextmanager
async def guarded(limits: Limits = DEFAULTS) -> AsyncIterator[Guarded]:
    here = Guarded()
    guard = Guard(
        *(here, here.pods),
        refusals=here.status.meters.unproven,
        limits=limits,
        clock=lambda: here.now,
    )
    door = Door(host="127.0.0.1", port=0, guard=guard, reflection=False)
    async with opened(here.cache, here.status, [door], limits=limits) as [port]:
        here.port = port
        here.publish()
        yield here


@pytest.fixture
async def here() -> AsyncIterator[Guarded]:
    async with guarded() as found:
        yield found


@BOTH
async def test_a_caller_gets_what_is_its_own(here: Guarded, is_delta: bool) -> None:
    """And is told of changes, as anybody."""
    async with stream(here.target, is_delta=is_delta, node="shop/a", token="a") as client:
        await client.ask(CLUSTER)
        first = await client.hear()
        await client.answer(first)
        here.publish(2)
        assert len((await client.hear()).resources) == 1

    assert here.refusals == {}


@BOTH
async def test_a1_who_proves_nothing_is_refused_and_counted(here: Guarded, is_delta: bool) -> None:
    """Before anything it says is read."""
    async with stream(here.target, is_delta=is_delta, node="shop/a") as client:
        assert await client.call.code() == grpc.StatusCode.UNAUTHENTICATED
    assert here.refusals == {"invalid_token": 1}
    assert here.status.meters.rejected.values == {"UNAUTHENTICATED": 1}


@BOTH
@pytest.mark.parametrize("service", DISCOVERY_SERVICES, ids=lambda it: it.noun)
async def test_a2_a_stolen_node_id_gets_nothing(
    here: Guarded, service: Service, is_delta: bool
) -> None:
    """On ADS and on the services of single types."""
    type_ = service.type or CLUSTER
    async with stream(
        here.target, is_delta=is_delta, node="shop/b", service=service, token="a"
    ) as client:
        await client.ask(type_)
        assert await client.call.code() == grpc.StatusCode.PERMISSION_DENIED

    assert here.refusals == {"foreign_node": 1}
    assert here.status.meters.pushes.values == {}


@BOTH
async def test_a_node_that_is_named_later_changes_nothing(here: Guarded, is_delta: bool) -> None:
    """E2: the first request counts; another id in a later one gets nothing of that node."""
    async with stream(here.target, is_delta=is_delta, node="shop/a", token="a") as client:
        await client.ask(CLUSTER)
        await client.answer(await client.hear())
        client.node = "shop/b"
        await client.ask(SECRET, "identity", "own-b", "own-a")
        found = await client.hear()

    text = found.SerializeToString()
    assert b"own-a" in text
    assert b"own-b" not in text if not is_delta else "own-b" in found.removed_resources


@BOTH
@pytest.mark.parametrize("wanted", [("own-b",), ("*",), ("*", "own-b"), ()])
async def test_a3_anothers_secrets_cannot_be_had(
    here: Guarded, is_delta: bool, wanted: tuple[str, ...]
) -> None:
    """By name, by wildcard, and by saying that one had them before the connection broke."""
    known = {"initial_resource_versions": {"own-b": "1"}} if is_delta else {"version_info": "1"}
    async with stream(here.target, is_delta=is_delta, node="shop/a", token="a") as client:
        await client.ask(SECRET, *wanted, **known)
        await client.ask(CLUSTER)
        heard: list[Any] = []
        while not heard or heard[-1].type_url != CLUSTER:
            heard.append(await client.hear())

    told = {each.name for each in heard[-1].resources} if is_delta else set()
    secrets = b"".join(
        resource.SerializeToString() for each in heard[:-1] for resource in each.resources
    )
    assert told <= {"a"}
    assert b"own-b" not in secrets


async def test_a4_streams_of_a_deleted_pod_end(here: Guarded) -> None:
    """Before it is told anything more; those of others go on."""
    async with (
        stream(here.target, node="shop/a", token="a") as gone,
        stream(here.target, node="shop/b", token="b") as stays,
    ):
        for client in (gone, stays):
            await client.ask(CLUSTER)
            await client.answer(await client.hear())
        del here.pods.uids["a"]
        here.publish(2)

        assert await gone.call.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "gone" in await gone.call.details()
        assert names(await stays.hear()) == ["b"]

    assert here.refusals == {"revoked": 1}


async def test_a4_a_pod_of_the_same_name_is_another(here: Guarded) -> None:
    """Its predecessor's stream ends without a word of the new one's configuration."""
    async with stream(here.target, node="shop/a", token="a") as client:
        await client.ask(CLUSTER)
        await client.answer(await client.hear())
        here.pods.uids["a"] = "uid-new"
        here.publish(2)

        with pytest.raises(grpc.aio.AioRpcError):
            await client.call.read()
        assert await client.call.code() == grpc.StatusCode.PERMISSION_DENIED
    async with stream(here.target, node="shop/a", token="a") as client:
        await client.ask(CLUSTER)
        assert await client.call.code() == grpc.StatusCode.PERMISSION_DENIED

    assert here.refusals == {"revoked": 1, "replaced_pod": 1}


async def test_a5_streams_end_with_their_proof(
    here: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stole a token has it until then; sidecars have a new one in time."""
    monkeypatch.setattr("smi_xds.ads.guard._LOOK_AGAIN", 0.02)
    async with guarded() as here:
        here.proofs["a"] = proof("a", expires=100)
        async with (
            stream(here.target, node="shop/a", token="a") as ends,
            stream(here.target, node="shop/b", token="b") as stays,
        ):
            for client in (ends, stays):
                await client.ask(CLUSTER)
                await client.answer(await client.hear())
            here.now = 100

            assert await ends.call.code() == grpc.StatusCode.UNAUTHENTICATED
            assert "expired" in await ends.call.details()
            here.publish(2)
            assert names(await stays.hear()) == ["b"]
        assert here.refusals == {"expired": 1}


async def test_a6_one_caller_has_so_many_streams_and_no_more() -> None:
    """Others have as many; and one that ended makes room."""
    async with guarded(replace(DEFAULTS, streams_per_caller=2)) as here:
        async with stream(here.target, node="shop/a", token="a") as first:
            async with stream(here.target, node="shop/a", token="a") as second:
                for client in (first, second):
                    await client.ask(CLUSTER)
                    await client.hear()
                async with stream(here.target, node="shop/a", token="a") as third:
                    code = await third.call.code()
                assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
                async with stream(here.target, node="shop/b", token="b") as other:
                    await other.ask(CLUSTER)
                    await other.hear()
            await eventually_async(lambda: len(here.status.streams) == 1)
            async with stream(here.target, node="shop/a", token="a") as fourth:
                await fourth.ask(CLUSTER)
                await fourth.hear()

        assert here.refusals == {"too_many_streams": 1}


async def test_a7_a_silent_stream_is_ended() -> None:
    """It would else be one of those that nobody counts the cost of."""
    async with guarded(replace(DEFAULTS, first_request=0.05)) as here:
        async with stream(here.target, node="shop/a", token="a") as client:
            assert await client.call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert here.refusals == {"silent": 1}


async def test_a8_who_asks_too_fast_is_read_later() -> None:
    """And loses nothing: 30 requests at 100 a second, of which 10 may come at once."""
    limits = replace(DEFAULTS, request_rate=100, request_burst=10)
    async with guarded(limits) as here:
        clock = asyncio.get_running_loop().time
        async with stream(here.target, node="shop/a", token="a") as client:
            begin = clock()
            for _ in range(30):
                await client.ask(SECRET, "own-a")
            await client.ask(CLUSTER)
            while (await client.hear()).type_url != CLUSTER:
                pass
            took = clock() - begin

    assert took >= 0.19


async def test_a8_another_stream_is_no_new_allowance() -> None:
    """Nobody begins anew by opening another stream."""
    limits = replace(DEFAULTS, request_rate=20, request_burst=2)
    async with guarded(limits) as here:
        clock = asyncio.get_running_loop().time
        begin = clock()
        for _ in range(8):
            async with stream(here.target, node="shop/a", token="a") as client:
                await client.ask(CLUSTER)
                await client.hear()
        took = clock() - begin
        assert took >= 6 / 20


async def test_a8_a_change_of_many_names_counts_as_several_requests() -> None:
    """Each copies all of them: 20,000 names count as 13 kB."""
    limits = replace(DEFAULTS, request_rate=100, request_burst=100)
    async with guarded(limits) as here:
        clock = asyncio.get_running_loop().time
        async with stream(here.target, node="shop/a", token="a") as client:
            await client.ask(SECRET, *(f"name-{number}" for number in range(20_000)))
            first = await client.hear()
            await client.answer(first)
            begin = clock()
            for number in range(30):
                await client.ask(SECRET, f"more-{number}")
            await client.ask(CLUSTER)
            while (await client.hear()).type_url != CLUSTER:
                await client.answer(first)
            took = clock() - begin

    # 4 for each of them: 120, of which 100 may come at once.
    assert took >= 0.15


@BOTH
async def test_a8_what_is_sent_again_counts(is_delta: bool) -> None:
    """A request of a few bytes may ask for a thousand resources."""
    limits = replace(DEFAULTS, request_rate=100, request_burst=100)
    async with guarded(limits) as here:
        clusters = [f"cluster c{number} 1" for number in range(1000)]
        here.cache.publish({"shop/a": resources(*clusters)})
        clock = asyncio.get_running_loop().time
        async with stream(here.target, node="shop/a", token="a", is_delta=is_delta) as client:
            await client.ask(CLUSTER, "*")
            began = clock()
            for number in range(13):
                response = await client.hear()
                assert len(response.resources) == 1000
                names_ = ("*",) if is_delta else ("*", f"x-{number}")
                await client.answer(response, *names_)
            took = clock() - began

    # 15 for each of them: 195, of which 100 may come at once.
    assert took >= 0.4


async def test_a8_a_few_resources_count_for_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An Envoy that starts asks for each listener's routes by themselves: asked and answered."""
    paces: list[Pace] = []

    def remembered(*, rate: float, burst: int) -> Pace:
        paces.append(Pace(rate=rate, burst=burst))
        return paces[-1]

    monkeypatch.setattr("smi_xds.ads.guard.Pace", remembered)
    seconds_each = 100
    limits = replace(DEFAULTS, request_rate=1 / seconds_each, request_burst=1000)
    async with guarded(limits) as here:
        names_ = [f"name-{number}" for number in range(20)]
        here.cache.publish({"shop/a": resources(*(f"secret {name} 1" for name in names_))})
        began = asyncio.get_running_loop().time()
        async with stream(here.target, node="shop/a", token="a") as client:
            for name in names_:
                await client.ask(SECRET, name)
                await client.answer(await client.hear())

    [pace] = paces
    assert (pace._free_at - began) / seconds_each < 2.5 * len(names_)


async def test_callers_that_are_gone_are_forgotten(
    here: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once what they asked for counts no more; not before, and not while they have a stream."""
    monkeypatch.setattr("smi_xds.ads.guard._LOOK_AGAIN", 0.01)
    limits = replace(DEFAULTS, request_rate=1000, request_burst=10)
    guard = Guard(
        *(here, here.pods), refusals=here.status.meters.unproven, limits=limits, clock=lambda: 0.0
    )
    with guard.ending_expired():
        with guard.visit(proof("a")) as visit:
            assert isinstance(visit, Visit)
            pace = visit.pace
            pace.wait(asyncio.get_running_loop().time(), 10)
            with guard.visit(proof("a")) as second:
                assert isinstance(second, Visit)
                assert second.pace is pace
            await eventually_async(lambda: pace.is_full(asyncio.get_running_loop().time()))
            assert guard._paces
        await eventually_async(lambda: not guard._paces)


async def test_operators_services_are_not_at_a_guarded_door(here: Guarded) -> None:
    """Reflection says UNIMPLEMENTED; health answers."""
    async with grpc.aio.insecure_channel(here.target) as channel:
        reflection: Any = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        )()
        assert await reflection.code() == grpc.StatusCode.UNIMPLEMENTED
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"
