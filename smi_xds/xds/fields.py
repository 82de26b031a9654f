"""Reads the fields of envoy-data-plane's message classes out of their own betterproto2 metadata.

The encoders (`encode`) and the descriptors (`descriptors`) are both made from what is said here,
so that the classes stay the only source of truth.
"""

import dataclasses
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import betterproto2

Message: typing.TypeAlias = betterproto2.Message

_NAME: typing.Final = re.compile(r"[A-Za-z_][\w.]*")


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
    names = vars(sys.modules[cls.__module__])
    return tuple(_field(field, names) for field in dataclasses.fields(_data(cls)))


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


def _field(field: "dataclasses.Field[object]", names: Mapping[str, object]) -> Field:
    meta = betterproto2.FieldMetadata.get(field)
    annotation = str(field.type)
    if meta.map_meta is None:
        return _single(field.name, meta, annotation, names)
    key, value = meta.map_meta
    entry = (_single("key", key, "", names), _single("value", value, annotation, names))
    return Field(name=field.name, number=meta.number, kind=meta.proto_type, entry=entry)


def _single(
    name: str, meta: betterproto2.FieldMetadata, annotation: str, names: Mapping[str, object]
) -> Field:
    is_message = meta.proto_type == betterproto2.TYPE_MESSAGE
    is_enum = meta.proto_type == betterproto2.TYPE_ENUM
    cls: typing.Any = None
    if meta.unwrap:
        cls = meta.unwrap()
    elif is_message or is_enum:
        cls = _class_in(annotation, names)
    return Field(
        name=name,
        number=meta.number,
        kind=meta.proto_type,
        repeated=bool(meta.repeated),
        optional=bool(meta.optional),
        wrapped=meta.unwrap is not None,
        oneof=meta.group,
        message=cls if is_message else None,
        enum=cls if is_enum else None,
    )


def _class_in(annotation: str, names: Mapping[str, object]) -> object:
    """The class that an annotation such as `list[__core__v3__.Address] | None` speaks of.

    It is looked up by its name: evaluating annotations (`typing.get_type_hints`, and with it
    betterproto2's own `cls_by_field`) is what makes a first use of these classes slow.
    """
    *_, dotted = (name for name in _NAME.findall(annotation) if name != "None")
    first, *rest = dotted.split(".")
    value = names[first]
    for name in rest:
        value = getattr(value, name)
    return value
