"""Encodes envoy-data-plane messages: the same bytes as `bytes(message)`, 60 times faster.

An encoder is compiled per message class, at its first use, from the class's own field metadata.

Bytes are equal to `bytes(message)` for every message that betterproto2 accepts, with two
exceptions where betterproto2 is wrong: negative durations, and durations of centuries. Fields stand
in the order of their declaration and maps in the order of their insertion, so whoever wants stable
bytes puts map entries in sorted. What betterproto2 would refuse is refused here too, by a
ValueError that names the field: numbers out of range, two members of a oneof, a message of
another class (such as one that was put into an `Any` field unpacked).
"""

import struct
import typing
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final, NoReturn, TypeAlias

from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.message_pool import default_message_pool
from pydantic.dataclasses import is_pydantic_dataclass, rebuild_dataclass

from smi_xds.values import TypeUrl
from smi_xds.xds import wire
from smi_xds.xds.compiler import RUNTIME, encoder_source
from smi_xds.xds.fields import Field, Message, fields_of, graph_of

_Encoder: TypeAlias = Callable[[Message], bytes]
_Splicer: TypeAlias = Callable[[Message, bytes], bytes]

# What the generated code meets where a value is not of its field's type or range.
_REFUSALS: Final = (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error)


def encode(message: Message) -> bytes:
    """The bytes of a message; ValueError names the field that cannot be encoded."""
    try:
        return _encoder(type(message))(message)
    except _REFUSALS as error:
        raise ValueError(_explain(message, error)) from error


def type_url(cls: type[Message]) -> TypeUrl:
    """The type URL of a message class, as it stands in an `Any` and in discovery requests."""
    url = default_message_pool.type_to_url.get(cls)
    if url is None:
        raise ValueError(f"{cls.__name__} is no message of envoy-data-plane")
    return TypeUrl(url)


def pack(message: Message) -> Any:
    """The message as an `Any`, for fields such as `typed_config`."""
    return Any(type_url=type_url(type(message)), value=encode(message))


def warm(*classes: type[Message]) -> None:
    """Build validators for these classes and all that they can hold: at start-up, not in a push.

    Encoders are compiled as they are met: 0.2 ms each, of which a push needs a fifth.

    It also keeps validators right. Left to its first use, pydantic resolves a class's annotations
    in the namespace of whoever uses it first: `Cluster()` at the top level of a module that has
    another `Filter` refuses Cluster's own filters ever after.
    """
    for cls in graph_of(classes):  # those held come first: their validators are then reused
        assert is_pydantic_dataclass(cls), cls
        rebuild_dataclass(cls)  # its caller, whose names count, is then this function
        if any(field.oneof for field in fields_of(cls)):
            _describe(cls)


def _describe(cls: type[typing.Any]) -> None:
    """Build what constructors of classes with oneofs read.

    Betterproto2 builds it at first use, and evaluates all annotations of the class for each of its
    fields: 50 ms for the largest. Shadowed by a constant, they are evaluated once: 0.15 ms.
    """
    hints = cls._type_hints()
    cls._type_hints = lambda: hints
    try:
        cls._betterproto  # noqa: B018 - for what reading it does
    finally:
        del cls._type_hints


# ------------------------------------------------------------------ joining cached bytes


def length_delimited(number: int, payload: bytes) -> bytes:
    """A string, bytes or message field of this number: its tag, the length and the payload."""
    return wire.delimited(wire.tag(number, wire.DELIMITED), payload)


def fragment(cls: type[Message], name: str, payload: bytes) -> bytes:
    """One encoded element of a message field, tagged, ready to be joined with others."""
    field = _field(cls, name)
    if field.kind != "message" or field.wrapped:
        raise ValueError(f"{cls.__name__}.{name} holds no messages")
    return length_delimited(field.number, payload)


def splice(message: Message, name: str, fragments: Iterable[bytes]) -> bytes:
    """The bytes of a message whose repeated field `name` is given as fragments.

    The field itself must be empty in `message`. The result is equal to encoding the whole message:

        splice(ClusterLoadAssignment(cluster_name="x"), "endpoints", cached)
    """
    field = _field(type(message), name)
    if not field.repeated or field.kind != "message":
        raise ValueError(f"{type(message).__name__}.{name} is no list of messages")
    try:
        return _splicer(type(message), name)(message, b"".join(fragments))
    except _REFUSALS as error:
        raise ValueError(_explain(message, error)) from error


def _field(cls: type[Message], name: str) -> Field:
    for field in fields_of(cls):
        if field.name == name:
            return field
    raise ValueError(f"{cls.__name__} has no field {name!r}")


# ------------------------------------------------------------------ compiling


@cache
def _encoder(cls: type[Message]) -> _Encoder:
    encoder: _Encoder = _compile(cls, hole=None)
    return encoder


@cache
def _splicer(cls: type[Message], name: str) -> _Splicer:
    splicer: _Splicer = _compile(cls, hole=name)
    return splicer


def _compile(cls: type[Message], *, hole: str | None) -> Callable[..., bytes]:
    source = encoder_source(fields_of(cls), hole=hole)
    names: dict[str, object] = {
        **RUNTIME,
        "CLASS": cls,
        "wrong_class": _wrong_class(cls),
        "two_members": _two_members,
        "wrong_list": _wrong_list,
        "not_empty": _not_empty,
    }
    for name, child in source.children.items():
        names[name] = _at_first_use(names, name, child)
    code = compile(source.text, f"<encoder of {cls.__module__}.{cls.__name__}>", "exec")
    # The source is written by `compiler` from class metadata only; no input of a user reaches it.
    exec(code, names)  # noqa: S102 # nosec B102 # straight-line code per class is what makes encoding fast
    encoder: Callable[..., bytes] = names["encode"]  # type: ignore[assignment] # exec is untyped
    return encoder


def _at_first_use(names: dict[str, object], name: str, cls: type[Message]) -> _Encoder:
    """Stands in for the encoder of a sub-message until one comes by: classes may be recursive."""

    def encode_and_replace(message: Message) -> bytes:
        encoder = _encoder(cls)
        names[name] = encoder
        return encoder(message)

    return encode_and_replace


# ------------------------------------------------------------------ refusing


def _wrong_class(cls: type[Message]) -> Callable[[object], NoReturn]:
    def refuse(value: object) -> NoReturn:
        hint = ": use pack()" if cls is Any and isinstance(value, Message) else ""
        raise TypeError(f"{type(value).__name__} stands where {cls.__name__} is expected{hint}")

    return refuse


def _two_members(oneof: str) -> NoReturn:
    raise ValueError(f"more than one member of the oneof {oneof!r} is set")


def _wrong_list(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} stands where a list is expected")


def _not_empty() -> NoReturn:
    raise ValueError("the field that fragments are given for is not empty")


def _explain(message: Message, error: Exception) -> str:
    """Say where in a message, and what, could not be encoded; never show a value: it may be secret.

    Only reached on failure, so it may be slow: it encodes each field alone until one fails.
    """
    path = _blame(message)
    own_words = isinstance(error, ValueError | TypeError) and type(error) in (ValueError, TypeError)
    reason = str(error) if own_words else f"its value does not fit ({type(error).__name__})"
    return f"cannot encode {type(message).__name__}{path}: {reason}"


def _blame(message: Message) -> str:
    cls = type(message)
    fields = fields_of(cls)
    for field in fields:
        value = vars(message).get(field.name)
        if value is None or _encodes(_only(cls, field.name, value)):
            continue
        for key, element in _elements(value):
            if isinstance(element, Message) and type(element) is _element_class(field):
                deeper = _blame(element)
                if deeper or not _encodes(element):
                    return f".{field.name}{key}{deeper}"
        return f".{field.name}"
    return ""


def _only(cls: type[Message], name: str, value: object) -> Message:
    """A message with one field set, made past the validation that would refuse it."""
    message = object.__new__(cls)
    vars(message).update(dict.fromkeys(field.name for field in fields_of(cls)))
    vars(message)[name] = value
    return message


def _encodes(message: Message) -> bool:
    try:
        _encoder(type(message))(message)
    except _REFUSALS:
        return False
    return True


def _element_class(field: Field) -> type[Message] | None:
    return field.entry[1].message if field.entry else field.message


def _elements(value: object) -> Iterable[tuple[str, object]]:
    match value:
        case dict():
            return [(f"[{key!r}]", element) for key, element in value.items()]
        case list() | tuple():
            return [(f"[{index}]", element) for index, element in enumerate(value)]
        case _:
            return [("", value)]
