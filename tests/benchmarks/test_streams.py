"""The stream benchmark really measures what it says: counts are checked, times are not."""

import dataclasses
import shutil
from collections.abc import Iterator, Sequence

import pytest

from benchmarks import streams
from benchmarks.ads import trials
from benchmarks.ads.programs import SERVERS
from benchmarks.ads.resources import CLUSTERS
from benchmarks.ads.trials import Pair, Plan

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="needs Go for its clients")

N = 20
PLAN = Plan(servers=SERVERS, changes=2)
WITHOUT_FLOOR = dataclasses.replace(PLAN, servers=("ours", "peer"))


@pytest.fixture(name="pairs", scope="module")
def _pairs() -> Iterator[Sequence[Pair]]:
    with trials.pairs(PLAN, n=N) as started:
        yield started


@pytest.mark.parametrize("mode", ["sotw", "delta"])
@pytest.mark.parametrize("server", SERVERS)
def test_every_proxy_gets_every_resource_once_and_every_change(
    pairs: Sequence[Pair], server: str, mode: str
) -> None:
    """All servers answer alike: what is asked for, then one response per change and proxy."""
    pair = next(pair for pair in pairs if pair.name == server)

    pair.open(N, mode=mode)
    before = pair.fleet("counts")
    for _ in range(3):
        _, seen = pair.change()
        assert seen["reached"] == N
    after = pair.fleet("counts")
    pair.fleet("close")

    clusters = N * len(CLUSTERS)
    assert before["responses"] == {"clusters": N, "endpoints": N, "listeners": N, "routes": N}
    assert before["resources"] == {
        "clusters": clusters,
        "endpoints": clusters,
        "listeners": N,
        "routes": N,
    }
    assert after["responses"] == {**before["responses"], "routes": 4 * N}
    assert (after["failures"], after["removed"]) == (0, 0)


def test_a_proxy_that_returns_with_all_it_has_is_sent_no_resource_again() -> None:
    """A resumed delta stream gets empty answers, yet hears of the next change."""
    results = trials.storm(WITHOUT_FLOOR, n=N, mode="delta", resume=True, rounds=1)

    for result in results.values():
        assert result.failures == 0
        assert result.bytes[0] < 1000


@pytest.mark.parametrize("mode", ["sotw", "delta"])
def test_every_update_of_a_churn_arrives(mode: str) -> None:
    """Updates may be merged, but the last one of each kind reaches every proxy."""
    results = trials.churn(WITHOUT_FLOOR, n=N, mode=mode, rate=200, seconds=0.5)

    for result in results.values():
        assert (result.updates, result.missing) == (100, 0)
        assert 0 < result.responses <= 100


def test_clients_that_never_read_are_not_waited_for() -> None:
    """A tenth of the clients stalls; all others get every change."""
    results = trials.stall(WITHOUT_FLOOR, n=N, mode="delta", fraction=0.1)

    for result in results.values():
        assert len(result.during.to_last_answer) == PLAN.changes


@pytest.mark.parametrize("mode", ["sotw", "delta"])
def test_ours_sends_once_what_is_refused(mode: str) -> None:
    """A refused change is not sent again; the next good one heals."""
    plan = dataclasses.replace(PLAN, servers=("ours",))

    refused = trials.refuse(plan, n=N, mode=mode, watch=0.3)["ours"]

    assert refused.responses == 1


def test_a_missed_bar_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints a table per trial, and fails where ours is worse than it may be."""
    command = ["streams", "push", f"--n={N}", "--changes=2", "--mode=delta"]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.setattr(streams, "_BARS_AT", (N,))

    monkeypatch.setattr(streams, "_MEMORY_BAR", 0.0)
    assert streams.main() == 1

    printed = capsys.readouterr().out
    assert "MISSED: memory a synced proxy, delta, N = 20" in printed
    for server in SERVERS:
        assert f"  {server}  " in printed
