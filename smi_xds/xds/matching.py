"""A condition on requests, as a route match and as an RBAC permission.

Path expressions are anchored at the start alone (traffic-specs, "pathRegex"), Envoy matches in
full: `(?:re).*`. The query is no part of the path in either. Paths are normalised before.
"""

from envoy_data_plane.envoy.config.rbac.v3 import Permission, PermissionSet
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, RouteMatch
from envoy_data_plane.envoy.type.matcher.v3 import PathMatcher, RegexMatcher, StringMatcher

from smi_xds.mesh.model import HttpMatch


def route_match(match: HttpMatch | None) -> RouteMatch:
    """The match of a route; None matches everything."""
    if match is None:
        return RouteMatch(prefix="/")
    headers = _headers(match)
    if match.path is None:
        return RouteMatch(prefix="/", headers=headers)
    return RouteMatch(safe_regex=RegexMatcher(regex=_anchored(match.path)), headers=headers)


def permission(match: HttpMatch) -> Permission:
    """The permission of an RBAC policy: every part must hold."""
    rules = [Permission(header=header) for header in _headers(match)]
    if match.path is not None:
        rules.insert(0, Permission(url_path=PathMatcher(path=_regex(_anchored(match.path)))))
    if not rules:
        return Permission(any=True)
    return rules[0] if len(rules) == 1 else Permission(and_rules=PermissionSet(rules=rules))


def _headers(match: HttpMatch) -> list[HeaderMatcher]:
    headers = []
    if match.methods:
        headers.append(HeaderMatcher(name=":method", string_match=_regex("|".join(match.methods))))
    for name, regex in match.headers:
        if name in ("host", ":authority"):
            # HTTP/2 has no Host header. A port is no part of what the user wrote.
            headers.append(
                HeaderMatcher(name=":authority", string_match=_regex(f"(?:{regex})(?::[0-9]+)?"))
            )
        else:
            headers.append(HeaderMatcher(name=name, string_match=_regex(f"(?:{regex})")))
    return headers


def _anchored(regex: str) -> str:
    return f"(?:{regex}).*"


def _regex(regex: str) -> StringMatcher:
    return StringMatcher(safe_regex=RegexMatcher(regex=regex))
