"""What goes out: encoded Envoy resources, and the set of them that one proxy gets.

`ads` knows of `xds` only this module. Bytes are encoded once; the version is the hash of the
bytes, so it is the same on every replica and after a restart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self, TypeAlias

import xxhash

from smi_xds.values import TypeUrl

_API = "type.googleapis.com/envoy"

CLUSTER: Final = TypeUrl(f"{_API}.config.cluster.v3.Cluster")
ENDPOINTS: Final = TypeUrl(f"{_API}.config.endpoint.v3.ClusterLoadAssignment")
LISTENER: Final = TypeUrl(f"{_API}.config.listener.v3.Listener")
ROUTES: Final = TypeUrl(f"{_API}.config.route.v3.RouteConfiguration")
SECRET: Final = TypeUrl(f"{_API}.extensions.transport_sockets.tls.v3.Secret")

TYPES: Final = (SECRET, CLUSTER, ENDPOINTS, LISTENER, ROUTES)
"""Every type that is served."""

WILDCARD_TYPES: Final = frozenset({CLUSTER, LISTENER})
"""Types of which a client may ask for everything (xDS protocol, "How the client specifies …")."""


def content_version(body: bytes) -> str:
    """The version of a resource: 64 bits of xxh3 over its encoded bytes, in hexadecimal."""
    return xxhash.xxh3_64_hexdigest(body)


@dataclass(frozen=True, slots=True)
class Need:
    """A resource that another one names: it must reach the proxy first and leave it last."""

    type: TypeUrl
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One encoded resource; equal where name and content are equal.

    `body` is the serialised message (the value of the Any). `needs` are the resources that it
    refers to by name: a route its clusters, a listener its routes and clusters, a cluster its
    load assignment and secrets.
    """

    name: str
    type: TypeUrl
    version: str
    body: bytes = field(repr=False, compare=False)
    needs: frozenset[Need] = frozenset()

    @classmethod
    def of(cls, type_: TypeUrl, name: str, body: bytes, *, needs: Iterable[Need] = ()) -> Self:
        """Wrap encoded bytes, versioned by their content."""
        version = content_version(body)
        return cls(name=name, type=type_, version=version, body=body, needs=frozenset(needs))


Layer: TypeAlias = Mapping[str, Resource]
"""Resources of one type by name, shared by many sets."""

Layers: TypeAlias = Mapping[TypeUrl, Layer]
"""A layer of each of some types."""


def as_layer(resources: Iterable[Resource]) -> Layer:
    """Resources of one type as a layer."""
    return MappingProxyType({resource.name: resource for resource in resources})


def by_type(*resources: Resource) -> Layers:
    """Clusters, listeners and routes, in a layer each."""
    found: dict[TypeUrl, dict[str, Resource]] = {CLUSTER: {}, LISTENER: {}, ROUTES: {}}
    for resource in resources:
        found[resource.type][resource.name] = resource
    return MappingProxyType({type_: MappingProxyType(layer) for type_, layer in found.items()})


_NONE: Final[Mapping[str, Resource]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class ResourceSet:
    """Everything that one proxy may get, by type and name.

    Compared by identity: two proxies of one class share the very same object. Of each type it
    has layers, the large shared one and a small private one; a name in an earlier layer hides
    the same name in a later one.
    """

    layers: Mapping[TypeUrl, tuple[Mapping[str, Resource], ...]]
    label: str = ""
    """What responses call their version; empty for a hash of the content."""

    def get(self, type_: TypeUrl, name: str) -> Resource | None:
        """The resource of that name, or None."""
        for layer in self.layers.get(type_, ()):
            if (found := layer.get(name)) is not None:
                return found
        return None

    def all(self, type_: TypeUrl) -> Mapping[str, Resource]:
        """All resources of a type by name, in no particular order (merged: O(n) unless single)."""
        layers = self.layers.get(type_, ())
        if len(layers) <= 1:
            return layers[0] if layers else _NONE
        merged: dict[str, Resource] = {}
        for layer in reversed(layers):
            merged.update(layer)
        return merged


EMPTY: Final = ResourceSet(MappingProxyType({}))
"""The set of a proxy that gets nothing."""
