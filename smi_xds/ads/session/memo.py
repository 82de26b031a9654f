"""What is computed once for all streams that are in the same state.

One `Memo` belongs to all sessions of a server. Its results are keyed by the identity of frozen
pictures; content that is equal becomes one object. Nothing in it is state of the protocol: an
empty memo gives the same answers, only slower and with other nonces.
"""

from collections.abc import Callable, Collection, Hashable, Mapping
from itertools import count
from typing import Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary

from smi_xds.ads.session.messages import Response
from smi_xds.ads.session.pictures import (
    Difference,
    Interest,
    Layers,
    Picture,
    difference,
    select,
    without,
)
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import Resource

V = TypeVar("V")

# Between two rounds, streams come and go and ask for odd things; this many results are worth
# keeping (a picture of 100 names takes 5 kB).
_LIMIT: Final = 4096
# And results of so many names together (some 50 MB): who asks for one more name, thousands
# of times, leaves as many sets of thousands.
_NAMES: Final = 1_000_000


class Generations(Generic[V]):
    """A table that forgets what was not used for a whole round.

    `weigh` says how many names a key and its result keep alive.
    """

    __slots__ = ("_new", "_old", "_weigh", "_weight")

    def __init__(self, weigh: Callable[[Any, V], int]) -> None:
        self._new: dict[Hashable, V] = {}
        self._old: dict[Hashable, V] = {}
        self._weigh = weigh
        self._weight = 0

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The result for that key, made where it is missing."""
        found = self._new.get(key)
        if found is None:
            found = self._old.get(key)
            self.put(key, make() if found is None else found)
            return self._new[key]
        return found

    def put(self, key: Hashable, value: V) -> None:
        """Keep a result."""
        if len(self._new) >= _LIMIT or self._weight >= _NAMES:
            self.rotate()
        self._new[key] = value
        self._weight += self._weigh(key, value)

    def rotate(self) -> None:
        """Begin a new round."""
        self._old, self._new, self._weight = self._new, {}, 0


class Memo:
    """Shared results; `rotate` it at every new picture of the mesh."""

    __slots__ = ("_differences", "_interests", "_pictures", "_responses", "_serials", "_targets")

    def __init__(self) -> None:
        self._serials = count(1)
        self._interests: WeakValueDictionary[Hashable, Interest] = WeakValueDictionary()
        self._pictures: WeakValueDictionary[Hashable, Picture] = WeakValueDictionary()
        self._targets: Generations[tuple[Layers, Picture]] = Generations(_target_weight)
        self._differences: Generations[Difference] = Generations(_pictures_weight)
        self._responses: Generations[Response] = Generations(_response_weight)

    def rotate(self) -> None:
        """Forget what the last round did not use."""
        self._targets.rotate()
        self._differences.rotate()
        self._responses.rotate()

    def interest(self, *, wildcard: bool, names: frozenset[str]) -> Interest:
        """The one object for this interest: a thousand names are held once, not per stream."""
        key = (wildcard, names)
        found = self._interests.get(key)
        if found is None:
            found = self._interests[key] = Interest(wildcard=wildcard, names=names)
        return found

    def target(self, type_: TypeUrl, layers: Layers, interest: Interest) -> Picture:
        """What a client with this interest should have."""
        # Ids are safe as a key: the value keeps the layers alive.
        key = (type_, interest, *map(id, layers))
        make = lambda: (layers, self._one(Picture(type_, select(layers, interest))))  # noqa: E731
        return self._targets.get(key, make)[1]

    def claimed(self, type_: TypeUrl, resources: Mapping[str, Resource]) -> Picture:
        """What a client says it has; after a restart thousands say the same."""
        return self._one(Picture(type_, resources))

    def narrowed(self, told: Picture, interest: Interest) -> Picture:
        """What is left of a picture when the client no longer wants to hear of the rest (S8)."""
        gone = [name for name in told.resources if not interest.covers(name)]
        return self.dropped(told, gone)

    def dropped(self, told: Picture, names: Collection[str]) -> Picture:
        """A picture without these names."""
        if not names:
            return told
        return self._one(Picture(told.type, without(told.resources, names)))

    def difference(self, old: Picture, new: Picture) -> Difference:
        """What leads from one to the other."""
        return self._differences.get((old, new), lambda: difference(old, new))

    def blend(self, told: Picture, target: Picture, names: frozenset[str]) -> Picture:
        """The target, but these names as the client has been told of them already."""
        resources = without(target.resources, names)
        resources |= {n: r for n in names if (r := told.resources.get(n)) is not None}
        return self._one(Picture(target.type, resources))

    def response(
        self, key: tuple[Hashable, ...], *, after: int, make: Callable[[int], Response]
    ) -> Response:
        """
        The response for that state, with a serial above `after`.

        A stream that was told something newer since the response was made needs a new one: its
        nonces must grow.
        """
        found = self._responses.get(key, lambda: make(next(self._serials)))
        if found.serial <= after:
            found = make(next(self._serials))
            self._responses.put(key, found)
        return found

    def _one(self, picture: Picture) -> Picture:
        """The one picture of this content."""
        return self._pictures.setdefault((picture.type, picture.version), picture)


def _target_weight(key: tuple[TypeUrl, Interest, int], value: tuple[Layers, Picture]) -> int:
    layers, picture = value
    is_layer = any(picture.resources is layer for layer in layers)
    return len(key[1].names) + (0 if is_layer else len(picture.resources))


def _pictures_weight(key: tuple[Picture, Picture], _: object) -> int:
    return sum(len(picture.resources) for picture in key)


def _response_weight(key: tuple[str, Picture, Picture, frozenset[str], str], _: object) -> int:
    _, told, served, due, _ = key
    return len(told.resources) + len(served.resources) + len(due)


def covered(names: frozenset[str], interest: Interest) -> frozenset[str]:
    """Those of the names that the client wants to hear of; the very same object where all are."""
    if interest.wildcard or names <= interest.names:
        return names
    return names & interest.names
