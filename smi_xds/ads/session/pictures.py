"""Pictures: what a client asks for or has been told of one type, shared between streams.

Thousands of streams are in the same state. They hold the same frozen `Interest` and `Picture`
objects, so that to compare is `is`, and a memo keyed by them answers for all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from smi_xds.values import TypeUrl
from smi_xds.xds.resources import Need, Resource, content_version

Layers: TypeAlias = tuple[Mapping[str, Resource], ...]
"""The resources of one type in a ResourceSet: an earlier layer hides a later one."""

ANYTHING: Final = Need(TypeUrl(""), "")
"""The need of content that we do not know: it may refer to whatever there is."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Interest:
    """What of a type a client subscribed to: names, and with the wildcard all there is."""

    wildcard: bool
    names: frozenset[str]
    _ordered: tuple[str, ...] | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def ordered(self) -> tuple[str, ...]:
        """The names, sorted once for all pushes: what is in order is sorted again in no time."""
        found = self._ordered
        if found is None:
            found = tuple(sorted(self.names))
            object.__setattr__(self, "_ordered", found)
        return found

    def covers(self, name: str) -> bool:
        """Whether the client wants to hear of that name."""
        return self.wildcard or name in self.names


NO_INTEREST: Final = Interest(wildcard=False, names=frozenset())


class Picture:
    """Resources of one type by name, at one moment; compared by identity."""

    __slots__ = ("__weakref__", "_needs", "_version", "resources", "type")

    def __init__(self, type_: TypeUrl, resources: Mapping[str, Resource]) -> None:
        self.type = type_
        self.resources = resources
        self._version: str | None = None
        self._needs: frozenset[Need] | None = None

    @property
    def version(self) -> str:
        """The hash of all names and versions: the version of the whole (S1)."""
        if self._version is None:
            self._version = set_version(self.resources)
        return self._version

    @property
    def needs(self) -> frozenset[Need]:
        """Everything that its resources refer to."""
        if self._needs is None:
            self._needs = frozenset().union(*(r.needs for r in self.resources.values()))
        return self._needs


def set_version(resources: Mapping[str, Resource]) -> str:
    """The version of a set of resources; the same on every replica and after a restart."""
    lines = sorted(f"{name}\0{resource.version}" for name, resource in resources.items())
    return content_version("\n".join(lines).encode())


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """What leads from one picture to another."""

    changed: tuple[Resource, ...]
    """Added or different, sorted by name."""
    departed: frozenset[str]


NO_DIFFERENCE: Final = Difference((), frozenset())


def difference(old: Picture, new: Picture) -> Difference:
    """Compare by version: equal content is no difference, whichever object holds it."""
    if old is new:
        return NO_DIFFERENCE
    before, after = old.resources, new.resources
    # Most of a thousand are the very same objects.
    others = [r for name, r in after.items() if before.get(name) is not r]
    changed = [r for r in others if not is_same(before.get(r.name), r)]
    added = sum(r.name not in before for r in others)
    departed = frozenset[str]()
    if len(before) + added != len(after):
        departed = frozenset(before.keys() - after.keys())
    return Difference(tuple(sorted(changed, key=lambda r: r.name)), departed)


def is_same(told: Resource | None, other: Resource) -> bool:
    """Whether the client was told just that, or said that it has just that."""
    if told is None or told is other:
        return told is other
    return told.version in (other.version, _MARK + other.version)


# Keeps what a client says it has different from resources of ours, which have bytes.
_MARK: Final = "?"
_UNKNOWN_NEEDS: Final = frozenset({ANYTHING})


def stand_in(type_: TypeUrl, name: str, version: str) -> Resource:
    """A resource that a client says it has and whose content we do not know; never sent."""
    return Resource(name=name, type=type_, version=_MARK + version, body=b"", needs=_UNKNOWN_NEEDS)


def is_stand_in(resource: Resource) -> bool:
    """An encoded resource is never empty: it has a name."""
    return not resource.body


def find(layers: Layers, name: str) -> Resource | None:
    """The resource of that name."""
    for layer in layers:
        if (found := layer.get(name)) is not None:
            return found
    return None


def select(layers: Layers, interest: Interest) -> Mapping[str, Resource]:
    """What there is of what the client wants. Explicit names beside the wildcard add nothing."""
    if not interest.wildcard:
        return _named(layers, interest)
    if len(layers) == 1:
        return layers[0]
    merged: dict[str, Resource] = {}
    for layer in reversed(layers):
        merged.update(layer)
    return merged


def _named(layers: Layers, interest: Interest) -> Mapping[str, Resource]:
    found: dict[str, Resource] = {}
    for layer in reversed(layers):
        # Whichever is shorter is gone through. The large layer of what is for all stands last.
        if len(layer) < len(interest.names):
            found |= {name: layer[name] for name in interest.names.intersection(layer)}
        else:
            get = layer.get
            found |= {name: it for name in interest.ordered if (it := get(name)) is not None}
    return found


def without(resources: Mapping[str, Resource], names: Iterable[str]) -> dict[str, Resource]:
    """A copy that lacks these names."""
    rest = dict(resources)
    for name in names:
        rest.pop(name, None)
    return rest
