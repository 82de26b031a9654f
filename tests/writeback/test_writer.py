"""The leader at work: what it asks of the API server, and what it makes of the answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest
from structlog.testing import capture_logs

from smi_xds.mesh.model import Mesh
from smi_xds.problems import SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.values import ObjectRef
from smi_xds.writeback.desk import QUIET, Sight
from smi_xds.writeback.lease import Leadership
from smi_xds.writeback.shelf import Shelf
from smi_xds.writeback.tally import fleet_of
from smi_xds.writeback.writer import BATCH, Writer
from tests.support.mesh import build_mesh
from tests.support.objects import mk_service, mk_split
from tests.support.wait import eventually_async
from tests.writeback.fakes import FakeApi, FakeClock

SPLITS = "/apis/split.smi-spec.io/v1alpha4/namespaces/shop/trafficsplits"
WEB = f"{SPLITS}/web"
REF = ObjectRef("TrafficSplit", "shop", "web")


class Desktop:
    """A writer that leads, an API server with splits, and a clock."""

    def __init__(self, *names: str) -> None:
        self.api, self.clock = FakeApi(), FakeClock()
        self.leadership = Leadership("a", clock=self.clock)
        self.leadership.extend(self.clock.now + 1e9)
        self.version = 0
        self.mesh: Mesh | None = None
        self.writer = Writer(
            self.api,
            self.leadership,
            look=self._look,
            mark=lambda: self.version,
            pace=0.0,
            clock=self.clock,
            wall_clock=lambda: 1_800_000_000.0,
        )
        for name in names or ("web",):
            self.put(name)
        self.show(*(names or ("web",)))

    def put(self, name: str, *, generation: int = 1, **more: Any) -> None:
        """Have the API server have it."""
        metadata = {
            "name": name,
            "namespace": "shop",
            "uid": f"u-{name}",
            "generation": generation,
        }
        path = f"{SPLITS}/{name}"
        self.api.put(path, {"metadata": metadata, **more})

    def show(self, *names: str, generation: int = 1) -> None:
        """Have the mesh have them."""
        services = [mk_service(name) for name in names]
        splits = [
            replace(mk_split(name, name, {name: 1}), uid=f"u-{name}", generation=generation)
            for name in names
        ]
        self.mesh = build_mesh(*services, *splits)
        self.version += 1

    def _look(self) -> Sight | None:
        if self.mesh is None:
            return None
        return Sight(mesh=self.mesh, round=self.version, fleet=fleet_of(self.mesh, ()))

    async def step(self, *, after: float = 0.0) -> float:
        self.clock.now += after
        return await self.writer.step()

    async def written(self) -> None:
        """Look, and write what is due then."""
        await self.step()
        await self.step(after=QUIET)

    def conditions(self, path: str = WEB) -> dict[str, tuple[str, int]]:
        status = self.api.objects[path].get("status") or {}
        return {
            it["type"]: (it["status"], it["observedGeneration"])
            for it in status.get("conditions", ())
        }

    def conditions_of_all(self, path: str = WEB) -> set[str]:
        return {it["type"] for it in self.api.objects[path]["status"]["conditions"]}

    def counted(self) -> dict[str, float]:
        values = self.writer.meters.status.values
        return {key: value for key, value in values.items() if value}


WELL = {"Accepted": ("True", 1), "ResolvedRefs": ("True", 1), "Programmed": ("Unknown", 1)}


@pytest.fixture
def desk() -> Desktop:
    return Desktop()


async def test_it_lists_once_and_writes_once(desk: Desktop) -> None:
    """Each kind is listed, each object is patched, and then there is silence."""
    await desk.written()
    asked = desk.api.methods()
    for _ in range(20):
        await desk.step(after=5.0)

    assert asked.count("LIST") == 6
    assert asked[6:] == ["PATCH"]
    assert desk.api.calls[-1] == ("PATCH", f"{WEB}/status")
    assert desk.api.methods() == asked
    assert desk.conditions() == WELL
    assert desk.counted() == {"written": 1.0}
    [patch] = desk.api.sent
    assert [(it["op"], it["path"]) for it in patch] == [
        ("test", "/metadata/uid"),
        ("test", "/metadata/generation"),
        ("add", "/status"),
    ]


async def test_nothing_before_the_first_round(desk: Desktop) -> None:
    """There is nothing to say."""
    mesh, desk.mesh = desk.mesh, None
    await desk.written()
    before = desk.conditions()
    desk.mesh = mesh
    await desk.written()

    assert before == {}
    assert desk.conditions() == WELL


async def test_what_stands_there_is_not_written(desk: Desktop) -> None:
    """By the next leader, or the same one after it lost the lease for a while."""
    await desk.written()
    calls = len(desk.api.methods("PATCH"))
    desk.writer.begin()
    await desk.written()

    assert len(desk.api.methods("PATCH")) == calls
    assert desk.counted() == {"written": 1.0, "unchanged": 1.0}


async def test_a_change_that_was_not_seen_yet_is_not_written_over(desk: Desktop) -> None:
    """The API server compares the generation itself; the new one is written in its own time."""
    await desk.step()
    desk.put("web", generation=2)
    await desk.step(after=QUIET)
    assert desk.counted() == {"outdated": 1.0}
    await desk.step(after=100.0)
    assert desk.conditions() == {}

    desk.show("web", generation=2)
    await desk.step()
    assert desk.conditions() == {}
    await desk.step(after=QUIET)
    assert desk.conditions()["Accepted"] == ("True", 2)


async def test_a_status_that_somebody_else_wrote_is_not_lost(desk: Desktop) -> None:
    """It is read again, and what others say of the object stays."""
    desk.put("web", status={"more": 1})
    await desk.step()
    desk.put("web", status={"conditions": [{"type": "Ready"}], "more": 2})
    await desk.step(after=QUIET)
    assert desk.counted() == {"outdated": 1.0}
    await desk.step(after=1.0)

    status = desk.api.objects[WEB]["status"]
    assert status["more"] == 2
    assert [it["type"] for it in status["conditions"]] == [
        *("Accepted", "ResolvedRefs", "Programmed"),
        "Ready",
    ]


async def test_what_is_gone_is_dropped(desk: Desktop) -> None:
    """Before it was written to, or before it was read."""
    await desk.step()
    del desk.api.objects[WEB]
    await desk.step(after=QUIET)
    calls = len(desk.api.calls)
    await desk.step(after=50.0)
    assert desk.counted() == {"gone": 1.0}
    assert len(desk.api.calls) == calls

    other = Desktop()
    await other.step()
    other.writer.desk.unsure(REF, other.clock.now)
    del other.api.objects[WEB]
    await other.step(after=QUIET)
    assert other.counted() == {"gone": 1.0}


@pytest.mark.parametrize(
    "error",
    [
        RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "later", retry_after=7.0),
        RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "broken"),
        RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "away"),
        UnreachableError("refused"),
        TimeoutError(),
    ],
)
async def test_failures_are_tried_again(desk: Desktop, error: Exception) -> None:
    """After a pause, as long as it was asked for; then all is written."""
    await desk.step()
    desk.api.fail = lambda method, _path: error if method == "PATCH" else None
    pause = await desk.step(after=QUIET)
    desk.api.fail = lambda _method, _path: None
    await desk.step(after=60.0)

    assert pause >= (7.0 if "later" in str(error) else 0.25)
    assert desk.conditions() == WELL
    assert desk.counted() == {"failed": 1.0, "written": 1.0}


async def test_one_that_fails_does_not_keep_the_others_waiting() -> None:
    """As where a webhook that converts it is down."""
    desk = Desktop("a", "web")
    broken = f"{SPLITS}/a"
    desk.api.fail = lambda method, path: (
        RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "conversion webhook failed")
        if method == "PATCH" and path.startswith(broken)
        else None
    )
    await desk.step()
    await desk.step(after=QUIET)
    await desk.step()

    assert desk.conditions() == WELL
    assert desk.conditions(broken) == {}


@pytest.mark.parametrize("error", [UnreachableError("cut off"), TimeoutError()])
async def test_one_that_hangs_does_not_keep_the_others_waiting(error: Exception) -> None:
    """As where somebody's webhook for it never answers; it is tried again, later each time."""
    desk = Desktop("a", "web")
    hanging = f"{SPLITS}/a"
    desk.api.fail = lambda method, path: (
        error if method == "PATCH" and path.startswith(hanging) else None
    )
    await desk.step()
    await desk.step(after=QUIET)
    await desk.step()
    before = desk.conditions(), desk.conditions(hanging)
    desk.api.fail = lambda _method, _path: None
    await desk.step(after=2.0)

    assert before == (WELL, {})
    assert desk.conditions(hanging) == WELL


async def test_one_that_somebody_forbids_does_not_keep_its_kind_waiting() -> None:
    """A policy may deny one object: after the pause of its kind, the others come first."""
    desk = Desktop("a", "web")
    denied = f"{SPLITS}/a"
    desk.api.fail = lambda method, path: (
        RefusedError(HTTPStatus.FORBIDDEN, "admission webhook denied the request")
        if method == "PATCH" and path.startswith(denied)
        else None
    )
    await desk.step()
    await desk.step(after=QUIET)
    await desk.step(after=61.0)

    assert desk.conditions() == WELL
    assert desk.conditions(denied) == {}


async def test_a_kind_that_cannot_be_listed_keeps_nobody_waiting(desk: Desktop) -> None:
    """As where what is stored in another version has a webhook that is down; asked for again."""
    broken = True
    desk.api.fail = lambda method, path: (
        RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "conversion webhook failed")
        if broken and path.endswith("httproutegroups")
        else None
    )
    await desk.written()
    before = desk.conditions()
    broken = False
    asked = desk.api.methods().count("LIST")
    await desk.step(after=60.0)
    again = desk.api.methods().count("LIST")
    for _ in range(20):
        await desk.step(after=5.0)

    assert before == WELL
    assert again > asked
    assert desk.api.methods().count("LIST") == again
    assert desk.counted() == {"written": 1.0}


async def test_what_could_not_be_listed_is_read_before_it_is_written(desk: Desktop) -> None:
    """It may say all that already, or what others wrote."""
    desk.put("web", status={"conditions": [{"type": "Theirs", "status": "True"}]})
    desk.api.fail = lambda method, path: (
        RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "broken")
        if method == "LIST" and path.endswith("trafficsplits")
        else None
    )
    await desk.written()

    assert desk.api.methods()[-2:] == ["GET", "PATCH"]
    assert desk.conditions_of_all() == {"Theirs", *WELL}


@pytest.mark.parametrize("error", [RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "broken")])
async def test_one_that_cannot_be_looked_for_is_tried_later(error: Exception) -> None:
    """Its status is not found, and whether it is there itself is not told."""
    desk = Desktop("a", "web")
    broken = f"{SPLITS}/a"
    desk.api.fail = lambda method, path: (
        (RefusedError(HTTPStatus.NOT_FOUND, "no") if method == "PATCH" else error)
        if path.startswith(broken)
        else None
    )
    await desk.step()
    await desk.step(after=QUIET)
    await desk.step()

    assert desk.conditions() == WELL


async def test_old_credentials_are_read_again(
    desk: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where that fails, it goes on."""
    desk.api.fail = lambda _method, _path: RefusedError(HTTPStatus.UNAUTHORIZED, "who?")
    assert await desk.step() > 0
    assert desk.api.renewals == 1

    async def renew() -> None:
        raise SourceError("gone")

    monkeypatch.setattr(desk.api, "renew", renew)
    assert await desk.step() > 0


@pytest.mark.parametrize("method", ["PATCH", "GET"])
async def test_without_the_right_it_tells_once_and_serves_on(method: str) -> None:
    """One line for a kind, whatever number of objects; it is tried again after a minute."""
    desk = Desktop("a", "web")
    desk.api.fail = lambda m, _path: (
        RefusedError(HTTPStatus.FORBIDDEN, "may not") if m == method else None
    )
    with capture_logs() as logs:
        await desk.step()
        if method == "GET":
            for name in ("a", "web"):
                desk.writer.desk.unsure(ObjectRef("TrafficSplit", "shop", name), desk.clock.now)
        for _ in range(10):
            await desk.step(after=QUIET)
    asked = len(desk.api.methods(method))
    desk.api.fail = lambda _method, _path: None
    await desk.step(after=60.0)

    assert [it["reason"] for it in logs if it["event"] == "status_refused"] == ["may not"]
    assert asked == 1
    assert desk.conditions() == desk.conditions(f"{SPLITS}/a") == WELL
    assert desk.counted() == {"forbidden": 1.0, "written": 2.0}


async def test_a_list_that_is_forbidden_keeps_nobody_from_the_others(desk: Desktop) -> None:
    """Who may not list a kind has no objects of it either."""
    desk.api.fail = lambda method, path: (
        RefusedError(HTTPStatus.FORBIDDEN, "may not list") if path.endswith("routes") else None
    )
    with capture_logs() as logs:
        await desk.written()

    assert {it["what"] for it in logs if it["event"] == "status_refused"} == {
        "TCPRoute",
        "UDPRoute",
    }
    assert desk.conditions() == WELL


async def test_a_crd_without_status(desk: Desktop) -> None:
    """Its objects get events; it is asked again when all is listed again."""
    desk.api.fail = lambda _method, path: (
        RefusedError(HTTPStatus.NOT_FOUND, "no such thing") if path.endswith("/status") else None
    )
    with capture_logs() as logs:
        await desk.written()
        await desk.step(after=100.0)

    assert (
        "has no subresource" in next(it for it in logs if it["event"] == "status_refused")["reason"]
    )
    assert len(desk.api.methods("PATCH")) == 1
    desk.api.fail = lambda _method, _path: None
    await desk.step(after=600.0)
    await desk.step(after=QUIET)
    assert desk.conditions() == WELL


async def test_a_crd_that_prunes_conditions(desk: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not written to for ever."""
    put = desk.api.put
    monkeypatch.setattr(
        desk.api, "put", lambda path, document: put(path, {**document, "status": {}})
    )
    with capture_logs() as logs:
        await desk.written()
        await desk.step(after=100.0)

    assert len(desk.api.methods("PATCH")) == 1
    assert (
        "keeps no conditions"
        in next(it for it in logs if it["event"] == "status_refused")["reason"]
    )


async def test_a_crd_that_forbids_our_conditions(desk: Desktop) -> None:
    """Is told once, and tried ever more rarely."""
    said = 'TrafficSplit.split.smi-spec.io "web" is invalid: status.conditions: Too many'
    desk.api.fail = lambda method, _path: (
        RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, said) if method == "PATCH" else None
    )
    await desk.step()
    with capture_logs() as logs:
        for _ in range(100):
            await desk.step(after=5.0)

    assert [it["reason"] for it in logs if it["event"] == "status_refused"] == [said]
    assert len(desk.api.methods("PATCH")) < 12


async def test_another_version_where_ours_is_not_served() -> None:
    """The CRDs of other meshes serve but one; objects are patched in that one."""
    desk = Desktop()
    old = WEB.replace("v1alpha4", "v1alpha2")
    desk.api.objects[old] = desk.api.objects.pop(WEB)
    desk.api.fail = lambda _method, path: (
        RefusedError(HTTPStatus.NOT_FOUND, "not served")
        if "trafficsplits" in path and "v1alpha2" not in path
        else None
    )
    await desk.written()

    assert desk.conditions(old) == WELL
    assert desk.writer.api_version(REF) == "split.smi-spec.io/v1alpha2"


async def test_lists_in_parts_and_of_single_namespaces() -> None:
    """As the source reads them."""
    desk = Desktop("a", "b", "c", "d", "e")
    told, _ = await Shelf(desk.api).list_all()
    assert sorted(ref.name for ref in told) == ["a", "b", "c", "d", "e"]
    told, _ = await Shelf(desk.api, ["elsewhere", "shop"]).list_all()
    assert len(told) == 5
    told, _ = await Shelf(desk.api, ["elsewhere"]).list_all()
    assert told == {}


async def test_answers_that_are_none(desk: Desktop) -> None:
    """Something else on the way: tried again."""
    desk.api.objects[WEB]["metadata"] = "?"
    assert 0 < await desk.step() < 1
    desk.api.objects[WEB] = {"metadata": {"name": "web"}, "status": "?"}
    await desk.step()
    desk.api.fail = lambda method, _path: desk.api.objects.clear() if method == "PATCH" else None
    await desk.step(after=QUIET)

    assert desk.counted() == {"failed": 1.0, "gone": 1.0}


async def test_a_page_that_is_none(desk: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same."""

    @asynccontextmanager
    async def get(*_: object, **__: object) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"<html>"

        yield chunks()

    monkeypatch.setattr(desk.api, "get", get)
    await desk.step()

    assert desk.counted() == {"failed": 1.0}


async def test_what_is_served_otherwise_now_is_found_again(desk: Desktop) -> None:
    """A CRD that was replaced, with other versions: all is listed again after a minute."""
    await desk.step()
    old = WEB.replace("v1alpha4", "v1alpha2")
    desk.api.objects[old] = desk.api.objects.pop(WEB)
    desk.api.fail = lambda _method, path: (
        RefusedError(HTTPStatus.NOT_FOUND, "not served")
        if "trafficsplits" in path and "v1alpha2" not in path
        else None
    )
    await desk.step(after=QUIET)
    assert desk.counted() == {"gone": 1.0}
    await desk.step(after=60.0)
    await desk.step(after=QUIET)

    assert desk.conditions(old) == WELL


async def test_who_leads_no_more_writes_no_more(desk: Desktop) -> None:
    """Not even what was due already, or under way."""
    await desk.step()

    def lose(method: str, _path: str) -> None:
        if method == "GET":
            desk.leadership.end("b")

    desk.writer.desk.unsure(REF, desk.clock.now)
    desk.api.fail = lose
    await desk.step(after=QUIET)
    assert desk.api.methods("GET", "PATCH") == ["GET"]
    await desk.step(after=10.0)
    assert desk.conditions() == {}


async def test_no_more_than_a_batch_before_the_next_look() -> None:
    """What is to be said may have changed meanwhile."""
    names = [f"web-{number:03}" for number in range(BATCH + 10)]
    desk = Desktop(*names)
    await desk.step()
    pause = await desk.step(after=QUIET)
    first = desk.counted()
    await desk.step()

    assert pause == 0.0
    assert first == {"written": float(BATCH)}
    assert desk.counted() == {"written": float(len(names))}
    assert desk.writer.desk.queue == 0


async def test_it_goes_on_by_itself() -> None:
    """`run` takes step after step."""
    desk = Desktop()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(desk.writer.run())
        await eventually_async(lambda: desk.writer.desk.queue)
        desk.clock.now += QUIET
        await eventually_async(desk.conditions)
        running.cancel()
