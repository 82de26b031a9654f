"""Counting, adding and percentiles."""

import json

import pytest

from smi_xds.demo.tally import RESET, Edge, EdgeKey, Tally

A = EdgeKey("buyer", "store", "v1")
B = EdgeKey("buyer", "store", "v2")
C = EdgeKey("thief", "store", "")


def mk_tally() -> Tally:
    tally = Tally()
    for number in range(100):
        tally.count(A, "200", (number + 1) / 1000)
    tally.count(B, RESET, 0.0)
    tally.count(C, "403", 0.001)
    return tally


def test_percentiles_are_within_two_percent() -> None:
    """A histogram of 2 % buckets gives percentiles that are that exact."""
    edge = mk_tally().edges[A]

    assert edge.percentile_ms(50) == pytest.approx(50, rel=0.02)
    assert edge.percentile_ms(99) == pytest.approx(99, rel=0.02)
    assert edge.percentile_ms(100) == pytest.approx(100, rel=0.02)


def test_nothing_counted_has_percentile_zero() -> None:
    """An edge without requests has no latency."""
    assert Edge().percentile_ms(50) == 0


def test_questions_are_answered_by_source() -> None:
    """Requests, codes and backends are those of the source asked for."""
    tally = mk_tally()

    assert tally.sources() == ["buyer", "thief"]
    assert tally.requests("buyer") == 101
    assert tally.codes("buyer") == {"200": 100, RESET: 1}
    assert tally.backends("buyer") == {"v1": 100, "v2": 1}


def test_json_there_and_back_loses_nothing() -> None:
    """What another process reads is what was counted."""
    tally = mk_tally()

    assert Tally.from_json(json.loads(json.dumps(tally.to_json()))).edges == tally.edges


def test_adding_adds_codes_and_latencies() -> None:
    """The sum of two tallies has the requests of both."""
    tally = mk_tally()
    tally.add(mk_tally())

    assert tally.requests("buyer") == 202
    assert tally.edges[A].latencies.total() == 200
