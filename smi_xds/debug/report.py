"""What the account of streams, the cache and the mesh say, in the words of the debug API."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import DecodeError

from smi_xds import problems
from smi_xds._proto.google.protobuf import Struct
from smi_xds._proto.smi_xds.debug.v1 import (
    Event,
    EventKind,
    Mode,
    Problem,
    Proxy,
    Resource,
    State,
    Stream,
    TypeState,
)
from smi_xds.ads.feed import Happening
from smi_xds.ads.standing import standing
from smi_xds.ads.status import Status, StreamStatus, TypeStatus
from smi_xds.values import TypeUrl
from smi_xds.xds import resources
from smi_xds.xds.dump import resource_json
from smi_xds.xds.resources import TYPES


def proxy(
    node: str, streams: Iterable[StreamStatus], *, is_configured: bool, status: Status
) -> Proxy:
    """One proxy, without its resources."""
    connected = tuple(streams)
    return Proxy(
        node=node,
        state=State[standing(connected).name],
        configured=is_configured,
        streams=[_stream(each, status) for each in connected],
    )


def _stream(stream: StreamStatus, status: Status) -> Stream:
    never_asked = TypeStatus()
    asked = stream.types
    return Stream(
        number=stream.number,
        mode=Mode.DELTA if stream.is_delta else Mode.SOTW,
        peer=stream.peer,
        user_agent=stream.node.user_agent,
        connected_since=_time(stream.connected_at),
        last_change=_time(stream.changed_at),
        types=[
            _type_state(type_, asked.get(type_, never_asked), status, was_asked=type_ in asked)
            for type_ in dict.fromkeys((*TYPES, *asked))
        ],
    )


def _type_state(type_: TypeUrl, each: TypeStatus, status: Status, *, was_asked: bool) -> TypeState:
    epoch = status.wall_time(0.0)  # once: two looks at the clocks differ by microseconds

    def when(at: float) -> datetime | None:
        return _time(epoch + at) if at else None

    return TypeState(
        type=word(type_),
        type_url=type_,
        state=State[each.sync.name] if was_asked else State.NOT_ASKED,
        nonce_sent=each.nonce_sent,
        version_sent=each.version_sent,
        sent_at=when(each.sent_at),
        nonce_acked=each.nonce_acked,
        version_acked=each.version_acked,
        acked_at=when(each.acked_at),
        nonce_nacked=each.nonce_nacked,
        nacked_at=when(each.nacked_at),
        error=each.error,
        refused=sorted(each.refused),
        last_change=when(max(each.sent_at, each.acked_at, each.nacked_at)),
        responses=each.responses,
        acks=each.acks,
        nacks=each.nacks,
        stale_nonces=each.stale,
        bytes=each.bytes,
        last_bytes=each.last_bytes,
    )


# What json_format and upb raise where a body, or what is packed in it, is of a type that nobody
# here has imported.
_UNSHOWABLE: Final = (ValueError, TypeError, DecodeError)


def resource(each: resources.Resource) -> Resource:
    """A resource as JSON, with its secrets redacted."""
    try:
        content = resource_json(each)
    except _UNSHOWABLE as error:
        content = {"error": f"cannot be shown as JSON: {error}"}
    return Resource(
        type=word(each.type),
        name=each.name,
        version=each.version,
        content=Struct.from_dict(content),
    )


def problem(each: problems.Problem) -> Problem:
    """A problem, field by field."""
    return Problem(
        severity=each.code.severity.value,
        code=each.code.value,
        kind=each.ref.kind,
        namespace=each.ref.namespace,
        name=each.ref.name,
        field=each.field,
        message=each.message,
        cure=each.cure,
    )


def event(happening: Happening) -> Event:
    """What happened."""
    return Event(
        kind=EventKind[happening.kind.name],
        at=_time(happening.at),
        node=happening.node,
        stream=happening.stream,
        type=word(happening.type),
        nonce=happening.nonce,
        version=happening.version,
        error=happening.error,
        bytes=happening.size,
        round=happening.round,
    )


def word(type_: str) -> str:
    """The last word of a type URL."""
    return type_.rpartition(".")[2]


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
