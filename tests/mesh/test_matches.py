"""HTTPRouteGroups as conditions: what cannot be used drops out alone."""

from dataclasses import replace

import pytest

from smi_xds.mesh.matches import read_matches, read_ports
from smi_xds.mesh.model import HttpMatch
from smi_xds.objects.smi import HTTPMatch
from smi_xds.problems import ProblemCode
from tests.support.objects import mk_http_routes, mk_match, mk_tcp_route


def read(*matches: HTTPMatch) -> tuple[list[HttpMatch], list[tuple[str, ProblemCode]]]:
    found = read_matches(mk_http_routes("web", *matches))
    return [m for _, m in found.by_name], [(p.field, p.code) for p in found.problems]


@pytest.mark.parametrize(
    "written, understood",
    [
        (mk_match("m"), HttpMatch()),
        (mk_match("m", ""), HttpMatch()),
        (mk_match("m", "/a"), HttpMatch(path="/a")),
        (mk_match("m", methods=()), HttpMatch()),
        (mk_match("m", methods=("GET", "*")), HttpMatch()),
        (mk_match("m", methods=("POST", "GET", "GET")), HttpMatch(methods=("GET", "POST"))),
        (
            mk_match("m", X_B="2", X_A="1"),
            HttpMatch(headers=(("x-a", "1"), ("x-b", "2"))),
        ),
        (
            HTTPMatch(name="m", headers=((":Authority", "a"),)),
            HttpMatch(headers=((":authority", "a"),)),
        ),
    ],
)
def test_a_match_in_its_plainest_form(written: HTTPMatch, understood: HttpMatch) -> None:
    """Omitted means any; methods and headers are sorted, header names are in lower case."""
    assert read(written) == ([understood], [])


@pytest.mark.parametrize(
    "regex",
    ["(", "a)|(b", "(?=x)", r"(a)\1", "\\", r"\Qquoted to the end", "\ud800", "a{2000}"],
)
def test_expressions_that_envoy_would_refuse_drop_out(regex: str) -> None:
    """An expression is judged alone and in a group, as Envoy gets it."""
    good = mk_match("good", "/good")
    found = read(good, mk_match("bad", regex), mk_match("worse", X_A=regex))
    assert found == (
        [HttpMatch(path="/good")],
        [
            ("spec.matches[1].pathRegex", ProblemCode.INVALID_REGEX),
            ("spec.matches[2].headers[X-A]", ProblemCode.INVALID_REGEX),
        ],
    )


def test_expressions_that_cost_too_much_drop_out() -> None:
    """An expression compiled to thousands of instructions is refused before Envoy pays for it."""
    found, problems = read(mk_match("m", "a{1000}" * 6))
    assert found == []
    assert problems == [("spec.matches[0].pathRegex", ProblemCode.COSTLY_REGEX)]
    assert read(mk_match("m", "/" + "a{1000}" * 4))[1] == []


def test_expressions_that_are_too_long_are_not_even_compiled() -> None:
    """Ten thousand classes of characters take RE2 a second to refuse."""
    _, problems = read(mk_match("m", "/" + r"[\pL\pN]" * 10_000))
    assert problems == [("spec.matches[0].pathRegex", ProblemCode.COSTLY_REGEX)]


def test_unknown_methods_and_header_names_drop_the_match() -> None:
    """A match that nothing could satisfy as it is meant is told, not guessed at."""
    found, problems = read(
        mk_match("m", methods=("get",)), HTTPMatch(name="n", headers=((":path", "x"), ("", "y")))
    )
    assert found == []
    assert problems == [
        ("spec.matches[0].methods", ProblemCode.INVALID_METHOD),
        ("spec.matches[1].headers", ProblemCode.INVALID_HEADER),
        ("spec.matches[1].headers", ProblemCode.INVALID_HEADER),
    ]


def test_two_matches_of_one_name_are_both_meant() -> None:
    """The name is said to be a key, yet nothing enforces it: a rule that names it means both."""
    group = mk_http_routes("web", mk_match("m", "/a"), mk_match("m", "/b"), mk_match("n", "/c"))
    found = read_matches(group)
    assert found.select(("m",)) == (HttpMatch(path="/a"), HttpMatch(path="/b"))
    assert [p.code for p in found.problems] == [ProblemCode.DUPLICATE_MATCH]


def test_selecting_no_names_selects_all() -> None:
    """None and an empty list both mean every match; a name that is not there means none."""
    found = read_matches(mk_http_routes("web", mk_match("a"), mk_match("b", "/b")))
    assert found.select(None) == found.select(()) == (HttpMatch(), HttpMatch(path="/b"))
    assert found.select(("gone",)) == ()


def test_the_ports_of_a_route() -> None:
    """Without ports a TCPRoute means every port; with ports, those, sorted and once each."""
    assert read_ports(mk_tcp_route("r")) is None
    assert read_ports(mk_tcp_route("r", 2, 1, 2)) == (1, 2)


@pytest.mark.parametrize("path", ["api", "[a-z]+/x", "a|b", "0", "!"])
def test_a_path_that_no_request_has_is_told(path: str) -> None:
    """Expressions are anchored at the start, and paths begin with a slash."""
    found, problems = read(mk_match("m", path))

    assert problems == [("spec.matches[0].pathRegex", ProblemCode.NEVER_HOLDS)]
    assert [match.path for match in found] == [path]


@pytest.mark.parametrize("path", ["/", ".*", "(a|/b)", "^/x$", "a?/", "(?i)/A", "[^a]", "", "a*"])
def test_a_path_that_some_request_has_is_not_told(path: str) -> None:
    """As far as the expression can tell."""
    assert read(mk_match("m", path))[1] == []


def test_connect_alone_never_holds() -> None:
    """Sidecars carry no such requests; beside another method it does no harm."""
    assert read(mk_match("m", methods=("CONNECT",)))[1] == [
        ("spec.matches[0].methods", ProblemCode.NEVER_HOLDS)
    ]
    assert read(mk_match("m", methods=("CONNECT", "GET")))[1] == []


def test_a_group_without_matches_allows_nothing() -> None:
    """Omitted in a rule they would all hold; here there is none."""
    assert read() == ([], [("spec.matches", ProblemCode.NO_MATCHES)])


def test_fields_are_named_as_the_version_has_them() -> None:
    """A group of the first versions has no spec."""
    group = replace(mk_http_routes("r", mk_match("m", "(")), version="v1alpha2")
    assert [it.field for it in read_matches(group).problems] == ["matches[0].pathRegex"]
    empty = replace(group, matches=())
    assert [it.field for it in read_matches(empty).problems] == ["matches"]
