"""Reads the fields of envoy-data-plane's message classes out of their own betterproto2 metadata.

The encoders (`encode`) and the descriptors (`descriptors`) are both made from what is said here,
so that the classes stay the only source of truth.
"""

import dataclasses
import sys
import typing
from collections.abc import Iterable, Iterator
from functools import cache

import betterproto2

Message: typing.TypeAlias = betterproto2.Message


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a message class, or the key or value of one of its maps.

    `message` is the class of its (sub-)messages, which for a wrapper (`BoolValue`, `Duration` and
    their like, held as bare Python values) is the wrapper's own.
    """

    name: str
    number: int
    kind: str
    repeated: bool = False
    optional: bool = False
    wrapped: bool = False
    oneof: str | None = None
    message: type[Message] | None = None
    enum: type[betterproto2.Enum] | None = None
    entry: tuple["Field", "Field"] | None = None


@cache
def fields_of(cls: type[Message]) -> tuple[Field, ...]:
    """The fields of a message class, in the order of their declaration."""
    # One look at all annotations: betterproto2's own `cls_by_field` evaluates them once per field,
    # which takes 50 ms for HttpConnectionManager.
    hints = typing.get_type_hints(cls, vars(sys.modules[cls.__module__]), {})
    return tuple(_field(field, hints[field.name]) for field in dataclasses.fields(_data(cls)))


def graph_of(roots: Iterable[type[Message]]) -> tuple[type[Message], ...]:
    """All classes that messages of these classes can hold, each after those that it holds."""
    ordered: dict[type[Message], None] = {}
    entered: set[type[Message]] = set()
    stack = [iter(tuple(roots))]
    owners: list[type[Message]] = []
    while stack:
        child = next(stack[-1], None)
        if child is None:
            stack.pop()
            if owners:
                ordered[owners.pop()] = None
        elif child not in entered:
            entered.add(child)
            owners.append(child)
            stack.append(_children(child))
    return tuple(ordered)


def _children(cls: type[Message]) -> Iterator[type[Message]]:
    for field in fields_of(cls):
        value = field.entry[1] if field.entry else field
        if value.message is not None and not value.wrapped:
            yield value.message


def _data(cls: type[Message]) -> type[typing.Any]:
    # betterproto2.Message itself is no dataclass, but all of its generated subclasses are.
    return cls


def _field(field: "dataclasses.Field[object]", hint: object) -> Field:
    meta = betterproto2.FieldMetadata.get(field)
    types = list(_classes(hint))
    if meta.map_meta is None:
        return _scalar(field.name, meta, types[-1] if types else None)
    key, value = meta.map_meta
    entry = (_scalar("key", key, None), _scalar("value", value, types[-1] if types else None))
    return Field(name=field.name, number=meta.number, kind=meta.proto_type, entry=entry)


def _scalar(name: str, meta: betterproto2.FieldMetadata, cls: type | None) -> Field:
    is_enum = meta.proto_type == betterproto2.TYPE_ENUM
    is_message = meta.proto_type == betterproto2.TYPE_MESSAGE
    return Field(
        name=name,
        number=meta.number,
        kind=meta.proto_type,
        repeated=bool(meta.repeated),
        optional=bool(meta.optional),
        wrapped=meta.unwrap is not None,
        oneof=meta.group,
        message=(meta.unwrap() if meta.unwrap else cls) if is_message else None,
        enum=cls if is_enum else None,
    )


def _classes(hint: object) -> Iterator[type]:
    """The message and enum classes that stand in an annotation such as `list[Route] | None`."""
    if isinstance(hint, type) and issubclass(hint, betterproto2.Message | betterproto2.Enum):
        yield hint
    for argument in typing.get_args(hint):
        yield from _classes(argument)
