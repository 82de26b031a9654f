"""The mesh of the cluster benchmarks is what it says, and they measure what happens to it."""

import json
import shutil
from collections.abc import Iterator

import pytest

from benchmarks import scale, sidecars
from benchmarks.ads.tables import Table, present, quantiles
from benchmarks.cluster import world as made
from benchmarks.cluster.loader import collection, path_of
from benchmarks.cluster.world import Document, World
from benchmarks.measure import Bar
from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import MeshSettings
from smi_xds.objects.kube import Pod
from smi_xds.objects.parse import Parsed, parse
from smi_xds.objects.store import Applied, Origin, Store

SMALL = World(services=20, pods_each=2)


def documents(world: World) -> Iterator[Document]:
    yield from made.namespaces()
    yield from made.accounts(world)
    yield from made.services(world)
    yield from made.slices(world)
    yield from made.smi(world)
    for pod, status in made.pods(world):
        yield {**pod, **status}


def test_the_world_is_a_mesh_without_problems_but_nested_splits() -> None:
    """All documents are understood; pods are as large as those of clusters."""
    store = Store(["benchmark"])
    for document in documents(SMALL):
        outcome = parse(document)
        assert isinstance(outcome, Parsed), outcome
        store.apply(Origin("benchmark"), Applied(outcome.object))

    mesh = MeshBuilder(MeshSettings())(store.objects())

    assert {problem.code.value for problem in mesh.problems} == {"NestedSplit"}
    assert (len(mesh.services), len(mesh.workloads)) == (SMALL.services, SMALL.pods)
    assert len(json.dumps({**made.pod(0, 0), **made.status(0, 0)})) > 4_000


def test_a_beat_changes_nothing_for_us() -> None:
    """What a kubelet writes again and again leaves an equal object."""
    pods = [
        parse({**made.pod(3, 1), **made.status(3, 1, beat=f"2026-01-01T00:00:{second:02}Z")})
        for second in (0, 10)
    ]

    assert pods[0] == pods[1]
    assert isinstance(pods[0], Parsed)
    assert isinstance(pods[0].object, Pod)
    assert pods[0].object.ready


def test_paths_are_those_of_the_api_server() -> None:
    """Core kinds and others, with and without a namespace."""
    [namespace, *_] = made.namespaces()

    assert collection(namespace) == "/api/v1/namespaces"
    assert path_of(made.slice_of(1, 1)) == (
        "/apis/discovery.k8s.io/v1/namespaces/ns1/endpointslices/service-1-x1y2z"
    )


def test_quantiles_are_samples() -> None:
    """The median, the 99th percentile and the largest of a hundred."""
    assert quantiles([*range(101)]) == (50, 99, 100)
    assert quantiles([7]) == (7, 7, 7)


@pytest.mark.parametrize("value, code", [(1.0, 0), (3.0, 1)])
def test_a_missed_bar_is_the_exit_code(
    value: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed as a table or as one JSON object, with the load before the run."""
    bar = Bar(name="b", value=value, limit=2, unit="s")
    table = Table(title="t", columns=("what", "s"), rows=(("this", value),), bars=(bar,))

    assert present([table], before=0.5, is_json=True) == code

    found = json.loads(capsys.readouterr().out)
    assert "before the run: 0.5" in found["machine"]
    assert found["tables"] == [{"title": "t", "rows": [{"what": "this", "s": value}]}]
    assert [it["reached"] for it in found["bars"]] == [code == 0]


@pytest.mark.kube
@pytest.mark.usefixtures("kube_binary")
@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go for its clients")
async def test_each_change_reaches_each_sidecar() -> None:
    """Three changes in a real API server; the benchmark itself counts who was told."""
    table = await sidecars.measure(changes=3, world=SMALL)

    times = {str(row[0]): row[1] for row in table.rows}
    whole, part = (
        times[f"patch sent to last ACK of {SMALL.pods} sidecars"],
        times["patch sent to a bare watcher's line"],
    )
    assert isinstance(whole, float)
    assert isinstance(part, float)
    assert whole > part > 0


@pytest.mark.kube
@pytest.mark.usefixtures("kube_binary")
async def test_a_server_at_scale_is_measured() -> None:
    """Statuses that say nothing new make no round, changes of endpoints do."""
    starts, spent = await scale.measure(SMALL, quiet=0.1)

    assert [row[0] for row in starts.rows][:2] == ["serve --kubernetes", "the same with webhooks"]
    rounds = [row[3] for row in spent.rows]
    assert rounds[1:3] == [0, 0]
    assert rounds[3] != 0
