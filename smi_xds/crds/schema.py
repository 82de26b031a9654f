"""Words in which the schemas are written (apiextensions.k8s.io/v1, structural)."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]


def an_object(
    description: str, properties: Mapping[str, Schema], *, required: Sequence[str] = (), **more: Any
) -> Schema:
    """A map with known fields."""
    schema: Schema = {"description": description, "type": "object", **more}
    if required:
        schema["required"] = list(required)
    # API servers keep no empty map, and would take it for a change.
    return schema | ({"properties": dict(properties)} if properties else {})


def a_list(description: str, items: Schema, **more: Any) -> Schema:
    """A list."""
    return {"description": description, "type": "array", **more, "items": items}


def a_text(description: str, **more: Any) -> Schema:
    """A string."""
    return {"description": description, "type": "string", **more}


def texts() -> Schema:
    """A string that needs no words: an entry of a list, a value of a map."""
    return {"type": "string"}


def column(
    name: str, path: str, description: str, *, kind: str = "string", priority: int = 0
) -> dict[str, Any]:
    """What `kubectl get` shows; from priority 1 on only with `-o wide`.

    Of a path that leads to several values (`[*]`) it shows but the first: lists are shown as JSON.
    """
    shown = {"name": name, "type": kind, "description": description, "jsonPath": path}
    return shown | ({"priority": priority} if priority else {})
