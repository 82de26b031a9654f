"""The verdict over a step, and the report."""

import json
from collections.abc import Mapping

import pytest

from smi_xds.demo.fleet import Counted
from smi_xds.demo.report import StepResult, failures, to_json
from smi_xds.demo.story import BUYER, STEPS, STORE_V1, STORE_V2, THIEF, WAREHOUSE
from smi_xds.demo.tally import RESET, EdgeKey, Tally

CANARY = next(step for step in STEPS if step.name == "canary")

Codes = Mapping[tuple[str, str, str], int]
"""(source, backend, code) and how often."""


def mk_tally(codes: Codes) -> Tally:
    tally = Tally()
    for (source, backend, code), times in codes.items():
        service = WAREHOUSE if source.startswith("bookstore") else "bookstore"
        for _ in range(times):
            tally.count(EdgeKey(source, service, backend), code, 0.001)
    return tally


GOOD: Codes = {
    (BUYER, STORE_V1, "200"): 1800,
    (BUYER, STORE_V2, "200"): 200,
    (THIEF, "", "403"): 500,
    (STORE_V1, WAREHOUSE, "200"): 1800,
}


def mk_result(
    measured: Codes = GOOD,
    *,
    during: Codes | None = None,
    strays: Codes | None = None,
    opened: Mapping[str, int] | None = None,
) -> StepResult:
    return StepResult(
        step=CANARY,
        converged_ms=12.34,
        retries=3,
        during=Counted(mk_tally(during or {}), mk_tally(strays or {})),
        measured=Counted(mk_tally(measured), Tally(), opened or {}),
    )


def test_a_step_that_held_has_no_failures() -> None:
    """Shares within 5 standard deviations, the thief denied, everyone else answered."""
    assert failures(mk_result()) == []


@pytest.mark.parametrize(
    "result, said",
    [
        (mk_result({**GOOD, (BUYER, STORE_V2, "200"): 300}), "not within 5 standard deviations"),
        (mk_result({**GOOD, (BUYER, "bookstore-v3", "200"): 300}), "not within 5"),
        (mk_result({**GOOD, (THIEF, STORE_V1, "200"): 1}), "bookthief saw 200 instead of 403"),
        (mk_result({**GOOD, (BUYER, "", "503"): 1}), "bookbuyer saw 503 1 times after it"),
        (mk_result({**GOOD, (BUYER, "", "403"): 2}), "bookbuyer saw 403 2 times after it"),
        (mk_result({**GOOD, (THIEF, "", RESET): 1}), "bookthief saw reset"),
        (mk_result(during={(BUYER, "", RESET): 1}), "bookbuyer saw reset 1 times during"),
        (mk_result(during={(THIEF, "", "503"): 1}), "bookthief saw 503 1 times during"),
        (mk_result(strays={(STORE_V1, "", "502"): 1}), "bookstore-v1 saw 502"),
        (mk_result(opened={THIEF: 1}), "bookthief had to open 1 new connections"),
    ],
)
def test_whatever_did_not_hold_is_said(result: StepResult, said: str) -> None:
    """Wrong shares, wrong codes, failures at any moment and reconnections are failures."""
    assert said in "\n".join(failures(result))


def test_during_a_change_the_thief_may_see_either_code() -> None:
    """Until the last ACK both the old and the new answer are right."""
    assert failures(mk_result(during={(THIEF, "", "403"): 1, (THIEF, STORE_V1, "200"): 1})) == []


def test_a_share_of_nothing_is_exact() -> None:
    """A weight of 0 has no deviation: one request is one too many."""
    step = next(step for step in STEPS if step.name == "v2 only")
    result = mk_result({(BUYER, STORE_V1, "200"): 1, (BUYER, STORE_V2, "200"): 2000})
    moved = StepResult(
        step=step, converged_ms=1, retries=0, during=Counted(), measured=result.measured
    )

    assert any(STORE_V1 in failure for failure in failures(moved))


def test_the_report_has_the_documented_shape() -> None:
    """Steps with change, time, retries and edges; no backend where no application answered."""
    report = json.loads(json.dumps(to_json([mk_result()])))

    assert list(report) == ["steps"]
    [step] = report["steps"]
    assert {name: step[name] for name in ("name", "converged_ms", "retries")} == {
        "name": "canary",
        "converged_ms": 12.3,
        "retries": 3,
    }
    assert step["change"] == CANARY.change
    assert {frozenset(edge) for edge in step["edges"]} == {
        frozenset({"source", "service", "backend", "requests", "codes", "p50_ms", "p99_ms"})
    }
    denied = next(edge for edge in step["edges"] if edge["source"] == THIEF)
    assert denied["backend"] is None
    assert denied["codes"] == {"403": 500}
    assert denied["p50_ms"] == pytest.approx(1, rel=0.02)
