"""The discovery envelopes on the wire: requests read by upb, responses joined once from bytes.

Nothing is encoded per stream: a `Response` is one object for all streams that are told the same,
and its bytes are kept beside it. Resources are copied in as they are; they were encoded before.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from google.protobuf.message import DecodeError

from smi_xds.ads.session import DeltaRequest, Node, Response, SotwRequest
from smi_xds.values import TypeUrl
from smi_xds.xds import envelopes as types
from smi_xds.xds.descriptors import envelopes
from smi_xds.xds.resources import TYPES, Resource
from smi_xds.xds.wire import DELIMITED, delimited, tag

_NOTHING_KNOWN: Final[Mapping[str, str]] = MappingProxyType({})

_M = TypeVar("_M", bound=types.Wire)
_R = TypeVar("_R", SotwRequest, DeltaRequest)

_TYPE_URLS: Final = {url: url for url in TYPES}

# Fields of DiscoveryResponse, DeltaDiscoveryResponse, Resource, Any and ControlPlane
# (envoy/service/discovery/v3/discovery.proto); the two responses share the numbers up to 5.
_VERSION_INFO: Final = tag(1, DELIMITED)
_RESOURCES: Final = tag(2, DELIMITED)
_TYPE_URL: Final = tag(4, DELIMITED)
_NONCE: Final = tag(5, DELIMITED)
_SOTW_CONTROL_PLANE: Final = tag(6, DELIMITED)
_DELTA_REMOVED: Final = tag(6, DELIMITED)
_DELTA_CONTROL_PLANE: Final = tag(7, DELIMITED)
_RESOURCE_VERSION: Final = tag(1, DELIMITED)
_RESOURCE_BODY: Final = tag(2, DELIMITED)
_RESOURCE_NAME: Final = tag(3, DELIMITED)
_ANY_TYPE_URL: Final = tag(1, DELIMITED)
_ANY_VALUE: Final = tag(2, DELIMITED)
_IDENTIFIER: Final = tag(1, DELIMITED)

# Bytes of responses that are kept for the streams still to be told the same. While a reconnect
# storm lasts that is one body per class of proxies and type.
_KEPT_BYTES: Final = 64 << 20

# How many requests are remembered, and of what size: what is larger holds a node. The longest
# lists of the shortest names would take 40 MB, those of real clients less than one.
_REMEMBERED: Final = 64
_REMEMBERED_BYTES: Final = 32 << 10
_LONGEST_AGENT: Final = 100
# Names in one request. More than may be asked for (`MAX_HELD`), if each were there but once.
_MOST_NAMES: Final = 100_000
# Envoy names each resource that it refuses, and repeats some; nobody else has more to say.
_LONGEST_ERROR: Final = 256 << 10


class MalformedError(ValueError):
    """What a client sent is no discovery request."""


def read_sotw(raw: bytes, *, with_node: bool = False) -> SotwRequest:
    """Read a DiscoveryRequest; the node, which takes 60 kB, only where it is asked for."""
    message = _parse(envelopes().discovery_request, raw)
    names = message.resource_names
    _check_number(len(names))
    return SotwRequest(
        _type_url(message.type_url),
        tuple(names) if names else (),
        message.version_info,
        message.response_nonce,
        _error(message),
        _node(message) if with_node else None,
    )


def read_delta(raw: bytes, *, with_node: bool = False) -> DeltaRequest:
    """Read a DeltaDiscoveryRequest, in the same way."""
    message = _parse(envelopes().delta_discovery_request, raw)
    asked, gone = message.resource_names_subscribe, message.resource_names_unsubscribe
    known = message.initial_resource_versions
    _check_number(len(asked) + len(gone) + len(known))
    return DeltaRequest(
        _type_url(message.type_url),
        tuple(asked) if asked else (),
        tuple(gone) if gone else (),
        dict(known) if known else _NOTHING_KNOWN,
        message.response_nonce,
        _error(message),
        _node(message) if with_node else None,
    )


def remembering(read: Callable[[bytes], _R]) -> Callable[[bytes], _R]:
    """
    That function, at once where it lately read the same.

    Proxies that were told the same acknowledge it in the same bytes: in state of the world all the
    names are in them.
    """
    remembered = lru_cache(_REMEMBERED)(read)

    def read_again(raw: bytes) -> _R:
        return remembered(raw) if len(raw) <= _REMEMBERED_BYTES else read(raw)

    return read_again


_Envelope: TypeAlias = types.DiscoveryRequest | types.DeltaDiscoveryRequest


def _parse(kind: type[_M], raw: bytes) -> _M:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise MalformedError("the message is no discovery request") from error


def _check_number(names: int) -> None:
    """Before they are made strings of Python, which take twenty times as much as the shortest."""
    if names > _MOST_NAMES:
        raise MalformedError(f"the message names {names} resources, and may name {_MOST_NAMES}")


def _type_url(text: str) -> TypeUrl:
    return _TYPE_URLS.get(TypeUrl(text), TypeUrl(text))


def _error(message: _Envelope) -> str | None:
    """The text of a NACK; it is the presence of the field that makes one (S4)."""
    if not message.HasField("error_detail"):
        return None
    detail = message.error_detail
    return detail.message[:_LONGEST_ERROR] or f"status code {detail.code}"


def _node(message: _Envelope) -> Node | None:
    if not message.HasField("node"):
        return None
    node = message.node
    # For people; it is kept as long as the stream.
    return Node(node.id, node.user_agent_name[:_LONGEST_AGENT])


# ---------------------------------------------------------------------- responses


class Bodies:
    """
    The bytes of responses, each joined once; `join` words them in one dialect.

    An observer of rounds: what was not sent for a whole round is forgotten, as sessions do.
    """

    __slots__ = ("_identifier", "_kept", "_old", "_size")

    def __init__(self, identifier: str) -> None:
        self._identifier = delimited(_IDENTIFIER, identifier.encode())
        self._kept: OrderedDict[Response, bytes] = OrderedDict()
        self._old: OrderedDict[Response, bytes] = OrderedDict()
        self._size = 0

    def get(self, response: Response, join: Callable[[Response, bytes], bytes]) -> bytes:
        """The bytes of this response, the very same object for every stream."""
        body = self._kept.get(response)
        if body is None:
            body = self._old.pop(response, None) or join(response, self._identifier)
            self._kept[response] = body
            self._size += len(body)
            while self._size > _KEPT_BYTES and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])
        return body

    def round_begins(self, number: int, since: float | None = None) -> None:  # noqa: ARG002 - as all observers
        """Most will be told something else from now on."""
        self._old, self._kept, self._size = self._kept, OrderedDict(), 0

    def round_published(self, number: int) -> None:
        """Nothing is left to do."""


def join_delta(response: Response, control_plane: bytes) -> bytes:
    """A DeltaDiscoveryResponse."""
    url = response.type.encode()
    any_head = delimited(_ANY_TYPE_URL, url)
    resources = (
        delimited(_RESOURCES, _delta_resource(each, any_head)) for each in response.resources
    )
    removed = (delimited(_DELTA_REMOVED, name.encode()) for name in response.removed)
    return _join(
        response, url, (*resources, *removed), delimited(_DELTA_CONTROL_PLANE, control_plane)
    )


def _delta_resource(resource: Resource, any_head: bytes) -> bytes:
    body = any_head + delimited(_ANY_VALUE, resource.body)
    return b"".join(
        (
            delimited(_RESOURCE_VERSION, resource.version.encode()),
            delimited(_RESOURCE_BODY, body),
            delimited(_RESOURCE_NAME, resource.name.encode()),
        )
    )


def join_sotw(response: Response, control_plane: bytes) -> bytes:
    """A DiscoveryResponse."""
    url = response.type.encode()
    any_head = delimited(_ANY_TYPE_URL, url)
    resources = (
        delimited(_RESOURCES, any_head + delimited(_ANY_VALUE, each.body))
        for each in response.resources
    )
    return _join(response, url, resources, delimited(_SOTW_CONTROL_PLANE, control_plane))


def _join(response: Response, url: bytes, parts: Iterable[bytes], control_plane: bytes) -> bytes:
    head = delimited(_VERSION_INFO, response.version.encode())
    tail = (delimited(_TYPE_URL, url), delimited(_NONCE, response.nonce.encode()), control_plane)
    return b"".join((head, *parts, *tail))
