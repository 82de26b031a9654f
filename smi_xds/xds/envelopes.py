"""The types of the discovery envelopes, as upb gives them to us; `descriptors` makes the classes.

Only what we read and write is declared.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Wire(Protocol):
    """What every message can do."""

    @classmethod
    def FromString(cls, s: bytes, /) -> Self: ...  # noqa: N802 - protobuf's own name
    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...  # noqa: N802 - the same
    def HasField(self, field_name: str, /) -> bool: ...  # noqa: N802 - the same


class Repeated(Protocol[T_co]):
    """A list of sub-messages."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T_co]: ...
    def __getitem__(self, index: int, /) -> T_co: ...
    def add(self, **fields: object) -> T_co: ...


class Struct(Wire, Protocol):
    """google.protobuf.Struct: reads like a mapping."""

    def __getitem__(self, key: str, /) -> object: ...
    def __contains__(self, key: object, /) -> bool: ...
    def update(self, values: Mapping[str, object], /) -> None: ...


class Locality(Wire, Protocol):
    """Where a proxy runs."""

    region: str
    zone: str
    sub_zone: str


class Node(Wire, Protocol):
    """Who asks; Envoy sends it in the first request of a stream."""

    id: str
    cluster: str
    metadata: Struct
    locality: Locality
    user_agent_name: str
    user_agent_version: str
    client_features: MutableSequence[str]

    def __init__(self, *, id: str = ..., cluster: str = ...) -> None: ...


class Status(Wire, Protocol):
    """google.rpc.Status: why a response was refused."""

    code: int
    message: str

    def __init__(self, *, code: int = ..., message: str = ...) -> None: ...


class AnyBody(Wire, Protocol):
    """google.protobuf.Any."""

    type_url: str
    value: bytes


class ControlPlane(Wire, Protocol):
    """Which server answered."""

    identifier: str


class Resource(Wire, Protocol):
    """One resource of a delta response."""

    name: str
    version: str
    resource: AnyBody
    aliases: MutableSequence[str]

    def __init__(self, *, name: str = ..., version: str = ..., resource: AnyBody = ...) -> None: ...


class DiscoveryRequest(Wire, Protocol):
    """State of the world: a subscription, an ACK or a NACK."""

    version_info: str
    node: Node
    resource_names: MutableSequence[str]
    type_url: str
    response_nonce: str
    error_detail: Status

    def __init__(
        self,
        *,
        version_info: str = ...,
        node: Node = ...,
        resource_names: Iterable[str] = ...,
        type_url: str = ...,
        response_nonce: str = ...,
        error_detail: Status = ...,
    ) -> None: ...


class DiscoveryResponse(Wire, Protocol):
    """State of the world: all resources of a type."""

    version_info: str
    resources: Repeated[AnyBody]
    type_url: str
    nonce: str
    control_plane: ControlPlane

    def __init__(
        self,
        *,
        version_info: str = ...,
        resources: Iterable[AnyBody] = ...,
        type_url: str = ...,
        nonce: str = ...,
    ) -> None: ...


class DeltaDiscoveryRequest(Wire, Protocol):
    """Incremental: a change of subscriptions, an ACK or a NACK."""

    node: Node
    type_url: str
    resource_names_subscribe: MutableSequence[str]
    resource_names_unsubscribe: MutableSequence[str]
    initial_resource_versions: MutableMapping[str, str]
    response_nonce: str
    error_detail: Status

    def __init__(
        self,
        *,
        node: Node = ...,
        type_url: str = ...,
        resource_names_subscribe: Iterable[str] = ...,
        resource_names_unsubscribe: Iterable[str] = ...,
        initial_resource_versions: Mapping[str, str] = ...,
        response_nonce: str = ...,
        error_detail: Status = ...,
    ) -> None: ...


class DeltaDiscoveryResponse(Wire, Protocol):
    """Incremental: what was added, changed and removed."""

    system_version_info: str
    resources: Repeated[Resource]
    type_url: str
    removed_resources: MutableSequence[str]
    nonce: str
    control_plane: ControlPlane

    def __init__(
        self,
        *,
        system_version_info: str = ...,
        resources: Iterable[Resource] = ...,
        type_url: str = ...,
        removed_resources: Iterable[str] = ...,
        nonce: str = ...,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelopes:
    """The upb classes of what goes over a discovery stream."""

    discovery_request: type[DiscoveryRequest]
    discovery_response: type[DiscoveryResponse]
    delta_discovery_request: type[DeltaDiscoveryRequest]
    delta_discovery_response: type[DeltaDiscoveryResponse]
    resource: type[Resource]
    node: type[Node]
    status: type[Status]
