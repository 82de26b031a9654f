"""Passes that recompute only what changed: how pure functions become incremental.

A graph of tables. `Given` tables come from outside; `Each` holds one pure function's value per
key of another table; `Groups` turns a table around; `Whole` is a single value. What a function
reads through a table is written down as it reads, and nothing else is: there is no list of "what
changed" to keep by hand, and none to get wrong. A value that comes out equal is kept as the very
same object, and whoever read it is left alone.

A function may read tables made before its own, and nothing else that changes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, final

from smi_xds.objects.snapshot import Snapshot

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
G = TypeVar("G", bound=Hashable)
T = TypeVar("T")
D = TypeVar("D")


class _Cell:
    """One value of a table as a reader of others; compared by identity."""

    __slots__ = ("dirty", "key", "reads")

    def __init__(self, dirty: set[Any], key: Hashable) -> None:
        self.dirty = dirty
        """Its table's set of keys that are to be computed anew."""
        self.key = key
        self.reads: list[tuple[dict[Any, set[_Cell]], Hashable]] = []
        """Where it stands as a reader: a table's readers, by key."""

    def read(self, readers: dict[Any, "set[_Cell]"], key: Hashable) -> None:
        """Stand among the readers of a key."""
        cells = readers.get(key)
        if cells is None:
            cells = readers[key] = set()
        if self not in cells:
            cells.add(self)
            self.reads.append((readers, key))

    def forget(self) -> None:
        """Stand nowhere; keys that nobody reads are not kept."""
        for readers, key in self.reads:
            cells = readers[key]
            cells.discard(self)
            if not cells:
                del readers[key]
        self.reads.clear()


class Graph:
    """Tables in the order in which they were made, which is the order of a round."""

    def __init__(self) -> None:
        self._tables: list[_Computed] = []
        self.reading: _Cell | None = None
        """The value that is being computed."""

    def given(self) -> "Given[K, V]":
        """A table from outside."""
        return Given(self)

    def each(self, keys: "Table[K, T]", function: Callable[[K], V | None]) -> "Each[K, V]":
        """A value for every key that another table has; None leaves a key out."""
        return self._add(Each(self, keys, function))

    def groups(
        self, source: "Table[K, V]", function: Callable[[V], Iterable[G]]
    ) -> "Groups[G, K, V]":
        """The keys of another table by what a function finds in their values."""
        return self._add(Groups(self, source, function))

    def merged(self, *sources: "Table[K, V]") -> "Merged[K, V]":
        """What several tables have."""
        return self._add(Merged(self, *sources))

    def whole(self, function: Callable[[], V]) -> "Whole[V]":
        """One value, computed from whole tables."""
        return self._add(Whole(self, function))

    def run(self) -> None:
        """Bring every table up to date with the given ones."""
        for table in self._tables:
            table.refresh()

    def compute(self, cell: _Cell, function: Callable[[K], V], key: K) -> V:
        """Call a function and write down what it reads."""
        cell.forget()
        self.reading = cell
        try:
            return function(key)
        finally:
            self.reading = None

    def _add(self, table: "_C") -> "_C":
        self._tables.append(table)
        return table


class Table(Generic[K, V]):
    """Values by key that others may read."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._values: Mapping[K, V] = Snapshot()
        self._shared = False
        self._readers: dict[K, set[_Cell]] = {}
        self._all_readers: dict[None, set[_Cell]] = {}
        self._followers: list[set[K]] = []

    def get(self, key: K, default: D | None = None) -> V | D | None:
        """The value of a key, or `default`; that it is not there is remembered as well."""
        if (cell := self._graph.reading) is not None:
            cell.read(self._readers, key)
        return self._values.get(key, default)

    def __getitem__(self, key: K) -> V:
        found = self.get(key)
        if found is None and key not in self._values:
            raise KeyError(key)
        return found  # type: ignore[return-value]  # None only where V has it

    def __contains__(self, key: K) -> bool:
        self.get(key)
        return key in self._values

    def mapping(self) -> Mapping[K, V]:
        """All of it, frozen; the very same object while nothing changes."""
        if (cell := self._graph.reading) is not None:
            cell.read(self._all_readers, None)
        self._shared = True
        return self._values

    def follow(self, dirty: set[K]) -> None:
        """Have the keys of all changes put into a set."""
        self._followers.append(dirty)
        dirty.update(self._values)

    def has(self, key: K) -> bool:
        """Whether a key is there, without writing down that somebody asked."""
        return key in self._values

    def _change(self, key: K) -> None:
        """Tell everyone who read a key."""
        for cell in self._readers.get(key, ()):
            cell.dirty.add(cell.key)
        for cell in self._all_readers.get(None, ()):
            cell.dirty.add(cell.key)
        for dirty in self._followers:
            dirty.add(key)

    def _put(self, key: K, value: V | None) -> None:
        """Keep a value of our own, or none; an equal one is no change."""
        before = self._values.get(key)
        if before is value or before == value:
            return
        values = self._values
        assert isinstance(values, Snapshot), "what was given is not written"
        if self._shared:
            self._values = values = Snapshot(values)
            self._shared = False
        values.write(key, value)
        self._change(key)


@final
class Given(Table[K, V]):
    """A table from outside."""

    def set(self, values: Mapping[K, V]) -> None:
        """Take a new state; values are compared by identity, then by equality.

        Of a changed copy of the last one (`Snapshot`) only what was written is looked at.
        """
        if values is self._values:
            return
        old, self._values = self._values, values
        for key in changed(old, values):
            self._change(key)


def changed(old: Mapping[K, V], new: Mapping[K, V]) -> Iterator[K]:
    """The keys that came, went, or have another value.

    Of a changed copy (`Snapshot`) only what was written is looked at.
    """
    if isinstance(new, Snapshot) and new.follows(old):
        keys: Iterable[K] = new.changed
    else:
        keys = old.keys() | new.keys()
    for key in keys:
        before, after = old.get(key), new.get(key)
        if before is not after and before != after:
            yield key


class _Computed(ABC):
    """What a round brings up to date."""

    @abstractmethod
    def refresh(self) -> None: ...


_C = TypeVar("_C", bound=_Computed)


@final
class Each(Table[K, V], _Computed):
    """A value for every key that another table has."""

    def __init__(self, graph: Graph, keys: Table[K, T], function: Callable[[K], V | None]) -> None:
        super().__init__(graph)
        self._keys: Callable[[K], bool] = keys.has
        self._function = function
        self._dirty: set[K] = set()
        self._cells: dict[K, _Cell] = {}
        keys.follow(self._dirty)

    def refresh(self) -> None:
        """Compute what is missing or whose inputs changed."""
        keys = tuple(self._dirty)
        # Cleared at once: to take them one by one from a set that was large costs its old size.
        self._dirty.clear()
        for key in keys:
            if self._keys(key):
                cell = self._cells.get(key)
                if cell is None:
                    cell = self._cells[key] = _Cell(self._dirty, key)
                self._put(key, self._graph.compute(cell, self._function, key))
            elif (cell := self._cells.pop(key, None)) is not None:
                cell.forget()
                self._put(key, None)


@final
class Groups(Table[G, frozenset[K]], _Computed, Generic[G, K, V]):
    """The keys of another table by what a function finds in their values; no group is empty."""

    def __init__(
        self, graph: Graph, source: Table[K, V], function: Callable[[V], Iterable[G]]
    ) -> None:
        super().__init__(graph)
        self._source = source
        self._function = function
        self._dirty: set[K] = set()
        self._of: dict[K, frozenset[G]] = {}
        source.follow(self._dirty)

    def refresh(self) -> None:
        """Move the keys whose values changed."""
        members: dict[G, set[K]] = {}
        for key in self._dirty:
            before = self._of.pop(key, frozenset())
            after = frozenset[G]()
            if self._source.has(key):
                after = frozenset(self._function(self._source[key]))
                self._of[key] = after
            for group in before ^ after:
                if group not in members:
                    members[group] = set(self._values.get(group, ()))
                (members[group].add if group in after else members[group].discard)(key)
        self._dirty.clear()
        for group, keys in members.items():
            self._put(group, frozenset(keys) or None)


@final
class Merged(Table[K, V], _Computed):
    """What several tables have; no key is in two of them."""

    def __init__(self, graph: Graph, *sources: Table[K, V]) -> None:
        super().__init__(graph)
        self._sources = sources
        self._dirty: set[K] = set()
        for source in sources:
            source.follow(self._dirty)

    def refresh(self) -> None:
        """Take over what changed."""
        for key in self._dirty:
            found = (source.get(key) for source in self._sources if source.has(key))
            self._put(key, next(found, None))
        self._dirty.clear()


@final
class Whole(_Computed, Generic[V]):
    """One value, computed from whole tables; others may read it."""

    def __init__(self, graph: Graph, function: Callable[[], V]) -> None:
        one: Given[None, bool] = Given(graph)
        one.set({None: True})
        self._table: Each[None, V] = Each(graph, one, lambda _: function())

    def refresh(self) -> None:
        """Compute it, if what it read changed."""
        self._table.refresh()

    def __call__(self) -> V:
        """The value."""
        return self._table[None]
