"""Paths and hosts as they are judged: what a request means, whatever it looks like.

A path is judged without dot segments, doubled slashes and escapes of what needs none (RFC 3986,
sections 6.2.2 and 5.2.4). One that hides a slash in an escape is not judged at all: its sender is
redirected to what it means.
"""

import re
from dataclasses import dataclass

_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})")
_SLASH = re.compile(r"%(?:2[fF]|5[cC])")
_UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")


@dataclass(frozen=True, slots=True)
class Path:
    """A path that is judged (without its query), or the reason why it is not."""

    text: str = ""
    refusal: str = ""


def normalise(target: str) -> Path:
    """What a request target means; `refusal` is `malformed` or `redirect`."""
    if "#" in target or not target.startswith("/"):
        return Path(refusal="malformed")
    path = target.partition("?")[0]
    hidden = _SLASH.search(path) is not None
    path = _SLASH.sub("/", path).replace("\\", "/")
    if "%00" in path:
        return Path(refusal="malformed")
    path = _ESCAPE.sub(lambda m: c if (c := chr(int(m[1], 16))) in _UNRESERVED else m[0], path)
    text = re.sub("/+", "/", _without_dots(path))
    return Path(text=text, refusal="redirect" if hidden else "")


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4, for a path that begins with a slash."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        # With parameters, too: servers that know them resolve `..;x` like any other.
        match segment.partition(";")[0]:
            case "..":
                kept = kept[:-1]
            case ".":
                pass
            case _:
                kept.append(segment)
    if segments[-1].partition(";")[0] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


_HOST = re.compile(r"(?P<name>[^:]*?)\.?(?::(?P<port>[0-9]+))?")


def split_host(host: str) -> tuple[str, int | None]:
    """Name and port; the dot that ends an absolute name says nothing."""
    parts = _HOST.fullmatch(host)
    if parts is None:
        return host, None
    return parts["name"], int(parts["port"]) if parts["port"] else None
