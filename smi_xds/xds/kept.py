"""Encoded parts that are likely to be needed again, by what they were made of."""

from collections.abc import Callable, Hashable
from typing import Final

# What an entry costs beside its bytes; what it was made of costs about as much as these.
_EACH: Final = 500


class Kept:
    """Those that were used lately; never much more than twice `size` bytes.

    By size, not by number: an object may have a megabyte, and a writer may change it each second.
    """

    __slots__ = ("_held", "_new", "_old", "_size")

    def __init__(self, *, size: int) -> None:
        self._size = size
        self._held = 0
        self._new: dict[Hashable, bytes] = {}
        self._old: dict[Hashable, bytes] = {}

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The part for that key, made where it is missing."""
        found = self._new.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                found = make()
            self._put(key, found)
        return found

    def _put(self, key: Hashable, part: bytes) -> None:
        cost = len(part) + _EACH
        if self._held + cost > self._size:
            self._old, self._new, self._held = self._new, {}, 0
        self._new[key] = part
        self._held += cost
