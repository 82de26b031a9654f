"""HTTPRouteGroups and TCPRoutes as conditions.

A user's expression is compiled by RE2 alone, for `a)|(b` becomes valid once wrapped, and in a
group, for `\\Qa` (quoted to the end) becomes invalid there: an expression that Envoy refuses takes
a whole listener with it. A match that cannot be used drops out with a problem: it grants nothing,
the others stand.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import re2

from smi_xds.mesh.model import HttpMatch
from smi_xds.objects.smi import HTTPMatch, HTTPRouteGroup, TCPRoute, UDPRoute
from smi_xds.objects.versions import as_written
from smi_xds.problems import Problem, ProblemCode

# specs v1alpha1 to v1alpha4: the enum of `methods`.
METHODS = frozenset(
    {"GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)

# Envoy refuses programs over `re2.max_program_size.error_level`; the bootstrap raises it well
# above this. A program of 5,000 instructions already costs microseconds per request.
MAX_PROGRAM_SIZE = 5_000

# To find that out takes time: up to 15 ms for each 1,000 characters, in which nobody is served.
MAX_REGEX_LENGTH = 4_096

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
# Ten times what a program of that size needs: so larger ones are given up early.
_OPTIONS.max_mem = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatches:
    """The usable matches of one HTTPRouteGroup, by name, and what is wrong with the others."""

    by_name: tuple[tuple[str, HttpMatch], ...]
    problems: tuple[Problem, ...] = ()

    def select(self, names: tuple[str, ...] | None) -> tuple[HttpMatch, ...]:
        """Those of the given names; None or () selects all (specs, "matches")."""
        return tuple(match for name, match in self.by_name if not names or name in names)


def read_matches(group: HTTPRouteGroup) -> RouteMatches:
    """Every usable match of a group, in the order written."""
    usable: list[tuple[str, HttpMatch]] = []
    problems: list[Problem] = []
    for index, match in enumerate(group.matches):
        field = as_written(f"spec.matches[{index}]", group)
        wrong = _wrong(match, group, field)
        if match.name in [name for name, _ in usable]:
            problems.append(_duplicate(match, group, field))
        problems.extend(wrong)
        if not wrong:
            usable.append((match.name, _to_match(match)))
            problems.extend(_vain(match, group, field))
    if not group.matches:
        problems.append(
            Problem(
                ref=group.ref,
                field=as_written("spec.matches", group),
                code=ProblemCode.NO_MATCHES,
                message="It has no match, so a rule that names it allows nothing.",
                cure="Write a match; one with nothing but a name holds for every request.",
            )
        )
    return RouteMatches(by_name=tuple(usable), problems=tuple(problems))


def read_ports(route: TCPRoute | UDPRoute) -> tuple[int, ...] | None:
    """The ports of a TCPRoute or a UDPRoute, None for every port."""
    return tuple(sorted(set(route.ports))) if route.ports else None


def _to_match(match: HTTPMatch) -> HttpMatch:
    methods = tuple(sorted(set(match.methods or ())))
    return HttpMatch(
        path=match.path_regex or None,
        methods=() if "*" in methods else methods,
        # Header names have no case (RFC 9110, section 5.1); sorted, so that order changes nothing.
        headers=tuple(sorted((name.lower(), regex) for name, regex in match.headers or ())),
    )


def _wrong(match: HTTPMatch, group: HTTPRouteGroup, field: str) -> list[Problem]:
    problems = [
        Problem(
            ref=group.ref,
            field=f"{field}.methods",
            code=ProblemCode.INVALID_METHOD,
            message=f"{method!r} is not a method that SMI knows.",
            cure=f"Write one of {', '.join(sorted(METHODS))} or '*'.",
        )
        for method in match.methods or ()
        if method != "*" and method not in METHODS
    ]
    expressions = [(f"{field}.pathRegex", match.path_regex or "")]
    for name, regex in match.headers or ():
        expressions.append((f"{field}.headers[{name}]", regex))
        if not _is_token(name):
            problems.append(
                Problem(
                    ref=group.ref,
                    field=f"{field}.headers",
                    code=ProblemCode.INVALID_HEADER,
                    message=f"{name!r} is not a header name.",
                    cure="Write a header name of letters, digits and hyphens.",
                )
            )
    for where, regex in expressions:
        if (problem := _wrong_regex(regex, group, where)) is not None:
            problems.append(problem)
    return problems


def _vain(match: HTTPMatch, group: HTTPRouteGroup, field: str) -> Iterator[Problem]:
    """A match that no request can meet."""
    path = match.path_regex or ""
    if not _meets_a_path(path):
        yield Problem(
            ref=group.ref,
            field=f"{field}.pathRegex",
            code=ProblemCode.NEVER_HOLDS,
            message=f"{path!r} is anchored at the start, and no path begins so: paths begin with a "
            "slash.",
            cure=f"Write '/{path}', or '.*{path}' for anywhere.",
        )
    if set(match.methods or ()) == {"CONNECT"}:
        yield Problem(
            ref=group.ref,
            field=f"{field}.methods",
            code=ProblemCode.NEVER_HOLDS,
            message="Sidecars carry no CONNECT requests, so the match never holds.",
            cure="Use a TCPRoute for tunnels, or list other methods.",
        )


def _meets_a_path(regex: str) -> bool:
    """Whether any string that begins with a slash may match, as far as RE2 can tell."""
    least, most = re2.compile(f"^(?:{regex})(?s:.*)$", _OPTIONS).possiblematchrange(8)
    return bool(most >= b"/" and least < b"0")


def _wrong_regex(regex: str, group: HTTPRouteGroup, field: str) -> Problem | None:
    if len(regex) > MAX_REGEX_LENGTH:
        return Problem(
            ref=group.ref,
            field=field,
            code=ProblemCode.COSTLY_REGEX,
            message=f"The expression has {len(regex)} characters, over {MAX_REGEX_LENGTH}.",
            cure="Write a simpler expression, or several matches.",
        )
    try:
        re2.compile(regex, _OPTIONS)
        size = re2.compile(f"(?:{regex})", _OPTIONS).programsize
    except (re2.error, UnicodeError) as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        return Problem(
            ref=group.ref,
            field=field,
            code=ProblemCode.INVALID_REGEX,
            message=f"RE2 refuses the expression {regex!r}: {reason}.",
            cure="Write it in RE2 syntax: no look-around, no backreferences.",
        )
    if size > MAX_PROGRAM_SIZE:
        return Problem(
            ref=group.ref,
            field=field,
            code=ProblemCode.COSTLY_REGEX,
            message=f"The expression compiles to {size} instructions, over {MAX_PROGRAM_SIZE}.",
            cure="Write a simpler expression: smaller counts in {m,n}, fewer alternatives.",
        )
    return None


def _duplicate(match: HTTPMatch, group: HTTPRouteGroup, field: str) -> Problem:
    return Problem(
        ref=group.ref,
        field=f"{field}.name",
        code=ProblemCode.DUPLICATE_MATCH,
        message=f"The name {match.name!r} was given before; a rule that names it means both.",
        cure="Give each match a name of its own.",
    )


def _is_token(name: str) -> bool:
    # RFC 9110, section 5.6.2; a leading colon would reach for pseudo headers.
    return (
        bool(name) and all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in name)
    ) or name.lower() == ":authority"
