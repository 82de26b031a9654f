"""A request as the sidecars on its way see it, and whether a match holds for it.

The expressions are wrapped and evaluated as `xds.matching` has Envoy do it, by the same RE2.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import re2

from smi_xds.mesh.explain_path import NormalPath, normalise
from smi_xds.mesh.explain_values import Question, Request
from smi_xds.mesh.matches import METHODS
from smi_xds.mesh.model import HttpMatch

_AUTHORITY: Final = ("host", ":authority")


def refusal(question: Question) -> str:
    """Why every sidecar refuses such a request, whoever sends it; empty where none does."""
    if question.method == "CONNECT":
        return "A sidecar carries no CONNECT requests: it answers 404."
    if reason := normalise(question.path).refused:
        return f"The path cannot be requested: {reason}; a sidecar answers 400."
    headers = joined(question.headers)
    tokens = [token.strip().lower() for token in headers.get("connection", "").split(",")]
    wanted = headers.get("upgrade", "").lower()
    # Envoy ignores an upgrade to h2c, and serves the request as it is.
    if "upgrade" in tokens and wanted not in ("", "websocket", "h2c"):
        return f"A sidecar upgrades no connection to {wanted}, but to websocket: it answers 403."
    return ""


def judged(question: Question, *, in_mesh: bool) -> Request:
    """The request as it is routed and judged; only callers in the mesh have a sidecar."""
    first = normalise(question.path)
    second = normalise(first.text) if in_mesh else first
    headers = joined(question.headers)
    host = headers.pop("host", "") or headers.pop(":authority", "") or _host(question)
    return Request(
        method=question.method,
        path=question.path,
        routed_path=first.judged,
        judged_path=second.judged,
        redirect=_redirect(first),
        host=_without_dot(host),
        headers=headers,
    )


def method_note(method: str) -> str:
    """What to know of a method that SMI has no word for."""
    if method in METHODS:
        return ""
    return f"Over HTTP/1.1 a sidecar answers 400 to the method {method}: it does not know it."


def fails(match: HttpMatch, request: Request, path: str) -> tuple[str, ...]:
    """Everything in a match that does not hold; empty where it holds."""
    return tuple(
        reason
        for reason in (
            _path(match.path, path),
            _method(match.methods, request.method),
            *(_header(name, regex, request) for name, regex in match.headers),
        )
        if reason
    )


def joined(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name, several values joined as Envoy's matchers read them."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.lower(), value.strip()
        found[key] = f"{found[key]},{text}" if key in found else text
    return found


def _host(question: Question) -> str:
    pod = f"{question.pod}." if question.pod else ""
    host = f"{pod}{question.service.name}.{question.service.namespace}"
    return host if question.port == 80 else f"{host}:{question.port}"


def _without_dot(host: str) -> str:
    """As `strip_trailing_host_dot` leaves it."""
    name, colon, port = host.partition(":")
    return name.removesuffix(".") + colon + port


def _redirect(path: NormalPath) -> str:
    return path.text if path.redirected else ""


def _path(regex: str | None, path: str) -> str:
    if regex is None or _holds(f"(?:{regex}).*", path):
        return ""
    return f"the path {path} does not begin with a match of {regex!r}"


def _method(methods: tuple[str, ...], method: str) -> str:
    if not methods or method in methods:
        return ""
    return f"the method {method} is not {' or '.join(methods)}"


def _header(name: str, regex: str, request: Request) -> str:
    if name in _AUTHORITY:
        if _holds(f"(?:{regex})(?::[0-9]+)?", request.host):
            return ""
        return f"the host {request.host} is no match of {regex!r}"
    headers: Mapping[str, str] = request.headers
    if name not in headers:
        return f"there is no header {name}"
    if _holds(f"(?:{regex})", headers[name]):
        return ""
    return f"the header {name} is {headers[name]!r}, which is no match of {regex!r}"


def _holds(regex: str, text: str) -> bool:
    return _compiled(regex).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _compiled(regex: str) -> Any:
    return re2.compile(regex)
