"""Problems are stable, sorted, and say where, what, why and how to mend it."""

import inspect
import re

import pytest

from smi_xds import problems
from smi_xds.problems import (
    ConfigError,
    IdentityError,
    Problem,
    ProblemCode,
    ServeError,
    Severity,
    SmiXdsError,
    SourceError,
)
from smi_xds.values import ObjectRef

SPLIT = ObjectRef("TrafficSplit", "bookstore", "canary")


def mk_problem(*, field: str = "", code: ProblemCode = ProblemCode.NO_BACKENDS) -> Problem:
    return Problem(SPLIT, field, code, "It has no backends.", "List at least one.")


def test_a_problem_is_printed_as_one_line() -> None:
    """Severity, object, field, what is wrong, its code, and the cure."""
    assert str(mk_problem(field="spec.backends")) == (
        "error: TrafficSplit bookstore/canary spec.backends: "
        "It has no backends. [NoBackends] List at least one."
    )


def test_a_problem_of_a_whole_object_names_no_field() -> None:
    """Without a field the colon follows the object."""
    assert str(mk_problem()).startswith("error: TrafficSplit bookstore/canary: It has")


def test_a_problem_that_only_tells_is_a_warning() -> None:
    """The printed severity is that of the code."""
    problem = mk_problem(code=ProblemCode.NEGATIVE_WEIGHT)

    assert str(problem).startswith("warning: ")


@pytest.mark.parametrize(
    "code, severity",
    [
        (ProblemCode.NO_SOURCES, Severity.ERROR),
        (ProblemCode.MISSING_ROUTE, Severity.ERROR),
        (ProblemCode.NO_WEIGHT, Severity.ERROR),
        (ProblemCode.DUPLICATE_BACKEND, Severity.WARNING),
        (ProblemCode.DEPRECATED_PORT, Severity.WARNING),
    ],
)
def test_a_code_knows_its_severity(code: ProblemCode, severity: Severity) -> None:
    """What voids (a part of) an object is an error."""
    assert code.severity is severity


@pytest.mark.parametrize("code", ProblemCode)
def test_a_code_is_one_word_like_its_name(code: ProblemCode) -> None:
    """Codes are part of the API: CamelCase, and the same words as in the source."""
    assert re.fullmatch(r"([A-Z][A-Za-z]*)+", code)
    assert code.name.replace("_", "").lower() == code.value.lower()


def test_problems_sort_by_object_then_field_then_code() -> None:
    """The order of the output does not depend on the order of discovery."""
    first = mk_problem(field="spec.a")
    second = mk_problem(field="spec.b", code=ProblemCode.MISSING_BACKEND)
    third = mk_problem(field="spec.b", code=ProblemCode.NO_BACKENDS)

    assert sorted([third, first, second]) == [first, second, third]


def test_every_exception_of_ours_is_of_one_tree() -> None:
    """A command that catches SmiXdsError catches all that carry one line for the user."""
    ours = {
        member
        for _, member in inspect.getmembers(problems, inspect.isclass)
        if issubclass(member, Exception)
    }

    assert ours >= {ConfigError, IdentityError, ServeError, SourceError}
    assert all(issubclass(member, SmiXdsError) for member in ours)
