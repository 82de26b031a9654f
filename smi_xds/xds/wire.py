"""Single values in the protobuf wire format, each guarded by the range of its type.

https://protobuf.dev/programming-guides/encoding
"""

import datetime
import struct
from collections.abc import Callable
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
DELIMITED: Final = 2
FIXED32: Final = 5

WIRE_TYPES: Final = {
    **dict.fromkeys(
        ("bool", "enum", "int32", "int64", "uint32", "uint64", "sint32", "sint64"), VARINT
    ),
    **dict.fromkeys(("double", "fixed64", "sfixed64"), FIXED64),
    **dict.fromkeys(("float", "fixed32", "sfixed32"), FIXED32),
    **dict.fromkeys(("string", "bytes", "message", "map"), DELIMITED),
}

ONE_BYTE: Final = tuple(bytes((value,)) for value in range(128))
"""Varints of one byte, which most of all lengths and numbers are."""

# google/protobuf/duration.proto: about 10,000 years each way.
_MAX_SECONDS: Final = 315_576_000_000
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def varint(value: int) -> bytes:
    """A number of 0 or more in base 128."""
    if value < 128:
        return ONE_BYTE[value]
    if value < 16384:
        return bytes((value & 127 | 128, value >> 7))
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def tag(number: int, wire_type: int) -> bytes:
    """What stands before each value of a field."""
    return varint(number << 3 | wire_type)


def delimited(prefix: bytes, payload: bytes) -> bytes:
    """A string, bytes or message field, with its tag as prefix."""
    return prefix + varint(len(payload)) + payload


def uint32(value: int) -> bytes:
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{value} is out of range for uint32")
    return varint(value)


def uint64(value: int) -> bytes:
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} is out of range for uint64")
    return varint(value)


def int32(value: int) -> bytes:
    """A negative number takes ten bytes: it is extended to 64 bits first."""
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError(f"{value} is out of range for int32")
    return varint(value if value >= 0 else value + (1 << 64))


def int64(value: int) -> bytes:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{value} is out of range for int64")
    return varint(value if value >= 0 else value + (1 << 64))


def sint32(value: int) -> bytes:
    if not -(1 << 31) <= value < 1 << 31:
        raise ValueError(f"{value} is out of range for sint32")
    return varint(value << 1 if value >= 0 else ~(value << 1))


def sint64(value: int) -> bytes:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{value} is out of range for sint64")
    return varint(value << 1 if value >= 0 else ~(value << 1))


def boolean(value: bool) -> bytes:  # noqa: FBT001 - the value itself, not a choice of behaviour
    if value is True:
        return b"\x01"
    if value is False:
        return b"\x00"
    raise TypeError(f"{type(value).__name__} is no bool")


def string(value: str) -> bytes:
    return value.encode()


def octets(value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} is not bytes")
    return value


SCALARS: Final[dict[str, Callable[..., bytes]]] = {
    "bool": boolean,
    "bytes": octets,
    "double": struct.Struct("<d").pack,
    "enum": int32,
    "fixed32": struct.Struct("<I").pack,
    "fixed64": struct.Struct("<Q").pack,
    "float": struct.Struct("<f").pack,
    "int32": int32,
    "int64": int64,
    "sfixed32": struct.Struct("<i").pack,
    "sfixed64": struct.Struct("<q").pack,
    "sint32": sint32,
    "sint64": sint64,
    "string": string,
    "uint32": uint32,
    "uint64": uint64,
}
"""The encoding of one value by the name of its type; strings and bytes without their length."""


def duration(value: datetime.timedelta) -> bytes:
    """The payload of a Duration. Seconds and nanoseconds have the same sign (duration.proto)."""
    total = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, micros = divmod(abs(total), 1_000_000)
    if seconds > _MAX_SECONDS:
        raise ValueError(f"{value} is out of range for google.protobuf.Duration")
    sign = -1 if total < 0 else 1
    return _seconds_and_nanos(sign * seconds, sign * micros * 1000)


def timestamp(value: datetime.datetime) -> bytes:
    """The payload of a Timestamp. Nanoseconds always count forward (timestamp.proto)."""
    if value.tzinfo is None:
        raise ValueError("a time without a time zone cannot be a google.protobuf.Timestamp")
    offset = value - _EPOCH
    return _seconds_and_nanos(offset.days * 86_400 + offset.seconds, offset.microseconds * 1000)


def _seconds_and_nanos(seconds: int, nanos: int) -> bytes:
    first = b"\x08" + int64(seconds) if seconds else b""
    return first + b"\x10" + int32(nanos) if nanos else first


def _wrapper(kind: str) -> Callable[..., bytes]:
    """The payload of a `google.protobuf.XValue`: field 1, left out where it is zero or empty."""
    prefix, scalar = tag(1, WIRE_TYPES[kind]), SCALARS[kind]
    if WIRE_TYPES[kind] == DELIMITED:
        return lambda value: delimited(prefix, scalar(value)) if value else b""
    return lambda value: prefix + scalar(value) if value else b""


WRAPPERS: Final[dict[str, Callable[..., bytes]]] = {
    "BoolValue": _wrapper("bool"),
    "BytesValue": _wrapper("bytes"),
    "DoubleValue": _wrapper("double"),
    "Duration": duration,
    "FloatValue": _wrapper("float"),
    "Int32Value": _wrapper("int32"),
    "Int64Value": _wrapper("int64"),
    "StringValue": _wrapper("string"),
    "Timestamp": timestamp,
    "UInt32Value": _wrapper("uint32"),
    "UInt64Value": _wrapper("uint64"),
}
"""The payload of a well-known type that betterproto2 holds as a bare Python value."""
