"""What became of an object, in words."""

from collections.abc import Sequence

import pytest

from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, ProxyId
from smi_xds.writeback.conditions import (
    Condition,
    Conditions,
    Tally,
    Truth,
    Type,
    conditions_of,
    is_told,
    is_told_in_essence,
    merged,
)

SPLIT = ObjectRef("TrafficSplit", "shop", "web")
WELL = Tally(configured=2, connected=2, applied=2)
A, B = ProxyId("shop", "a"), ProxyId("shop", "b")
LONG_AGO, NOW = "2020-01-01T00:00:00Z", "2027-01-15T08:00:00Z"


def mk_problem(code: ProblemCode, field: str = "spec.x", message: str = "It is so.") -> Problem:
    return Problem(SPLIT, field, code, message, "Mend it.")


def of(
    generation: int,
    problems: Sequence[Problem],
    tally: Tally,
    *,
    namespace: str = "shop",
    is_read: bool = True,
) -> Conditions:
    return conditions_of(generation, problems, tally, namespace=namespace, is_read=is_read)


def said(conditions: Conditions) -> dict[Type, tuple[Truth, str]]:
    return {it.type: (it.status, it.reason) for it in conditions}


def message(conditions: Conditions, type_: Type) -> str:
    return next(it.message for it in conditions if it.type is type_)


def test_all_is_well() -> None:
    """Types and reasons are those of the Gateway API."""
    found = of(7, (), WELL)

    assert said(found) == {
        Type.ACCEPTED: (Truth.TRUE, "Accepted"),
        Type.RESOLVED_REFS: (Truth.TRUE, "ResolvedRefs"),
        Type.PROGRAMMED: (Truth.TRUE, "Programmed"),
    }
    assert {it.generation for it in found} == {7}
    assert message(found, Type.PROGRAMMED) == "Applied on 2 of 2 proxies."


@pytest.mark.parametrize(
    "code, wrong",
    [
        (ProblemCode.NO_BACKENDS, Type.ACCEPTED),
        (ProblemCode.INVALID_REGEX, Type.ACCEPTED),
        (ProblemCode.SHADOWED_SPLIT, Type.ACCEPTED),
        (ProblemCode.UNKNOWN_KIND, Type.ACCEPTED),
        (ProblemCode.MISSING_ROUTE, Type.RESOLVED_REFS),
        (ProblemCode.MISSING_MATCH, Type.RESOLVED_REFS),
        (ProblemCode.MISSING_SERVICE, Type.RESOLVED_REFS),
        (ProblemCode.MISSING_BACKEND, Type.RESOLVED_REFS),
        (ProblemCode.MISSING_IDENTITY_BINDING, Type.RESOLVED_REFS),
        # A warning, and a name that leads nowhere all the same.
        (ProblemCode.MISSING_SERVICE_ACCOUNT, Type.RESOLVED_REFS),
    ],
)
def test_which_problem_makes_which_condition_false(code: ProblemCode, wrong: Type) -> None:
    """Its reason is the code; the others hold."""
    found = of(1, [mk_problem(code)], WELL)

    assert {type_: it for type_, it in said(found).items() if it[0] is not Truth.TRUE} == {
        wrong: (Truth.FALSE, code.value)
    }
    assert message(found, wrong) == f"spec.x: It is so. Mend it. [{code}]"


def test_warnings_are_told_and_change_nothing() -> None:
    """In the message of Accepted."""
    found = of(1, [mk_problem(ProblemCode.NEGATIVE_WEIGHT)], WELL)

    assert said(found)[Type.ACCEPTED] == (Truth.TRUE, "Accepted")
    assert message(found, Type.ACCEPTED) == (
        "It is understood. spec.x: It is so. Mend it. [NegativeWeight]"
    )


def test_the_first_error_is_the_reason() -> None:
    """Errors are told before warnings, each with a number."""
    problems = [
        mk_problem(ProblemCode.NEGATIVE_WEIGHT, "spec.a"),
        mk_problem(ProblemCode.NO_WEIGHT, ""),
        mk_problem(ProblemCode.MATCHES_ON_TCP, "spec.c", "No full stop"),
    ]
    found = of(1, problems, WELL)

    assert said(found)[Type.ACCEPTED] == (Truth.FALSE, "NoWeight")
    assert message(found, Type.ACCEPTED) == (
        "(1) It is so. Mend it. [NoWeight] "
        "(2) spec.c: No full stop. Mend it. [MatchesOnTCP] "
        "(3) spec.a: It is so. Mend it. [NegativeWeight]"
    )


def test_many_problems_and_long_ones_are_cut() -> None:
    """The API server takes 32768 characters, and people read less."""
    many = [mk_problem(ProblemCode.MISSING_BACKEND, f"spec.backends[{i}]") for i in range(8)]
    long = [mk_problem(ProblemCode.INVALID_REGEX, message="x" * 5000)]

    assert message(of(1, many, WELL), Type.RESOLVED_REFS).endswith("(6) 3 more: see smi-xds check.")
    assert len(message(of(1, long, WELL), Type.ACCEPTED)) == 4000


@pytest.mark.parametrize(
    "tally, status, reason, text",
    [
        (Tally(), Truth.UNKNOWN, "NoProxies", "It concerns no proxy that is connected."),
        (
            Tally(configured=1),
            *(Truth.UNKNOWN, "NoProxies"),
            "It concerns no proxy that is connected. 1 is not connected.",
        ),
        (
            Tally(configured=5, connected=3, applied=1, waiting=B),
            *(Truth.FALSE, "Pending"),
            "Applied on 1 of 3 proxies; shop/b has not answered yet. 2 more are not connected.",
        ),
        (
            Tally(configured=3, connected=3, applied=1, waiting=B, refusing=A, error="bad\n  it"),
            *(Truth.FALSE, "Rejected"),
            "Applied on 1 of 3 proxies; shop/a refuses what it was sent: bad it",
        ),
    ],
)
def test_what_proxies_make_of_it(tally: Tally, status: Truth, reason: str, text: str) -> None:
    """The first one that refuses, or owes an answer, is named."""
    found = of(1, (), tally)

    assert said(found)[Type.PROGRAMMED] == (status, reason)
    assert message(found, Type.PROGRAMMED) == text


@pytest.mark.parametrize(
    "tally, text",
    [
        (
            Tally(configured=1, connected=1, waiting=A),
            "Applied on 0 of 1 proxies; a proxy in shop has not answered yet.",
        ),
        (
            Tally(configured=1, connected=1, refusing=A, error="it has a secret name"),
            "Applied on 0 of 1 proxies; a proxy in shop refuses what it was sent.",
        ),
    ],
)
def test_proxies_of_other_namespaces_are_not_named(tally: Tally, text: str) -> None:
    """Who may read the object may not be one to know of them."""
    assert message(of(1, (), tally, namespace="elsewhere"), Type.PROGRAMMED) == text


def test_the_error_of_a_proxy_is_cut() -> None:
    """Envoy repeats whole resources in some."""
    tally = Tally(configured=1, connected=1, refusing=A, error="x" * 3000)

    assert len(message(of(1, (), tally), Type.PROGRAMMED)) < 600


def test_what_cannot_be_read_is_not_programmed() -> None:
    """For the reason for which it is not accepted, whatever proxies have."""
    problems = [mk_problem(ProblemCode.INVALID_OBJECT)]
    found = of(4, problems, WELL, is_read=False)

    assert said(found) == {
        Type.ACCEPTED: (Truth.FALSE, "InvalidObject"),
        Type.RESOLVED_REFS: (Truth.TRUE, "ResolvedRefs"),
        Type.PROGRAMMED: (Truth.FALSE, "InvalidObject"),
    }


def test_times_are_those_of_changes() -> None:
    """A condition whose status stays keeps its time, whatever else of it changes."""
    problems = [mk_problem(ProblemCode.MISSING_BACKEND)]
    before = merged(of(1, problems, WELL), [], now=LONG_AGO)
    after = merged(of(2, (), WELL), before, now=NOW)

    assert {it["lastTransitionTime"] for it in before} == {LONG_AGO}
    assert {it["type"]: it["lastTransitionTime"] for it in after} == {
        "Accepted": LONG_AGO,
        "ResolvedRefs": NOW,
        "Programmed": LONG_AGO,
    }
    assert after[0] == {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "It is understood.",
        "observedGeneration": 2,
        "lastTransitionTime": LONG_AGO,
    }


def test_conditions_of_others_stay() -> None:
    """Ours come first."""
    theirs = {"type": "Ready", "status": "True"}
    found = merged(of(1, (), WELL), [theirs], now=NOW)

    assert [it["type"] for it in found] == ["Accepted", "ResolvedRefs", "Programmed", "Ready"]
    assert found[-1] == theirs


def test_what_is_told_already() -> None:
    """In full, or but for the words."""
    wanted = of(1, (), WELL)
    told = merged(wanted, [{"type": "Ready"}], now=NOW)
    more = of(1, (), Tally(configured=3, connected=3, applied=3))
    later = of(2, (), WELL)

    assert is_told(wanted, told)
    assert (is_told(more, told), is_told_in_essence(more, told)) == (False, True)
    assert (is_told(later, told), is_told_in_essence(later, told)) == (False, False)
    assert not is_told(wanted, [])


def test_the_essence_is_all_but_the_words() -> None:
    """What makes a write urgent."""
    one = Condition(
        type=Type.ACCEPTED, status=Truth.TRUE, reason="Accepted", message="a", generation=1
    )

    assert one.essence == (Type.ACCEPTED, Truth.TRUE, "Accepted", 1)
