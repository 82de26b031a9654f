"""`smi-xds proxies`: who is connected to a running server, and how each stands."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

import click

from smi_xds.cli import asking, options
from smi_xds.cli.output import to_table
from smi_xds.config import Address
from smi_xds.problems import AskError

Json: TypeAlias = Mapping[str, Any]

_IN_TROUBLE: Final = frozenset({"STATE_STALE", "STATE_NACKED"})

# What is worse stands before; of several streams of a proxy the worst state is shown.
_STATES: Final = {
    "STATE_NACKED": "NACKED",
    "STATE_STALE": "stale",
    "STATE_SYNCED": "synced",
    "STATE_IDLE": "idle",
    "STATE_NOT_CONNECTED": "not connected",
    "STATE_NOT_ASKED": "-",
}
_ORDER: Final = tuple(_STATES)

_COLUMNS: Final = {
    "Secret": "SECRETS",
    "Cluster": "CLUSTERS",
    "ClusterLoadAssignment": "ENDPOINTS",
    "Listener": "LISTENERS",
    "RouteConfiguration": "ROUTES",
}


@click.command(short_help="Show whether proxies took what they were sent.")
@click.argument("proxy", required=False, metavar="[NAMESPACE/POD]")
@asking.servers
@options.output("table", "json", about="json: all that the debug API says.")
def proxies(servers: asking.Servers, proxy: str | None, output: str) -> int:
    """Show which proxies a running server has, and whether they took what they were sent.

    With the name of a proxy: what each of its streams was sent and acknowledged, what it refused
    and why, and the resources that it gets; with --output json in full, private keys aside.
    With --kubernetes all replicas are asked: a proxy is connected to one of them.

    \b
    synced   everything that was sent was acknowledged
    stale    something was sent and not answered yet
    NACKED   something was refused, and nothing newer was accepted since
    idle     there was nothing to send yet
    -        the proxy never asked for this type

    \b
    Examples:
      smi-xds proxies
      smi-xds proxies shop/web --server 127.0.0.1:15010
      smi-xds proxies --kubernetes --context staging
      smi-xds proxies shop/web --output json | jq '.resources[] | select(.type == "Cluster")'

    Exit code: 0 where all that was sent was acknowledged, 1 where something is stale or NACKED,
    2 where the server could not be asked or has no such proxy.
    """
    with servers.every() as addresses:
        found = merged(_all_of(addresses) if proxy is None else _known(addresses, proxy))
    shown = {"proxies": found} if proxy is None else found[0]
    now = time.time()
    text = _all(found, now=now) if proxy is None else _one(found[0], now=now)
    if output == "json":
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo("\n".join(text))
    return 1 if any(each["state"] in _IN_TROUBLE for each in found) else 0


def _all_of(addresses: Sequence[Address]) -> list[list[dict[str, Any]]]:
    from smi_xds.debug import client

    return [client.list_proxies(address) for address in addresses]


def _known(addresses: Sequence[Address], proxy: str) -> list[list[dict[str, Any]]]:
    """The answers of those who know it: one of them at least."""
    from smi_xds.debug import client

    found, refusals = [], []
    for address in addresses:
        try:
            found.append([client.get_proxy(address, proxy)])
        except AskError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found


def merged(answers: Iterable[Sequence[Json]]) -> list[Json]:
    """What several replicas say, as one: each proxy is connected to one of them, or to none."""
    found: dict[str, Json] = {}
    for proxy in (each for answer in answers for each in answer):
        one = found.setdefault(proxy["node"], proxy)
        if one is not proxy:
            found[proxy["node"]] = _both(one, proxy)
    return [found[node] for node in sorted(found)]


def _both(one: Json, other: Json) -> Json:
    connected = [each for each in (one, other) if each["streams"]] or [one]
    worst = min((each["state"] for each in connected), key=_ORDER.index)
    return {
        **connected[0],
        "state": worst,
        "configured": one["configured"] or other["configured"],
        "streams": [*one["streams"], *other["streams"]],
    }


# ------------------------------------------------------------------ all of them


def _all(proxies: Sequence[Json], *, now: float) -> Iterator[str]:
    if not proxies:
        yield "no proxies"
        return
    head = ("PROXY", "STATE", *_COLUMNS.values(), "MODE", "CONNECTED", "PEER")
    yield from to_table([head, *(_row(each, now=now) for each in proxies)])
    for proxy in proxies:
        for stream in proxy["streams"]:
            yield from (f"{proxy['node']}: {line}" for line in _refusals(stream))


def _row(proxy: Json, *, now: float) -> Sequence[str]:
    streams = proxy["streams"]
    states = [_state_of(kind, streams) for kind in _COLUMNS]
    modes = ", ".join(sorted({_mode(stream) for stream in streams}))
    since = min((_seconds(stream["connected_since"]) for stream in streams), default=None)
    peers = ", ".join(stream["peer"] for stream in streams)
    state = _STATES[proxy["state"]]
    if not proxy["configured"]:
        state += " (unknown here)"
    return (proxy["node"], state, *states, modes, _age(since, now), peers)


def _state_of(kind: str, streams: Sequence[Json]) -> str:
    states = {
        each["state"] for stream in streams for each in stream["types"] if each["type"] == kind
    }
    worst = min(states, key=_ORDER.index, default="STATE_NOT_ASKED")
    return _STATES[worst]


def _refusals(stream: Json) -> Iterator[str]:
    for each in stream["types"]:
        if each["state"] == "STATE_NACKED":
            names = f" ({', '.join(each['refused'])})" if each["refused"] else ""
            yield f"{each['type']} refused{names}: {' '.join(each['error'].split())}"


# ------------------------------------------------------------------ one of them


def _one(proxy: Json, *, now: float) -> Iterator[str]:
    configured = "" if proxy["configured"] else ", and nothing is configured for it"
    yield f"{proxy['node']}: {_STATES[proxy['state']]}{configured}"
    for stream in proxy["streams"]:
        yield ""
        yield _stream_line(stream, now=now)
        yield from to_table([_TYPE_HEAD, *(_type_row(each, now=now) for each in stream["types"])])
        yield from _refusals(stream)
    if proxy["resources"]:
        yield ""
        rows = ((each["type"], each["name"], each["version"]) for each in proxy["resources"])
        yield from to_table([("RESOURCE", "NAME", "VERSION"), *rows])


def _stream_line(stream: Json, *, now: float) -> str:
    since, change = _seconds(stream["connected_since"]), _seconds(stream["last_change"])
    who = f"{stream['user_agent']} at {stream['peer']}".removeprefix(" at ")
    return (
        f"stream {stream['number']}, {_mode(stream)}: {who}, "
        f"connected {_age(since, now)} ago, last changed {_age(change, now)} ago"
    )


_TYPE_HEAD: Final = (
    *("TYPE", "STATE", "NONCE SENT", "ACKED", "VERSION SENT", "ACKED"),
    *("LAST CHANGE", "SENT", "ACKED", "NACKED", "BYTES"),
)


def _type_row(each: Json, *, now: float) -> Sequence[str]:
    changed = each.get("last_change")
    return (
        each["type"],
        _STATES[each["state"]],
        *(each[field] for field in ("nonce_sent", "nonce_acked", "version_sent", "version_acked")),
        f"{_age(_seconds(changed), now)} ago" if changed else "",
        *(str(each[field]) for field in ("responses", "acks", "nacks", "bytes")),
    )


def _mode(stream: Json) -> str:
    return str(stream["mode"]).removeprefix("MODE_").lower()


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _age(since: float | None, now: float) -> str:
    """`7s`, `3m12s`, `5h03m`, `2d04h`."""
    if since is None:
        return ""
    seconds = max(0, round(now - since))
    for unit, size, part, word in (
        ("d", 86400, 3600, "h"),
        ("h", 3600, 60, "m"),
        ("m", 60, 1, "s"),
    ):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // part:02}{word}"
    return f"{seconds}s"
