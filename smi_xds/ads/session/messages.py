"""What goes into a session and what comes out of it: plain values, no wire format.

Requests are what a client said; events are what a request meant; a response is what the client
is to be told. The rule ids (E1, S4 …) in this package are explained in `docs/xds-rules.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from smi_xds.ads.session.pictures import Picture
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import Need, Resource

WILDCARD: Final = "*"
"""The resource name that stands for all of a type."""

LONGEST_NODE: Final = 1024
"""Characters of a node's id: those of pods have 317 at most, others are free to choose."""


@dataclass(frozen=True, slots=True)
class Node:
    """Who asks, as it said in the first request of its stream."""

    id: str
    user_agent: str = ""


# Requests are tuples: an ACK is the most frequent event of all, and a frozen dataclass takes five
# times as long to make.
class SotwRequest(NamedTuple):
    """A DiscoveryRequest; `error` is the text of its error_detail, None where there is none."""

    type: TypeUrl
    names: tuple[str, ...] = ()
    version: str = ""
    nonce: str = ""
    error: str | None = None
    node: Node | None = None


class DeltaRequest(NamedTuple):
    """A DeltaDiscoveryRequest; `known` are its initial_resource_versions."""

    type: TypeUrl
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    known: Mapping[str, str] = MappingProxyType({})
    nonce: str = ""
    error: str | None = None
    node: Node | None = None


Request: TypeAlias = SotwRequest | DeltaRequest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Response:
    """
    What a client is told at once about one type.

    It is one shared object for all streams that are told the same in the same state, so that its
    bytes exist once; compared by identity. `serial` comes from one counter for all streams: it is
    the nonce, and it grows along each stream, so a nonce never repeats there (E6).
    """

    type: TypeUrl
    serial: int
    version: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...] = ()
    """Only delta can say so."""
    complete: bool = False
    """Whether its acknowledgement confirms everything of the type (SotW, full state: S13)."""
    told: Picture
    """What the client has been told once this is sent."""
    replaced: Mapping[str, frozenset[Need]]
    """Each name that it brings, changes or removes, with the needs of what the client had."""
    warms: frozenset[str] = frozenset()
    """Names of the dependent type that the client waits for after this (W3, W4)."""

    @property
    def nonce(self) -> str:
        """What the client names when it answers."""
        return str(self.serial)


class Refusal(StrEnum):
    """Why a stream is closed; the names are those of gRPC's status codes."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Acked:
    """The client applied a response."""

    response: Response
    refused: frozenset[str] = frozenset()
    """Names of the type that stay refused: they were not in it (D9)."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The client refused a response, or part of it; it stays as it was until something newer."""

    response: Response
    text: str
    refused: frozenset[str]
    """The names that the client does not have in this form."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A request answered a response that is not the last one of its type."""

    type: TypeUrl
    nonce: str


@dataclass(frozen=True, slots=True)
class Close:
    """The client broke the protocol: the stream must end."""

    code: Refusal
    text: str


Event: TypeAlias = Acked | Rejected | Stale | Close


def identify(request: Request) -> Node | Close:
    """Who opens a stream with this request (E2)."""
    if request.node is None or not request.node.id:
        return Close(
            Refusal.INVALID_ARGUMENT,
            "the first request of a stream must name its node: set node.id in the bootstrap",
        )
    if len(request.node.id) > LONGEST_NODE:
        return Close(Refusal.INVALID_ARGUMENT, f"a node.id has {LONGEST_NODE} characters at most")
    return request.node
