"""What conversion has to know of a kind: how each version says what the hub says, and what not.

The hub has the shape of the newest version, with all that any version can say. A **restriction**
is a part of it without which the object would mean more than it did.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from smi_xds.objects.fields import Fields

HUB = "hub"
"""Stands for a version, where no version says all that was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """One part that restricts; `key` names what is restricted, within its object."""

    key: tuple[str, ...]
    value: Any
    field: str
    said_in: str
    """The newest version that has a field for it."""


def _nothing(fields: Fields, _version: str) -> Fields:
    return fields


def _no_rescue(visible: Fields, _original: Fields, _version: str, _namespace: str) -> Fields:
    return visible


def _no_restrictions(_fields: Fields, _namespace: str) -> Iterator[Restriction]:
    return iter(())


def _always(_restriction: Restriction, _old: Fields, _new: Fields, _namespace: str) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The versions of one kind; without functions, one that never changed."""

    to_hub: Callable[[Fields, str], Fields] = _nothing
    from_hub: Callable[[Fields, str], Fields] = _nothing
    """What a version can say of it. Never fails; what it leaves out, the annotation keeps."""
    rescue: Callable[[Fields, Fields, str, str], Fields] = _no_rescue
    """(visible, original, version, namespace), both in the hub's shape: the visible fields with
    those restrictions of the original which the version cannot say and the visible fields do not
    contradict."""
    restrictions: Callable[[Fields, str], Iterator[Restriction]] = _no_restrictions
    """(hub, namespace): all of them."""
    is_there: Callable[[Restriction, Fields, Fields, str], bool] = _always
    """(restriction, old, new, namespace): whether what it restricted is in the new object."""

    def restore(self, fields: Fields, version: str, *, target: str) -> Fields:
        """From one version to another, or from or to the hub."""
        if version == target:  # which may show more than is written from the hub
            return fields
        hub = fields if version == HUB else self.to_hub(fields, version)
        return hub if target == HUB else self.from_hub(hub, target)

    def restricted(self, fields: Fields, namespace: str) -> Mapping[tuple[str, ...], Restriction]:
        """All restrictions, by what they restrict."""
        return {it.key: it for it in self.restrictions(fields, namespace)}
