"""Problems as events."""

import asyncio
from http import HTTPStatus
from typing import Any

import pytest
from structlog.testing import capture_logs

from smi_xds.problems import Problem, ProblemCode, SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.values import ObjectRef
from smi_xds.writeback.recorder import PACE, Recorder, event_name, event_of
from tests.support.wait import eventually_async
from tests.writeback.fakes import FakeApi

SPLIT = ObjectRef("TrafficSplit", "shop", "web")
FOLDER = "/apis/events.k8s.io/v1/namespaces/shop/events"
NOW = 1_800_000_000.0


def mk_problem(
    message: str = "It is so.", ref: ObjectRef = SPLIT, field: str = "spec.x"
) -> Problem:
    return Problem(ref, field, ProblemCode.MISSING_BACKEND, message, "Mend it.")


def mk_recorder(api: FakeApi) -> Recorder:
    return Recorder(
        api,
        identity="pod_1",
        api_version=lambda _ref: "split.smi-spec.io/v1alpha4",
        pace=0.0,
        wall_clock=lambda: NOW,
    )


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def events(api: FakeApi) -> list[dict[str, Any]]:
    return list(api.objects.values())


def counted(recorder: Recorder) -> dict[str, float]:
    return recorder.meters.events.values


async def test_one_event_for_one_problem(api: FakeApi) -> None:
    """With everything by which kubectl describe finds and shows it."""
    recorder = mk_recorder(api)
    news = {mk_problem(): "u-1"}
    await recorder.step(news)

    assert news == {}
    [event] = events(api)
    assert event["metadata"]["name"].startswith("web.")
    assert {**event, "metadata": None} == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": None,
        "eventTime": "2027-01-15T08:00:00.000000Z",
        "reportingController": "smi-xds",
        "reportingInstance": "pod_1",
        "action": "Check",
        "type": "Warning",
        "reason": "MissingBackend",
        "regarding": {
            "apiVersion": "split.smi-spec.io/v1alpha4",
            "kind": "TrafficSplit",
            "namespace": "shop",
            "name": "web",
            "uid": "u-1",
        },
        "note": "spec.x: It is so. Mend it.",
    }
    assert counted(recorder) == {"posted": 1}
    assert await recorder.step(news) > PACE


async def test_a_leader_after_us_does_not_tell_it_again(api: FakeApi) -> None:
    """It finds the event by its name; so do we after a while without the lease."""
    first, second = mk_recorder(api), mk_recorder(api)
    await first.step({mk_problem(): "u-1"})
    await second.step({mk_problem(): "u-1"})
    first.begin()
    await first.step({mk_problem(): "u-1"})

    assert len(events(api)) == 1
    assert api.methods() == ["POST"] * 3
    assert counted(second) == {"known": 1}
    assert counted(first) == {"posted": 1, "known": 1}


async def test_a_problem_that_comes_back_makes_a_series(api: FakeApi) -> None:
    """Of the same event; where that expired, a new one."""
    recorder = mk_recorder(api)
    for _ in range(3):
        await recorder.step({mk_problem(): "u-1"})

    [event] = events(api)
    assert event["series"] == {"count": 3, "lastObservedTime": "2027-01-15T08:00:00.000000Z"}
    api.objects.clear()
    await recorder.step({mk_problem(): "u-1"})
    assert "series" not in events(api)[0]
    assert counted(recorder) == {"posted": 2, "repeated": 2}


async def test_what_fails_is_tried_again(api: FakeApi) -> None:
    """The others wait for it: it is the API server that fails."""
    recorder = mk_recorder(api)
    news = {mk_problem(): "u-1"}
    for error in (
        UnreachableError("refused"),
        RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "later", retry_after=5.0),
        RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "broken"),
        TimeoutError(),
    ):
        api.fail = lambda _method, _path, it=error: it  # type: ignore[misc]  # bound now
        assert await recorder.step(news) > 0
        assert len(news) == 1
    api.fail = lambda _method, _path: None
    await recorder.step(news)

    assert news == {}
    assert counted(recorder) == {"failed": 4, "posted": 1}
    # A series is no different.
    api.fail = lambda _method, _path: RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "broken")
    await recorder.step({mk_problem(): "u-1"})
    assert counted(recorder)["failed"] == 5


async def test_one_that_fails_lets_the_others_go_first(api: FakeApi) -> None:
    """As where somebody's webhook for events of one namespace hangs."""
    recorder = mk_recorder(api)
    broken, other = mk_problem(), mk_problem("another one")
    news = {broken: "u-1", other: "u-1"}
    hanging = api.send

    async def send(method: str, path: str, body: bytes = b"", **more: Any) -> bytes:
        if b"another one" not in body:
            raise TimeoutError
        return await hanging(method, path, body, **more)

    api.send = send  # type: ignore[method-assign]  # to fail by what is sent
    await recorder.step(news)
    await recorder.step(news)

    assert list(news) == [broken]


@pytest.mark.parametrize("renewal", [None, SourceError("gone")])
async def test_old_credentials_are_read_again(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, renewal: Exception | None
) -> None:
    """The writer may have nothing to write for long; where it fails, it goes on."""
    recorder, renewed = mk_recorder(api), []

    async def renew() -> None:
        renewed.append(True)
        if renewal is not None:
            raise renewal

    monkeypatch.setattr(api, "renew", renew)
    api.fail = lambda _method, _path: RefusedError(HTTPStatus.UNAUTHORIZED, "who?")

    assert await recorder.step({mk_problem(): "u-1"}) > 0
    assert renewed == [True]


@pytest.mark.parametrize(
    "status, text",
    [
        (HTTPStatus.NOT_FOUND, "namespaces shop not found"),
        (HTTPStatus.FORBIDDEN, "namespace shop because it is being terminated"),
        (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid"),
        (HTTPStatus.BAD_REQUEST, "bad"),
    ],
)
async def test_what_nobody_can_tell_is_lost(api: FakeApi, status: HTTPStatus, text: str) -> None:
    """It would be refused for ever."""
    recorder = mk_recorder(api)
    api.fail = lambda _method, _path: RefusedError(status, text)
    news = {mk_problem(): "u-1"}
    await recorder.step(news)

    assert news == {}
    assert counted(recorder) == {"lost": 1}


async def test_without_the_right_it_is_told_once(api: FakeApi) -> None:
    """And nothing piles up."""
    recorder = mk_recorder(api)
    api.fail = lambda _method, _path: RefusedError(HTTPStatus.FORBIDDEN, "may not")
    with capture_logs() as logs:
        for message in ("a", "b"):
            await recorder.step({mk_problem(message): "u-1"})

    assert [it["event"] for it in logs] == ["events_refused"]
    assert counted(recorder) == {"forbidden": 2}


async def test_too_many_are_lost(api: FakeApi) -> None:
    """Conditions and metrics tell them all the same."""
    recorder = mk_recorder(api)
    news = {mk_problem(str(number)): "u-1" for number in range(2005)}
    await recorder.step(news)

    assert len(news) == 1999
    assert counted(recorder) == {"lost": 5, "posted": 1}


async def test_old_names_are_forgotten(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of events, which expire, only the latest are remembered."""
    monkeypatch.setattr("smi_xds.writeback.recorder._REMEMBERED", 1)
    recorder = mk_recorder(api)
    for message in ("a", "b", "a"):
        await recorder.step({mk_problem(message): "u-1"})

    assert counted(recorder) == {"posted": 2, "known": 1}


def test_names_tell_problems_and_objects_apart() -> None:
    """And are names, however long that of the object is."""
    long = ObjectRef("TrafficSplit", "shop", "x" * 199 + "." + "y" * 53)
    names = [
        event_name(mk_problem(), "u-1"),
        event_name(mk_problem(), "u-2"),
        event_name(mk_problem("b"), "u-1"),
        event_name(mk_problem(ref=long), "u-1"),
    ]

    assert len(set(names)) == 4
    assert max(map(len, names)) <= 253
    assert ".." not in names[-1]


@pytest.mark.parametrize("kind", ["Pod", "Service"])
async def test_pods_and_services_are_of_the_core(api: FakeApi, kind: str) -> None:
    """What we read of them is v1."""
    await mk_recorder(api).step({mk_problem(ref=ObjectRef(kind, "shop", "web")): "u-1"})

    assert events(api)[0]["regarding"]["apiVersion"] == "v1"


def test_notes_are_cut() -> None:
    """The API server takes 1024 bytes."""
    made = [
        event_of(mk_problem(text, field=""), "u-1", api_version="v", instance="i" * 200, now="t")
        for text in ("ä" * 2000, "No full stop")
    ]

    assert len(made[0]["note"].encode()) <= 1024
    assert made[0]["note"].endswith("ä…")
    assert made[1]["note"] == "No full stop. Mend it."
    assert len(made[0]["reportingInstance"]) == 128


async def test_it_goes_on_by_itself(api: FakeApi) -> None:
    """`run` tells what is new, one after the other."""
    news = {mk_problem("a"): "u-1", mk_problem("b"): "u-1"}
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(mk_recorder(api).run(lambda: news))
        await eventually_async(lambda: len(events(api)) == 2)
        running.cancel()

    assert news == {}
