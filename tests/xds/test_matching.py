"""Conditions on requests, as Envoy's matchers."""

import re2

from smi_xds.mesh.model import HttpMatch
from smi_xds.xds.matching import permission, route_match
from tests.support.shown import shown

MATCH = HttpMatch(path="/a|/b", methods=("GET", "PUT"), headers=(("x-a", "1|2"),))


def regex(path: str) -> str:
    """What Envoy gets for a path expression."""
    found = shown(route_match(HttpMatch(path=path)))["safe_regex"]
    return str(found["regex"])


def test_paths_are_anchored_at_the_start_alone() -> None:
    """Envoy matches in full, SMI from the start: `/api` covers `/api/x` and `/apiary`."""
    for path in ("/api", "/api/x", "/apiary"):
        assert re2.fullmatch(regex("/api"), path)
    assert not re2.fullmatch(regex("/api"), "/v1/api")
    assert re2.fullmatch(regex("^/api$"), "/api")
    assert not re2.fullmatch(regex("^/api$"), "/apiary")


def test_alternatives_stay_within_their_expression() -> None:
    """`/a|/b` is anchored as a whole, not its last part alone."""
    assert not re2.fullmatch(regex("/a|/b"), "/c/b")
    assert re2.fullmatch(regex("/a|/b"), "/a/c")


def test_a_route_match_holds_all_parts() -> None:
    """Path, methods and headers of one match must all hold."""
    assert shown(route_match(MATCH)) == {
        "safe_regex": {"regex": "(?:/a|/b).*"},
        "headers": [
            {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|PUT"}}},
            {"name": "x-a", "string_match": {"safe_regex": {"regex": "(?:1|2)"}}},
        ],
    }


def test_a_route_without_a_path_is_for_all_paths() -> None:
    """Headers alone apply to any path; no condition at all to any request."""
    assert shown(route_match(None)) == shown(route_match(HttpMatch())) == {"prefix": "/"}
    only_headers = shown(route_match(HttpMatch(headers=(("x", "1"),))))
    assert only_headers["prefix"] == "/"
    assert only_headers["headers"]


def test_a_permission_holds_all_parts() -> None:
    """Every part of a match restricts; one part alone needs no list."""
    rules = shown(permission(MATCH))["and_rules"]
    assert len(rules["rules"]) == 3
    assert shown(permission(HttpMatch(path="/a"))) == {
        "url_path": {"path": {"safe_regex": {"regex": "(?:/a).*"}}}
    }
    assert shown(permission(HttpMatch())) == {"any": True}


def test_host_is_the_authority_without_its_port() -> None:
    """HTTP/2 has no Host header, and a port is no part of what the user wrote."""
    expected = {"safe_regex": {"regex": "(?:a|b)(?::[0-9]+)?"}}
    for name in ("host", ":authority"):
        found = shown(permission(HttpMatch(headers=((name, "a|b"),))))
        assert found == {"header": {"name": ":authority", "string_match": expected}}
    assert re2.fullmatch("(?:a|b)(?::[0-9]+)?", "b:8080")
    assert not re2.fullmatch("(?:a|b)(?::[0-9]+)?", "b.evil")
