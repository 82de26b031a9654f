"""Rounds: what is published when, and what survives a failure."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest
import structlog

from smi_xds.app.pipeline import Intake, Pipeline
from smi_xds.app.pulse import Pulse
from smi_xds.identity.ca import Authority, Leaf, create_key, create_root
from smi_xds.identity.embedded import EmbeddedIssuer
from smi_xds.identity.issuer import Standing
from smi_xds.mesh.model import MeshSettings
from smi_xds.objects.kube import Namespace, Pod
from smi_xds.objects.store import Applied, Deleted, Failed, Origin, Store, Synced
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ServiceAccountRef, SpiffeId
from smi_xds.xds.resources import CLUSTER, SECRET, ResourceSet
from tests.support import objects as shop
from tests.support.wait import eventually_async

START = datetime(2026, 1, 1, tzinfo=UTC)
FILES = Origin("files")

Sets = Mapping[str, ResourceSet]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Bench:
    """A pipeline with its neighbours, and all that it has published."""

    def __init__(self) -> None:
        self.published: list[Sets] = []
        self.clock = Clock()
        key = create_key()
        root = create_root(key, trust_domain="cluster.local", now=START)
        authority = Authority(trust_domain="cluster.local", certificate=root, key=key)
        self.issuer = EmbeddedIssuer(authority, clock=self.clock)
        self.store = Store(["files"])
        self.pulse = Pulse()
        self.intake = Intake(self.store, self.pulse)
        self.pipeline = Pipeline(
            self.store,
            settings=MeshSettings(),
            issuer=self.issuer,
            publish=self.publish,
        )

    def publish(self, snapshot: Sets, /, *, since: float) -> None:
        """Take note."""
        self.published.append(snapshot)
        self.since = since


@pytest.fixture
def bench() -> Bench:
    return Bench()


def mk_pod(name: str = "web", *, account: str = "web") -> Pod:
    return Pod(
        namespace="shop",
        name=name,
        service_account=account,
        ips=("127.0.0.11",),
        annotations=(("smi-xds.io/sidecar", "bound"),),
        ready=True,
    )


def lose_its_service(bench: Bench) -> None:
    """A pod with a port that a Service names has had its round, and the Service is deleted."""
    service = shop.mk_service("web", shop.mk_port(80, target=8080))
    objects = shop.with_slices([shop.mk_pod("web", "10.0.0.1"), service])
    bench.intake.apply(FILES, [*map(Applied, objects), Synced()])
    bench.pipeline.step(0)
    bench.intake.apply(FILES, [Deleted(service.ref)])


def identity_of(sets: Sets, proxy: str = "shop/web") -> bytes:
    secret = sets[proxy].get(SECRET, "identity")
    assert secret is not None
    return secret.body


def mk_problem(name: str) -> Problem:
    return Problem(
        ref=ObjectRef("TrafficSplit", "shop", name),
        field="spec",
        code=ProblemCode.INVALID_OBJECT,
        message="It is wrong.",
        cure="Mend it.",
    )


def test_events_that_change_nothing_ask_for_no_round(bench: Bench) -> None:
    """An equal object is no event; the first is one, and so is the end of the first listing."""
    due = []
    for event in (Applied(Namespace(name="shop")), Applied(Namespace(name="shop")), Synced()):
        bench.pulse = Pulse()
        Intake(bench.store, bench.pulse).apply(FILES, [event])
        due.append(bench.pulse.is_due)

    assert due == [True, False, True]


def test_every_event_of_a_call_is_taken(bench: Bench) -> None:
    """Events are not dropped once one of them has changed something."""
    bench.intake.apply(
        FILES, [Applied(Namespace(name="a")), Applied(Namespace(name="b")), Synced()]
    )

    assert set(bench.store.objects().namespaces) == {"a", "b"}
    assert bench.store.synced


def test_a_round_publishes_what_each_proxy_gets(bench: Bench) -> None:
    """Every workload's set is published with its certificate, and the round is told."""
    bench.intake.apply(FILES, [Applied(mk_pod()), Synced()])
    bench.pipeline.step(1.5)

    [sets] = bench.published
    assert list(sets) == ["shop/web"]
    assert b"BEGIN CERTIFICATE" in identity_of(sets)
    latest = bench.pipeline.rounds.value
    assert latest is not None
    assert (latest.began, [str(proxy) for proxy in latest.mesh.workloads]) == (1.5, ["shop/web"])


def test_a_round_without_news_publishes_the_same_objects(bench: Bench) -> None:
    """Nothing is signed, translated or encoded again."""
    bench.intake.apply(FILES, [Applied(mk_pod()), Synced()])
    bench.pipeline.step(0)
    bench.pipeline.step(0)

    assert bench.published[0]["shop/web"] is bench.published[1]["shop/web"]


async def test_a_port_that_no_service_names_is_closed_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that have yet to hear of it find it open; then a round closes it, unasked."""
    monkeypatch.setattr("smi_xds.mesh.former.KEPT", 0.05)
    lose_its_service(bench)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.pipeline.run(bench.pulse))
        await eventually_async(lambda: len(bench.published) == 3)
        running.cancel()

    opened = [sets["shop/web"].get(CLUSTER, "inbound|8080") for sets in bench.published]
    assert [it is not None for it in opened] == [True, True, False]


async def test_a_round_that_fails_to_close_a_port_is_not_repeated_without_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time stays over: there is a pause before the next round, which builds from scratch."""
    monkeypatch.setattr("smi_xds.mesh.former.KEPT", 0.0)
    lose_its_service(bench)
    bench.pipeline.step(0)
    monkeypatch.setattr(bench.pipeline, "_build_mesh", lambda objects, **_: 1 / 0)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(bench.pipeline.run(bench.pulse))
        await eventually_async(lambda: bench.pipeline.failures == 1)
        closing = bench.pipeline._closing
        assert closing is not None
        assert closing.when() - asyncio.get_running_loop().time() > 0.5
        running.cancel()


async def test_a_renewed_leaf_is_published(bench: Bench) -> None:
    """After two thirds of its life, a round brings a new certificate."""
    bench.intake.apply(FILES, [Applied(mk_pod()), Synced()])
    bench.pipeline.step(0)
    bench.clock.now += timedelta(hours=17)
    async with asyncio.TaskGroup() as tasks:
        renewing = tasks.create_task(bench.issuer.run(bench.pulse.ring))
        await eventually_async(lambda: not bench.issuer.due())
        renewing.cancel()
    bench.pipeline.step(0)

    before, after = bench.published
    assert identity_of(before) != identity_of(after)


def test_identities_that_are_gone_are_forgotten(bench: Bench) -> None:
    """The keys of a workload that is no more are not kept."""
    bench.intake.apply(FILES, [Applied(mk_pod()), Synced()])
    bench.pipeline.step(0)
    bench.intake.apply(FILES, [Deleted(mk_pod().ref)])
    bench.pipeline.step(0)

    assert bench.published[-1] == {}
    assert bench.issuer._leaves == {}


def test_an_identity_that_cannot_be_signed_stands_alone(bench: Bench) -> None:
    """It gets no certificate and one line in the log; everyone else is served."""
    strange = mk_pod("strange", account="not a name")
    bench.intake.apply(FILES, [Applied(mk_pod()), Applied(strange), Synced()])
    with structlog.testing.capture_logs() as logs:
        bench.pipeline.step(0)
        bench.pipeline.step(0)

    assert bench.published[0]["shop/strange"].get(SECRET, "identity") is None
    assert identity_of(bench.published[0])
    assert [line["event"] for line in logs].count("certificate_refused") == 1


class Elsewhere:
    """An issuer that answers when a test wants it to."""

    def __init__(self) -> None:
        self.trust_bundle = b""
        self.changes = 0
        self.standing = Standing(leaves={}, refused={})

    def ask(self, identities: Collection[SpiffeId], /) -> Standing:
        return self.standing

    async def run(self, changed: Callable[[], object], /) -> NoReturn:
        raise AssertionError("nobody runs it")

    def answer(self, *leaves: Leaf, refused: Mapping[SpiffeId, str] | None = None) -> None:
        found = {leaf.identity: leaf for leaf in leaves}
        self.standing = Standing(leaves=found, refused=refused or {})
        self.changes += 1


def test_whose_leaf_is_pending_gets_everything_else(bench: Bench) -> None:
    """Nothing is published before it is known whom to trust; then each as it comes."""
    issuer, real = Elsewhere(), bench.issuer
    pipeline = Pipeline(bench.store, settings=MeshSettings(), issuer=issuer, publish=bench.publish)
    bench.intake.apply(FILES, [Applied(mk_pod()), Applied(mk_pod("api", account="api")), Synced()])
    pipeline.step(0)
    assert (bench.published, pipeline.rounds.number) == ([], 0)

    web, api = (
        SpiffeId.of("cluster.local", ServiceAccountRef("shop", name)) for name in ("web", "api")
    )
    leaves = real.ask({web, api}).leaves
    issuer.trust_bundle = real.trust_bundle
    issuer.answer(leaves[web])
    pipeline.step(0)
    assert identity_of(bench.published[0])
    assert bench.published[0]["shop/api"].get(SECRET, "identity") is None
    assert bench.published[0]["shop/api"].get(SECRET, "trust") is not None

    issuer.answer(*leaves.values())
    pipeline.step(0)
    assert identity_of(bench.published[1], "shop/api")
    assert bench.published[1]["shop/web"] is bench.published[0]["shop/web"]


def test_many_that_are_refused_for_one_reason_are_one_line(bench: Bench) -> None:
    """With some of their names; who is refused for another reason later is told again."""
    issuer = Elsewhere()
    issuer.trust_bundle = bench.issuer.trust_bundle
    pipeline = Pipeline(bench.store, settings=MeshSettings(), issuer=issuer, publish=bench.publish)
    bench.intake.apply(FILES, [Applied(mk_pod()), Synced()])
    many = [SpiffeId.of("cluster.local", ServiceAccountRef("shop", f"a{n:02}")) for n in range(20)]
    with structlog.testing.capture_logs() as logs:
        for reason in ("full", "full", "closed"):
            issuer.answer(refused=dict.fromkeys(many, reason))
            pipeline.step(0)

    told = [line for line in logs if line["event"] == "certificate_refused"]
    assert [(line["reason"], line["count"], len(line["identities"])) for line in told] == [
        ("full", 20, 5),
        ("closed", 20, 5),
    ]


def test_a_bug_in_a_later_round_keeps_what_was_published(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted and logged, and the next round is built from scratch."""
    bench.intake.apply(FILES, [Applied(mk_pod()), Synced()])
    bench.pipeline.step(0)
    monkeypatch.setattr(bench.pipeline, "_build_mesh", lambda objects, **_: 1 / 0)
    with structlog.testing.capture_logs() as logs:
        bench.pipeline.step(0)

    assert bench.pipeline.failures == 1
    assert (len(bench.published), bench.pipeline.rounds.number) == (1, 1)
    assert [line["event"] for line in logs] == ["rebuild_failed"]

    bench.pipeline.step(0)
    assert len(bench.published) == 2


async def test_problems_are_logged_before_the_first_round(bench: Bench) -> None:
    """What it waits for is told while it waits, and once."""
    problem = mk_problem("a")
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(bench.pipeline.run(bench.pulse))
            bench.intake.apply(FILES, [Failed(problem)])
            await eventually_async(lambda: logs)
            assert bench.published == []
            bench.intake.apply(FILES, [Synced()])
            await eventually_async(lambda: bench.published)
            running.cancel()

    assert [line["event"] for line in logs] == ["problem_found", "synced"]


def test_a_bug_in_the_first_round_is_raised(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never had anything to serve must not stay up as if it had."""
    monkeypatch.setattr(bench.pipeline, "_build_mesh", lambda objects, **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.pipeline.step(0)


def test_problems_are_logged_when_they_come_and_when_they_go(bench: Bench) -> None:
    """Once each, however many rounds they last."""
    first, second = mk_problem("a"), mk_problem("b")
    with structlog.testing.capture_logs() as logs:
        for event in (Synced(), Failed(first), Failed(second), Deleted(first.ref)):
            bench.intake.apply(FILES, [event])
            bench.pipeline.step(0)

    told = [(line["event"], line["object"]) for line in logs if "problem" in line["event"]]
    assert told == [
        ("problem_found", "TrafficSplit shop/a"),
        ("problem_found", "TrafficSplit shop/b"),
        ("problem_solved", "TrafficSplit shop/a"),
    ]
