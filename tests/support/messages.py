"""Random messages of any class of envoy-data-plane, and what an independent decoder reads."""

import datetime
import importlib
import math
import operator
import struct
from functools import cache
from pathlib import Path
from random import Random

import envoy
import envoy_data_plane
from envoy_data_plane.message_pool import default_message_pool
from google.protobuf import descriptor_pool, duration_pb2, message_factory, timestamp_pb2
from google.protobuf.message import Message as Upb
from google.protobuf.unknown_fields import UnknownFieldSet

from smi_xds.xds.fields import Field, Message, fields_of

_SCALAR_OF_WRAPPER = {
    "BoolValue": "bool",
    "BytesValue": "bytes",
    "DoubleValue": "double",
    "FloatValue": "float",
    "Int32Value": "int32",
    "Int64Value": "int64",
    "StringValue": "string",
    "UInt32Value": "uint32",
    "UInt64Value": "uint64",
}


@cache
def all_classes() -> tuple[type[Message], ...]:
    """Every message class of envoy-data-plane, in the order of their full names."""
    root = Path(envoy_data_plane.__path__[0])
    for init in sorted(root.rglob("__init__.py")):
        importlib.import_module(".".join(init.parent.relative_to(root.parent).parts))
    return tuple(sorted(default_message_pool.type_to_url, key=full_name))


def full_name(cls: type[Message]) -> str:
    return default_message_pool.type_to_url[cls].rpartition("/")[2]


# ------------------------------------------------------------------ random messages


def random_message(random: Random, cls: type[Message], *, depth: int = 3) -> Message:
    """A valid message of this class: few fields each, all kinds of values and presence."""
    fields = list(fields_of(cls))
    chosen = random.sample(fields, min(len(fields), random.randint(0, 5)))
    values: dict[str, object] = {}
    taken: set[str] = set()
    for field in chosen:
        if field.oneof in taken or (depth == 0 and _holds_messages(field)):
            continue
        if field.oneof:
            taken.add(field.oneof)
        values[field.name] = random_value(random, field, depth)
    return cls(**values)


def _holds_messages(field: Field) -> bool:
    value = field.entry[1] if field.entry else field
    return value.message is not None and not value.wrapped


def random_value(random: Random, field: Field, depth: int) -> object:
    """A value for this field, with `depth` more levels of messages in it at most."""
    count = random.randint(0, 3)
    if field.entry:
        key, value = field.entry
        return {_value(random, key, depth): _value(random, value, depth) for _ in range(count)}
    if field.repeated:
        return [_value(random, field, depth) for _ in range(count)]
    return _value(random, field, depth)


def _value(random: Random, field: Field, depth: int) -> object:
    if field.enum is not None:
        return random.choice([*field.enum, field.enum(77)])
    if field.message is None:
        return _scalar(random, field.kind)
    if not field.wrapped:
        return random_message(random, field.message, depth=depth - 1)
    match field.message.__name__:
        case "Duration":
            return datetime.timedelta(
                seconds=random.choice([0, 1, 15, random.randint(0, 10**6)]),
                microseconds=random.choice([0, 1, 250_000, 999_999]),
            )
        case "Timestamp":
            return datetime.datetime(
                year=random.choice([1, 1969, 1970, 2026, 9999]),
                month=random.randint(1, 12),
                day=random.randint(1, 28),
                second=random.randint(0, 59),
                microsecond=random.choice([0, 1, 999_999]),
                tzinfo=datetime.UTC,
            )
        case name:
            return _scalar(random, _SCALAR_OF_WRAPPER[name])


def _scalar(random: Random, kind: str) -> object:
    match kind:
        case "bool":
            return random.choice([True, False])
        case "string":
            return random.choice(["", "a", "größe 😀", "x" * 127, "x" * 128, "y" * 16_384])
        case "bytes":
            return random.choice([b"", b"\x00", b"\xff" * 127, b"\x01" * 128])
        case "float" | "double":
            value = random.choice([0.0, -0.0, 1.5, -2.25, 1e30, 0.1, math.inf, math.nan])
            return value if kind == "double" else struct.unpack("<f", struct.pack("<f", value))[0]
        case _:
            return _integer(random, kind)


def _integer(random: Random, kind: str) -> int:
    bits = int(kind[-2:])
    if kind.startswith(("uint", "fixed")):
        low, high = 0, (1 << bits) - 1
    else:
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    corners = [low, high, 0, 1, 127, 128, 16_383, 16_384, random.randint(low, high)]
    corners += [-1, -128] if low < 0 else []
    return random.choice(corners)


# ------------------------------------------------------------------ the independent decoder


@cache
def load_independent_decoder() -> None:
    """Import every generated module of xds-protos, whose descriptors protoc made."""
    root = Path(envoy.__path__[0]).parent
    for top in ("cel", "envoy", "udpa", "xds"):
        for path in sorted((root / top).rglob("*_pb2.py")):
            importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


def independent_class(name: str) -> type[Upb] | None:
    """The class that protoc generated, or None where xds-protos is too old to know it."""
    load_independent_decoder()
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor)


def differences(message: Message, decoded: Upb, path: str = "") -> list[str]:
    """Where a decoded message does not say what the message says; empty if it says the same."""
    known = decoded.DESCRIPTOR.fields_by_number
    fields = fields_of(type(message))
    unknown = UnknownFieldSet(decoded)
    unread = {unknown[index].field_number for index in range(len(unknown))}
    found = [f"{path}: wrote unknown field {n}" for n in unread - {f.number for f in fields}]
    for field in fields:
        value, where = getattr(message, field.name), f"{path}.{field.name}"
        if field.number not in known:  # newer than xds-protos
            continue
        read = getattr(decoded, known[field.number].name)
        if field.entry:
            found += [] if len(value) == len(read) else [f"{where}: {len(read)} entries"]
            for key in value:
                found += _compare(field.entry[1], value[key], read[key], f"{where}[{key!r}]")
        elif field.repeated:
            found += [] if len(value) == len(read) else [f"{where}: {len(read)} elements"]
            for index, (mine, theirs) in enumerate(zip(value, read, strict=False)):
                found += _compare(field, mine, theirs, f"{where}[{index}]")
        elif known[field.number].has_presence and value is None:
            found += [f"{where}: present"] if decoded.HasField(known[field.number].name) else []
        else:
            found += _compare(field, value, read, where)
    return found


def _compare(field: Field, value: object, read: object, where: str) -> list[str]:
    if isinstance(value, Message):
        assert isinstance(read, Upb)
        return differences(value, read, where)
    if field.wrapped:
        read = _unwrapped(read)
    if isinstance(value, float) and isinstance(read, float) and math.isnan(value):
        return [] if math.isnan(read) else [f"{where}: {read}"]
    return [] if value == read else [f"{where}: wrote {value!r}, read {read!r}"]


def _unwrapped(read: object) -> object:
    match read:
        case duration_pb2.Duration():
            return datetime.timedelta(seconds=read.seconds, microseconds=read.nanos / 1000)
        case timestamp_pb2.Timestamp():
            epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
            return epoch + datetime.timedelta(seconds=read.seconds, microseconds=read.nanos / 1000)
        case _:
            return operator.attrgetter("value")(read)
