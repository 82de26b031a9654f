"""The mesh as plain data: what the debug API, the command line and the golden cases show.

Fields that have their default are left out, so that what is there is what somebody said.
"""

from collections.abc import Mapping, Set
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import TypeAlias

from smi_xds.mesh.model import PortRef
from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef, ServiceRef, SpiffeId

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"

# Values that are names: they are written as an operator would write them.
_NAMES = (ObjectRef, ServiceRef, ServiceAccountRef, ProxyId, SpiffeId, PortRef)


def plain(value: object) -> Plain:
    """Dataclasses as maps without defaults, names and enums as strings, sets as sorted lists."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return str(value)  # a StrEnum becomes the text that it is
        case _ if isinstance(value, _NAMES):
            return str(value)
        case Mapping():
            # The mesh's tables are in no order of their own: it depends on what changed when.
            return {str(key): plain(value[key]) for key in sorted(value)}
        case Set():
            return [plain(child) for child in sorted(value)]
        case list() | tuple():
            return [plain(child) for child in value]
        case _:
            assert is_dataclass(value), f"{type(value).__name__} has no plain form"
            return {
                field.name: plain(getattr(value, field.name))
                for field in fields(value)
                # What does not count for equality is no part of what somebody said.
                if field.compare and not _is_default(field, getattr(value, field.name))
            }


def complete(value: object) -> Plain:
    """The same with every field, for scripts; only what is None is left out."""
    match value:
        case list() | tuple():
            return [complete(child) for child in value]
        case _ if is_dataclass(value) and not isinstance(value, _NAMES):
            children = {field.name: getattr(value, field.name) for field in fields(value)}
            return {name: complete(it) for name, it in children.items() if it is not None}
        case _:
            return plain(value)


def _is_default(field: "Field[object]", value: object) -> bool:
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return bool(field.default is not MISSING and value == field.default)
