"""An xDS server for control planes of your own: Envoy resources in, a server on an address.

    resources = Resources()
    resources.set("shop/web", [cluster, endpoints, listener], version="release-7")
    async with serving(resources, "127.0.0.1:15010") as server:
        ...

It speaks what the rest of this package speaks: ADS, delta and state of the world, in an order that
never points a client at what it does not have; and it has reflection, health and the debug API
(`smi-xds proxies`). Nothing here knows of SMI.

**Changes are found by content.** A call that changes nothing sends nothing, whatever its label. A
call that changes a resource sends it, even if the label stays the same.

**Labels.** `version` names the whole configuration of a node from that call on: it is sent, as it
is, as `version_info` (state of the world) and as `system_version_info` (delta). Without one, a hash
of the content is sent, the same on every replica and after a restart. In delta each resource has a
version as well, which is always the hash of its content: it is how a client that comes back says
what it still has.

Everything belongs to one event loop: call it from there. With thousands of clients, run it on
uvloop, and once all is set call `gc.freeze()` and `gc.set_threshold(50_000, 20, 100)`: a push then
takes a quarter less processor time.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import betterproto2

from smi_xds.ads.cache import Cache
from smi_xds.ads.holdoff import Telling
from smi_xds.ads.server import listening
from smi_xds.ads.status import Status
from smi_xds.config import Address, parse_address
from smi_xds.debug.service import debug_services
from smi_xds.values import TypeUrl
from smi_xds.xds.encode import encode, type_url
from smi_xds.xds.references import references
from smi_xds.xds.resources import Resource, ResourceSet

__all__ = ["Message", "Resources", "Server", "serving"]

Message: TypeAlias = betterproto2.Message
"""A resource: a message of envoy-data-plane."""

_Layer: TypeAlias = Mapping[str, Resource]
_NOTHING: Final[_Layer] = MappingProxyType({})

# The one resource type whose name is not in a field `name`, and the field that it is in.
_NAME_FIELDS: Final = {"ClusterLoadAssignment": "cluster_name"}


class Resources:
    """
    What each node is to have. Nodes are named by `node.id` of their bootstrap.

    A node that was given nothing yet is not answered: an empty answer would take away what its
    clients have from before. Every method takes messages, which may be changed afterwards: they
    are encoded at once. Each call is told to the clients as a whole, the first at once, those that
    follow within milliseconds together: what a client is told is always the latest. A call that
    raises has changed nothing.
    """

    def __init__(self) -> None:
        self._sets: dict[str, ResourceSet] = {}
        self._cache = Cache(holds_unknown=True)
        self._cache.publish(self._sets)
        self._telling = Telling(self._cache, self._sets)

    def __contains__(self, node: str) -> bool:
        """Whether the node was given anything; a cleared one was."""
        return node in self._sets

    def names(self, node: str, kind: type[Message]) -> frozenset[str]:
        """The names of the resources of a type that a node has."""
        return frozenset(self._layer(node, type_url(kind)))

    def set(self, node: str, resources: Iterable[Message], *, version: str = "") -> None:
        """Give the node these resources, and nothing else."""
        self._publish(node, _by_type(resources), version)

    def update(self, node: str, resources: Iterable[Message], *, version: str = "") -> None:
        """Add these resources, in the place of those that have the same type and name."""
        self._merge(node, _by_type(resources), version)

    def add(self, node: str, resources: Iterable[Message], *, version: str = "") -> None:
        """Add resources that the node does not have; ValueError names one that it has."""
        added = _by_type(resources)
        for type_, layer in added.items():
            for name in layer.keys() & self._layer(node, type_).keys():
                word = type_.rpartition(".")[2]
                raise ValueError(f"{node} has a {word} {name} already: use update, or remove it")
        self._merge(node, added, version)

    def remove(
        self, node: str, kind: type[Message], names: Iterable[str], *, version: str = ""
    ) -> None:
        """
        Take resources of a type away; names that the node does not have count as removed.

        A client loses them when it no longer uses them: a cluster after the routes to it.
        """
        if isinstance(names, str):
            raise TypeError(f"names is the text {names!r}: give a list of names")
        type_, gone = type_url(kind), frozenset(names)
        rest = {n: each for n, each in self._layer(node, type_).items() if n not in gone}
        self._publish(node, {**self._layers(node), type_: rest}, version)

    def clear(self, node: str, *, version: str = "") -> None:
        """Take everything away from the node, and so from its clients."""
        self._publish(node, {}, version)

    def forget(self, node: str) -> None:
        """Keep nothing for the node; its clients keep what they have, and hear no more."""
        if self._sets.pop(node, None) is not None:
            self._telling.changed(node)

    # ------------------------------------------------------------------

    def _layers(self, node: str) -> Mapping[TypeUrl, _Layer]:
        known = self._sets.get(node)
        return {} if known is None else {type_: known.all(type_) for type_ in known.layers}

    def _layer(self, node: str, type_: TypeUrl) -> _Layer:
        known = self._sets.get(node)
        return _NOTHING if known is None else known.all(type_)

    def _merge(self, node: str, more: Mapping[TypeUrl, _Layer], version: str) -> None:
        merged = dict(self._layers(node))
        for type_, layer in more.items():
            merged[type_] = {**merged.get(type_, _NOTHING), **layer}
        self._publish(node, merged, version)

    def _publish(self, node: str, layers: Mapping[TypeUrl, _Layer], version: str) -> None:
        if not node:
            raise ValueError("a node has a name: the node.id of its bootstrap")
        kept = {type_: (layer,) for type_, layer in layers.items() if layer}
        self._sets[node] = ResourceSet(MappingProxyType(kept), label=version)
        self._telling.changed(node)


def _by_type(messages: Iterable[Message]) -> Mapping[TypeUrl, _Layer]:
    """Each message encoded; ValueError says which has no name, or one that came before."""
    layers: dict[TypeUrl, dict[str, Resource]] = {}
    for message in messages:
        encoded = _encoded(message)
        layer = layers.setdefault(encoded.type, {})
        if encoded.name in layer:
            raise ValueError(f"two {type(message).__name__} are named {encoded.name}")
        layer[encoded.name] = encoded
    return layers


def _encoded(message: Message) -> Resource:
    kind = type(message).__name__
    field = _NAME_FIELDS.get(kind, "name")
    name = getattr(message, field, None)
    if not isinstance(name, str):
        raise TypeError(f"{kind} is no resource of xDS: it has no {field}")
    if not name:
        raise ValueError(f"a {kind} without {field}: it is how clients ask for it")
    type_, body = type_url(type(message)), encode(message)
    return Resource.of(type_, name, body, needs=references(type_, body))


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """A server that runs."""

    host: str
    port: int
    status: Status
    """Who is connected, what each was sent, ACKed and NACKed."""

    @property
    def address(self) -> str:
        """Where clients find it."""
        return str(Address(self.host, self.port))

    resources: Resources
    """What it serves."""

    async def converged(self) -> None:
        """Wait until every connected client has answered all that was changed until now."""
        self.resources._telling.now()  # noqa: SLF001 - its other half
        await self.status.converged()


@asynccontextmanager
async def serving(
    resources: Resources, address: str, *, identifier: str = "smi-xds"
) -> AsyncIterator[Server]:
    """
    Serve these resources on `HOST:PORT` while the block runs; port 0 takes a free one.

    `identifier` is the control plane's name in every response. It is plaintext: whoever reaches
    the address may ask for the resources of any node, secrets included.
    """
    where, status = parse_address(address, flag="address"), Status()
    cache = resources._cache  # noqa: SLF001 - its other half
    debug = debug_services(cache, status)
    async with listening(
        *(cache, status), host=where.host, port=where.port, identifier=identifier, services=debug
    ) as port:
        yield Server(where.host, port, status, resources)
