"""An explanation for people: the verdict first, then why, then where it goes."""

from collections.abc import Iterator
from textwrap import fill
from typing import Final

from smi_xds.cli.asking import Json
from smi_xds.values import SpiffeId

_WORDS: Final = {
    "allowed": "ALLOWED",
    "denied": "DENIED",
    "partly": "PARTLY ALLOWED",
    "nowhere": "NOWHERE TO GO",
}

_WIDTH: Final = 100


def to_text(answer: Json) -> str:
    """All of it."""
    return "\n".join(_lines(answer))


def _lines(answer: Json) -> Iterator[str]:
    source = _account(answer["source"]) or "a caller outside the mesh"
    to = f"{answer['service']}:{answer['port']} ({answer['protocol']})"
    yield f"{_WORDS[answer['verdict']]}: {source} -> {to}"
    if request := answer.get("request"):
        yield f"  {_request(request)}"
    yield from _wrapped(answer["why"], indent=2)
    if answer["branches"]:
        yield ""
        yield from _way(answer)
    for passed in answer["passed_splits"]:
        yield from _wrapped(f"TrafficSplit {passed['name']} does not decide: {passed['why']}", 2)
    if answer["notes"]:
        yield ""
    for note in answer["notes"]:
        yield from _wrapped(f"Note: {note}", indent=2)


def _account(identity: str) -> str:
    """`NAMESPACE/ACCOUNT` where it is one."""
    return str(SpiffeId.parse(identity).service_account or identity) if identity else ""


def _request(request: Json) -> str:
    text = f"{request['method']} {request['path']} for {request['host']}"
    paths = {request["routed_path"], request["judged_path"]}
    if paths != {request["path"].partition("?")[0]}:
        text += f", judged as {request['judged_path']}"
    headers = [f"{name}: {value}" for name, value in request["headers"].items()]
    return ", ".join([text, *headers])


def _way(answer: Json) -> Iterator[str]:
    split = answer["split"]
    if split["name"]:
        by = f" by match {split['match']} of HTTPRouteGroup {split['group']}" * bool(split["match"])
        yield f"  TrafficSplit {split['name']} decides where it goes{by}:"
    for branch in answer["branches"]:
        share = f"{branch['share']:g}%"
        yield f"  {share:>6} {branch['service']}: {branch['verdict']}"
        for destination in branch["destinations"]:
            yield from _destination(destination, answer["why"])


def _destination(destination: Json, why: str) -> Iterator[str]:
    names = ", ".join(destination["workloads"]) or "outside the mesh"
    modes = f"access {destination['access']}, mTLS {destination['mtls']}, "
    facts = f"{modes * bool(destination['access'])}{destination['ready']} ready"
    yield from _wrapped(
        f"{destination['verdict']} at {destination['protocol']} port {destination['port']} of "
        f"{names} ({facts})",
        indent=9,
    )
    if destination["why"] != why:
        yield from _wrapped(destination["why"], indent=11)
    for other in destination["allowed_by"][1:]:
        match = f", match {other['match']}" if other["match"] else ""
        yield f"           also by TrafficTarget {other['target']}: {other['rule']}{match}"
    # What is said above need not be said again.
    for miss in destination["nearest"][destination["why"] == why :]:
        yield f"           TrafficTarget {miss['target']} fails:"
        for reason in miss["reasons"]:
            yield from _wrapped(f"- {reason}", indent=13)


def _wrapped(text: str, indent: int) -> Iterator[str]:
    first = " " * indent
    later = first + "  " * text.startswith("- ")
    yield from fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    ).splitlines()
