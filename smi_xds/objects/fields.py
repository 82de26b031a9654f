"""Fields of a document as JSON has them, of any shape: conversion never fails on what it is given.

Nothing here changes its arguments; results share their parts.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Fields: TypeAlias = Mapping[str, Any]
"""The root of a document without what all objects have: with it, a version is a shape."""

COMMON = frozenset({"apiVersion", "kind", "metadata", "status"})


def mapping(value: object) -> Mapping[str, Any]:
    """A map, or an empty one for what is none."""
    return value if isinstance(value, Mapping) else {}


def entries(value: object) -> list[Any]:
    """A list, or an empty one for what is none."""
    return value if isinstance(value, list) else []


def without(fields: Fields, *names: str) -> dict[str, Any]:
    """All but some fields."""
    return {key: value for key, value in fields.items() if key not in names}


def changed(fields: Fields, name: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    """With another value in a field, if the field is there."""
    return {key: change(value) if key == name else value for key, value in fields.items()}


def each(change: Callable[[Mapping[str, Any]], Any]) -> Callable[[Any], Any]:
    """A change of every map in a list; what is no list, or no map, stays."""

    def change_list(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [change(it) if isinstance(it, Mapping) else it for it in value]

    return change_list


def in_spec(change: Callable[[Mapping[str, Any]], Any]) -> Callable[[Fields], Fields]:
    """A change of `spec`, if that is there and a map."""

    def change_spec(fields: Fields) -> Fields:
        return changed(fields, "spec", lambda it: change(it) if isinstance(it, Mapping) else it)

    return change_spec


def flattened(fields: Fields, renamed: Mapping[str, str]) -> Fields:
    """What `spec` holds, at the root, as the first versions have it."""
    named = {renamed.get(key, key): value for key, value in mapping(fields.get("spec")).items()}
    return without(named, *COMMON)


def nested(fields: Fields, renamed: Mapping[str, str]) -> Fields:
    """What stands at the root, in `spec`."""
    return {"spec": {renamed.get(key, key): value for key, value in fields.items()}}
