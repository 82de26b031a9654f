"""The benchmark of identities issues what it says, and counts what is signed."""

import shutil
from collections.abc import Iterator

import pytest

from benchmarks import identities
from benchmarks.ads import issuing
from benchmarks.ads.programs import Program


@pytest.fixture(name="server")
def _server() -> Iterator[Program]:
    started = Program("issuing", issuing.PROGRAM)
    yield started
    started.end()


async def test_all_leaves_are_issued_again_and_again(server: Program) -> None:
    """At the start, under a new root, and when all have expired."""
    started = server("start", services=20)
    assert len(started["nodes"]) == issuing.PROBES

    await identities._until_none_is_left(server)
    for kind in ("rotate", "expire"):
        server(kind)
        assert not server("standing")["done"]
        assert await identities._until_none_is_left(server) > 0


def test_signatures_are_counted_by_thread() -> None:
    """One row for one thread and one for two."""
    table = identities.signing(20)

    assert [row[0] for row in table.rows] == ["1 threads", "2 threads"]
    assert all(isinstance(row[1], float) and row[1] > 0 for row in table.rows)


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go for its clients")
async def test_changes_go_on_while_leaves_are_issued() -> None:
    """Every change reaches every sidecar, idle or not; both ratios are judged."""
    table = await identities.meanwhile(20, turns=1)

    assert [row[0] for row in table.rows] == ["nothing else", "all replaced", "all missing"]
    counts = [row[2] for row in table.rows]
    assert all(isinstance(count, int) and count > 0 for count in counts)
    assert len(table.bars) == 2
