"""Who of the replicas writes."""

import asyncio
import json
from http import HTTPStatus

import pytest
from structlog.testing import capture_logs

from smi_xds.problems import SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.writeback.lease import DURATION, RENEW, RETRY, Elector, Leadership, unique_identity
from tests.support.wait import eventually_async
from tests.writeback.fakes import FakeApi, FakeClock

PATH = "/apis/coordination.k8s.io/v1/namespaces/smi-xds/leases/smi-xds-leader"


def mk_elector(api: FakeApi, identity: str, clock: FakeClock) -> Elector:
    leadership = Leadership(identity, clock=clock)
    return Elector(
        api,
        leadership,
        namespace="smi-xds",
        name="smi-xds-leader",
        clock=clock,
        wall_clock=lambda: 1_800_000_000.0,
    )


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def leads(*electors: Elector) -> list[bool]:
    return [elector.leadership.is_leader for elector in electors]


async def test_the_first_one_leads_and_renews(api: FakeApi, clock: FakeClock) -> None:
    """It makes the lease, and renews it with one request each time."""
    a = mk_elector(api, "a", clock)
    await a.step()
    made = api.objects[PATH]["spec"]
    clock.now += RETRY
    await a.step()

    assert leads(a) == [True]
    assert a.leadership.holder == "a"
    assert made == {
        "holderIdentity": "a",
        "leaseDurationSeconds": DURATION,
        "acquireTime": "2027-01-15T08:00:00.000000Z",
        "renewTime": "2027-01-15T08:00:00.000000Z",
        "leaseTransitions": 0,
    }
    assert [method for method, _ in api.calls] == ["GET", "POST", "PUT"]
    assert a.leadership.gauge().read() == {"": 1.0}


async def test_others_wait_for_a_whole_duration_without_change(
    api: FakeApi, clock: FakeClock
) -> None:
    """By their own clock since they saw the last change, whatever times are written there."""
    a, b = mk_elector(api, "a", clock), mk_elector(api, "b", clock)
    await a.step()
    clock.now += 5
    await a.step()
    api.objects[PATH]["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"
    await b.step()
    clock.now += DURATION
    await b.step()
    before = leads(a, b)
    clock.now += 0.1
    await b.step()

    assert before == [False, False]  # a, which was not heard of, stopped by itself
    assert leads(a, b) == [False, True]
    assert api.objects[PATH]["spec"]["leaseTransitions"] == 1
    # And the old one takes note.
    await a.step()
    assert a.leadership.holder == "b"
    assert leads(a, b) == [False, True]


async def test_a_leader_that_cannot_renew_stops_by_itself(api: FakeApi, clock: FakeClock) -> None:
    """From before its last request that succeeded, and even where nothing runs meanwhile."""
    a = mk_elector(api, "a", clock)
    await a.step()
    api.fail = lambda _method, _path: UnreachableError("refused")
    clock.now += RENEW - 0.1
    with capture_logs() as logs:
        await a.step()
        still = leads(a)
        clock.now += 0.1
        now = leads(a)
        await a.step()

    assert (still, now) == ([True], [False])
    assert [it["event"] for it in logs] == ["lease_unavailable", "leadership_lost"]
    assert logs[0]["cure"].startswith("It is tried again; where that is refused, let smi-xds get")
    # Nobody took it meanwhile: it may go on.
    api.fail = lambda _method, _path: None
    await a.step()
    assert leads(a) == [True]


async def test_of_two_who_want_it_one_is_refused(api: FakeApi, clock: FakeClock) -> None:
    """Whether they make it, or take one that is free."""
    a, b = mk_elector(api, "a", clock), mk_elector(api, "b", clock)

    def overtake(method: str, _path: str) -> None:
        if method in ("POST", "PUT") and not overtaken:
            overtaken.append(method)
            spec = {"holderIdentity": "a", "leaseDurationSeconds": 15}
            api.put(PATH, {"metadata": {"name": "smi-xds-leader"}, "spec": spec})

    overtaken: list[str] = []
    api.fail = overtake
    await b.step()
    assert leads(b) == [False]

    await b.step()
    assert b.leadership.holder == "a"
    del api.objects[PATH]["spec"]["holderIdentity"]
    overtaken.clear()
    await b.step()
    assert leads(a, b) == [False, False]
    assert overtaken == ["PUT"]


async def test_release_lets_the_next_one_lead_at_once(api: FakeApi, clock: FakeClock) -> None:
    """By saying that nobody holds it, as client-go does."""
    a, b = mk_elector(api, "a", clock), mk_elector(api, "b", clock)
    await a.step()
    await b.step()
    await a.release()
    released = dict(api.objects[PATH]["spec"])
    await b.step()

    assert "holderIdentity" not in released
    assert leads(a, b) == [False, True]
    # Who does not lead has nothing to release, and who cannot does not mind.
    await a.release()
    api.fail = lambda _method, _path: RefusedError(HTTPStatus.CONFLICT, "modified")
    await b.release()
    assert leads(a, b) == [False, False]


async def test_a_lease_that_vanished_is_made_anew(api: FakeApi, clock: FakeClock) -> None:
    """As somebody else may be faster, the leader stops before it asks."""
    a = mk_elector(api, "a", clock)
    await a.step()
    del api.objects[PATH]
    seen: list[bool] = []
    api.fail = lambda method, _path: seen.extend(leads(a)) if method == "POST" else None
    await a.step()

    assert seen == [False]
    assert leads(a) == [True]


async def test_what_others_wrote_on_it_stays(api: FakeApi, clock: FakeClock) -> None:
    """Labels, for instance, also those that come while it is held."""
    a = mk_elector(api, "a", clock)
    await a.step()
    labelled = api.objects[PATH]
    labelled["metadata"]["labels"] = {"team": "mesh"}
    api.put(PATH, labelled)
    await a.step()

    assert leads(a) == [True]
    assert api.objects[PATH]["metadata"]["labels"] == {"team": "mesh"}
    assert [method for method, _ in api.calls[2:]] == ["PUT", "GET", "PUT"]


async def test_no_right_is_told_once(api: FakeApi, clock: FakeClock) -> None:
    """And again after it was mended; old credentials are read again."""
    a = mk_elector(api, "a", clock)
    api.fail = lambda _method, _path: RefusedError(HTTPStatus.FORBIDDEN, "may not get leases")
    with capture_logs() as logs:
        await a.step()
        await a.step()
        api.fail = lambda _method, _path: RefusedError(HTTPStatus.UNAUTHORIZED, "who?")
        await a.step()

    assert [(it["event"], it["reason"]) for it in logs] == [
        ("lease_unavailable", "may not get leases"),
        ("lease_unavailable", "who?"),
    ]
    assert logs[0]["lease"] == "smi-xds/smi-xds-leader"
    assert api.renewals == 1
    assert leads(a) == [False]


async def test_credentials_that_cannot_be_read_again(
    api: FakeApi, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Change nothing: the old ones are refused again."""

    async def renew() -> None:
        raise SourceError("gone")

    monkeypatch.setattr(api, "renew", renew)
    api.fail = lambda _method, _path: RefusedError(HTTPStatus.UNAUTHORIZED, "who?")
    a = mk_elector(api, "a", clock)
    await a.step()

    assert leads(a) == [False]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_a_refusal_of_any_request_is_told(
    api: FakeApi, clock: FakeClock, method: str
) -> None:
    """Reading, making, renewing."""
    a = mk_elector(api, "a", clock)
    if method == "PUT":
        await a.step()
    api.fail = lambda m, _path: (
        RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "broken") if m == method else None
    )
    with capture_logs() as logs:
        await a.step()

    assert [it["event"] for it in logs] == ["lease_unavailable"]


async def test_what_is_no_lease(api: FakeApi, clock: FakeClock) -> None:
    """An answer of something else on the way."""
    a = mk_elector(api, "a", clock)
    api.objects[PATH] = {"metadata": "?"}
    with capture_logs() as logs:
        await a.step()

    assert "what is no Lease" in logs[0]["reason"]


async def test_waiting_for_the_leadership_and_its_end() -> None:
    """Both end when it comes and goes, and its time running out is an end, too."""
    leadership = Leadership("a")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(leadership.wait())
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        assert not waiting.done()
        leadership.extend(loop.time() + 1000)
        await waiting
        ending = tasks.create_task(leadership.ends())
        await asyncio.sleep(0)
        leadership.extend(loop.time() + 2000)
        await asyncio.sleep(0)
        assert not ending.done()
        leadership.end("b")
        await ending
        leadership.extend(loop.time() + 0.05)
        await leadership.ends()

    assert not leadership.is_leader


async def test_it_goes_on_by_itself(api: FakeApi) -> None:
    """`run` tries again and again."""
    leadership = Leadership("a")
    elector = Elector(api, leadership, namespace="smi-xds", name="smi-xds-leader")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(elector.run())
        await leadership.wait()
        await eventually_async(lambda: len(api.calls) > 2)
        running.cancel()


def test_identities_differ_after_a_restart() -> None:
    """Else what is left of the old process would be taken for one's own."""
    assert unique_identity() != unique_identity()


@pytest.mark.parametrize("holder, after", [("a", None), ("b", "b")])
async def test_release_after_a_renewal_whose_answer_was_not_heard(
    api: FakeApi, clock: FakeClock, holder: str, after: str | None
) -> None:
    """The end cuts off a renewal that arrives all the same; what is another's by now stays his."""
    a = mk_elector(api, "a", clock)
    await a.step()
    renewed = {**api.objects[PATH], "spec": {**api.objects[PATH]["spec"], "holderIdentity": holder}}
    await api.send("PUT", PATH, json.dumps(renewed).encode())

    await a.release()

    assert api.objects[PATH]["spec"].get("holderIdentity") == after
