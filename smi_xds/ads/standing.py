"""How each proxy stands, in one word; and what is wrong with what it was sent."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from smi_xds.ads.cache import Cache
from smi_xds.ads.meters import GRPC_LIMIT, type_label
from smi_xds.ads.status import Status, StreamStatus, Sync
from smi_xds.metrics import Gauge
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef, TypeUrl


class Standing(StrEnum):
    """The worst that is true of any type on any of its streams."""

    SYNCED = "synced"
    STALE = "stale"
    NACKED = "nacked"
    IDLE = "idle"
    """Connected, and there was nothing to send yet."""
    NOT_CONNECTED = "not_connected"
    """Configured, and not connected to this server."""


def standing(streams: Iterable[StreamStatus]) -> Standing:
    """How a proxy with these streams stands."""
    connected = tuple(streams)
    if not connected:
        return Standing.NOT_CONNECTED
    seen = {status.sync for stream in connected for status in stream.types.values()}
    if Sync.NACKED in seen:
        return Standing.NACKED
    if Sync.STALE in seen or any(stream.behind_since for stream in connected):
        return Standing.STALE
    return Standing.SYNCED if Sync.SYNCED in seen else Standing.IDLE


def proxies(cache: Cache, status: Status) -> Mapping[str, Sequence[StreamStatus]]:
    """The streams of every node that is configured or connected, sorted by node."""
    found: dict[str, list[StreamStatus]] = {node: [] for node in cache.nodes}
    for stream in status.streams.values():
        found.setdefault(stream.node.id, []).append(stream)
    return dict(sorted(found.items()))


def gauges(cache: Cache, status: Status) -> tuple[Gauge, ...]:
    """What there is at the moment, for metrics."""

    def by_state() -> Mapping[str, float]:
        counts: dict[str, float] = dict.fromkeys(map(str, Standing), 0)
        for streams in proxies(cache, status).values():
            counts[standing(streams).value] += 1
        return counts

    return (
        Gauge("smi_xds_streams", "Open streams.", lambda: {"": len(status.streams)}),
        Gauge("smi_xds_proxies", "Proxies by their worst state.", by_state, "state"),
    )


_CURE: Final = (
    "Envoy takes it; for a gRPC client raise its limit (grpc.max_receive_message_length), or give "
    "the proxy less: fewer services that it may call, or delta xDS instead of state of the world."
)


def oversized(status: Status) -> Sequence[Problem]:
    """Proxies whose last response of some type was larger than gRPC's own clients take (E8)."""
    found = {
        _oversized(stream.node.id, type_, each.last_bytes)
        for stream in status.streams.values()
        for type_, each in stream.types.items()
        if each.last_bytes > GRPC_LIMIT
    }
    return sorted(found)


def _oversized(node: str, type_: TypeUrl, size: int) -> Problem:
    namespace, _, name = node.rpartition("/")
    return Problem(
        ref=ObjectRef("Proxy", namespace, name),
        field=type_label(type_),
        code=ProblemCode.OVERSIZED_RESPONSE,
        message=f"its last response of this type has {size / (1 << 20):.1f} MiB, and gRPC's own "
        "clients refuse more than 4 MiB unless told otherwise.",
        cure=_CURE,
    )
