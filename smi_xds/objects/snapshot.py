"""Mappings that are handed out frozen and go on as copies, which know what makes them differ.

Who holds the one before and gets the next one need not compare thousands of values.
"""

from typing import Final, Generic, TypeVar, final

_FEW: Final = 100

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@final
class Snapshot(dict[_Key, _Value], Generic[_Key, _Value]):
    """A mapping with the keys that were written since it was copied from another one."""

    __slots__ = ("_before", "changed", "mark")

    def __init__(self, before: "Snapshot[_Key, _Value] | None" = None) -> None:
        super().__init__(before or ())
        # Marks instead of the mappings themselves: a chain of these would never end.
        self.mark = object()
        self._before = None if before is None else before.mark
        self.changed: set[_Key] = set()
        """Keys that came, went or got another value, where it follows another one; maybe more."""

    def follows(self, other: object) -> bool:
        """Whether it is a changed copy of another one."""
        return isinstance(other, Snapshot) and other.mark is self._before

    def write(self, key: _Key, value: _Value | None) -> None:
        """Keep a value, or forget it where it is None."""
        if self._before is not None:
            self._note(key)
        if value is None:
            del self[key]
        else:
            self[key] = value

    def _note(self, key: _Key) -> None:
        """Remember what was written, as long as there is less of it than there is to compare.

        Of a mapping that is never copied again it would be every key that there ever was.
        """
        self.changed.add(key)
        if len(self.changed) > _FEW + 2 * len(self):
            self._before = None
            self.changed = set()
