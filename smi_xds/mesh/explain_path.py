"""Paths as Envoy judges them: `normalize_path`, `merge_slashes`, and escaped slashes unescaped.

Every sidecar on the way normalises, so a request is judged on what its caller's sidecar made of
it, normalised once more. Held equal to a real Envoy by a test.
"""

import re
from dataclasses import dataclass
from string import ascii_letters, digits, hexdigits

# RFC 3986, section 2.3: an escape of one of these says nothing that the character does not.
_UNRESERVED = frozenset(ascii_letters + digits + "-._~")

# What a canonical path has as an escape only, of those that a request may carry as they are.
_ESCAPED = frozenset('"<>^`{|}')

_ESCAPED_SLASH = re.compile(r"%2f|%5c", re.IGNORECASE)

# A dot segment with parameters is a dot segment, as servlet containers see it.
_DOTS_WITH_PARAMETERS = re.compile(r"(?<=/)(\.\.?);[^/]*")

_DOTS = re.compile(r"\.|%2e", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalPath:
    """A path (with its query) after a sidecar saw it.

    `refused` says why it was answered with 400, empty where it was not. `redirected` says that
    the sidecar does not pass it on: it answers 307 and tells the client to ask for `text`.
    """

    text: str
    redirected: bool = False
    refused: str = ""

    @property
    def judged(self) -> str:
        """What expressions are matched with: the query is no part of it."""
        return self.text.partition("?")[0]


def normalise(target: str) -> NormalPath:
    """What one sidecar makes of the target of a request."""
    path, question, query = target.partition("?")
    if reason := _refusal(target):
        return NormalPath(text=target, refused=reason)
    unescaped = _ESCAPED_SLASH.sub(lambda it: "/" if it[0].lower() == "%2f" else "\\", path)
    canonical = _canonical(_DOTS_WITH_PARAMETERS.sub(r"\1", unescaped))
    if canonical is None:
        return NormalPath(text=target, refused="it contains %00")
    text = _merged(canonical) + question + query
    return NormalPath(text=text, redirected=unescaped != path)


def _refusal(target: str) -> str:
    if not target.startswith("/"):
        return "it does not begin with a slash"
    if "#" in target:
        return "it has a fragment (#), which is never sent to a server"
    if any(not "!" <= character <= "~" for character in target):
        return "it has characters that must be percent-encoded"
    return ""


def _merged(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if "//" not in path:
        return path
    return "/" + "/".join(parts) + ("/" if path.endswith("/") else "")


def _canonical(path: str) -> str | None:
    """Dot segments resolved, escapes of unreserved characters undone; None for a NUL."""
    out: list[str] = []
    at = 0
    # Where the last percent sign that begins no escape stands in `out`.
    stray = -3
    while at < len(path):
        if (dot := _DOTS.match(path, at)) is not None:
            at = _dot(path, dot, out)
            continue
        character = path[at]
        if character == "%" and (escape := _ESCAPE.match(path, at)) is not None:
            at += 3
            meant = chr(int(escape[0][1:], 16))
            if meant == "\0":
                return None
            if meant not in _UNRESERVED:
                out.extend(escape[0])
                continue
            out.append(meant)
            if stray >= len(out) - 3:
                _defuse(out, stray, path[at : at + 1])
            continue
        if character == "%":
            stray = len(out)
        at += 1
        if character in _ESCAPED:
            out.extend(f"%{ord(character):02X}")
        else:
            out.append("/" if character == "\\" else character)
    return "".join(out)


def _dot(path: str, dot: re.Match[str], out: list[str]) -> int:
    """Take a dot; where the path goes on after it."""
    after = dot.end()
    if out[-1] == "/":
        if path[after : after + 1] in ("", "/", "\\"):
            return after + 1
        second = _DOTS.match(path, after)
        if second is not None and path[second.end() : second.end() + 1] in ("", "/", "\\"):
            while len(out) > 1 and out.pop() and out[-1] != "/":
                pass
            return second.end() + 1
    out.append(".")
    return after


def _defuse(out: list[str], stray: int, following: str) -> None:
    """A stray percent sign must not become an escape by what was unescaped after it."""
    tail = "".join(out[stray + 1 :])
    whole = (tail + following)[:2]
    if len(whole) == 2 and all(digit in hexdigits for digit in whole):
        out[stray + 1 :] = list("25" + tail)
