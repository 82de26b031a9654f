"""Memoisation on inputs: how the pure passes become incremental.

There is no list of "what changed" to get wrong. A memo holds the inputs and the result of a
function per key; while the inputs are the same (`is` first, then `==`) the result is the very
same object, so that the next pass finds its inputs unchanged as well.
"""

from collections.abc import Callable, Hashable
from typing import Generic, ParamSpec, TypeVar

K = TypeVar("K", bound=Hashable)
P = ParamSpec("P")
V = TypeVar("V")


class Memo(Generic[K, P, V]):
    """Results of a pure function by key.

    Call it between rounds of `sweep`, which forgets the keys that the round did not ask for.
    An equal result takes the place of nothing: the older object is kept, for identity.
    """

    def __init__(self, function: Callable[P, V]) -> None:
        self._function = function
        self._kept: dict[K, tuple[tuple[object, ...], V]] = {}
        self._touched: dict[K, tuple[tuple[object, ...], V]] = {}

    def __call__(self, key: K, *args: P.args, **kwargs: P.kwargs) -> V:
        """The function's result for these inputs; positional arguments only."""
        assert not kwargs, "memoised functions take positional arguments"
        entry = self._touched.get(key) or self._kept.get(key)
        if entry is None or not _same(entry[0], args):
            value = self._function(*args, **kwargs)
            if entry is not None and entry[1] == value:
                value = entry[1]
            entry = (args, value)
        self._touched[key] = entry
        return entry[1]

    def sweep(self) -> None:
        """End a round: drop what it did not touch."""
        self._kept, self._touched = self._touched, {}


def _same(old: tuple[object, ...], new: tuple[object, ...]) -> bool:
    return len(old) == len(new) and all(a is b or a == b for a, b in zip(old, new, strict=True))
