"""Writes the Python source of an encoder: one function per message class, one block per field.

What can be known from the class (tags, types, presence) is settled here, so that encoding is only
dictionary look-ups and joining. `encode` compiles and runs the source.

Betterproto2 writes fields in the order of their declaration and maps in the order of insertion.
Presence is `is not None` for oneofs, optionals, wrappers and sub-messages, truth for the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from smi_xds.xds import wire
from smi_xds.xds.fields import Field, Message

_SIGNED_OR_UNSIGNED_VARINTS: Final = ("enum", "int32", "int64", "uint32", "uint64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source of `encode(m)`, and the names in it that stand for encoders of sub-messages."""

    text: str
    children: dict[str, type[Message]]


def encoder_source(fields: tuple[Field, ...], *, hole: str | None = None) -> Source:
    """Write an encoder; in place of the field named `hole` it writes its second argument."""
    lines = ["def encode(m, hole):" if hole else "def encode(m):"]
    lines += _indent(1, ["if m.__class__ is not CLASS: wrong_class(m)", "d = m.__dict__", "o = []"])
    oneofs = _oneofs(fields)
    lines += _indent(1, (f"{counter} = 0" for counter in oneofs.values()))
    for field in fields:
        if field.name == hole:
            lines += _indent(1, _hole(field))
        else:
            lines += _indent(1, _block(field, oneofs.get(field.oneof or "")))
    for oneof, counter in oneofs.items():
        lines += _indent(1, [f"if {counter} > 1: two_members({oneof!r})"])
    # What betterproto2 met and did not know when it parsed the message goes out again, last.
    lines += _indent(1, ['v = d.get("_unknown_fields")', "if v: o.append(v)"])
    lines += _indent(1, ['return b"".join(o)'])
    children = {
        _child(field.message): field.message
        for field in _values(fields)
        if field.message is not None and not field.wrapped
    }
    return Source(text="\n".join(lines), children=children)


def _oneofs(fields: tuple[Field, ...]) -> dict[str, str]:
    """A counter for each oneof that could have two members set at once."""
    members = [field.oneof for field in fields if field.oneof]
    groups = [oneof for oneof in dict.fromkeys(members) if members.count(oneof) > 1]
    return {oneof: f"n{index}" for index, oneof in enumerate(groups)}


def _values(fields: tuple[Field, ...]) -> Iterator[Field]:
    for field in fields:
        yield field.entry[1] if field.entry else field


def _hole(field: Field) -> list[str]:
    return [f"if d[{field.name!r}]: not_empty()", "o.append(hole)"]


def _block(field: Field, counter: str | None) -> list[str]:
    load = f"v = d[{field.name!r}]"
    if field.entry:
        return [load, "if v:", *_indent(1, _map(field, *field.entry))]
    if field.repeated:
        return [load, "if v:", *_indent(1, _repeated(field))]
    by_truth = not (field.optional or field.oneof or field.kind == "message")
    count = [f"{counter} += 1"] if counter else []
    return [load, "if v:" if by_truth else "if v is not None:", *_indent(1, count + _single(field))]


def _repeated(field: Field) -> list[str]:
    guard = ["if v.__class__ is str: wrong_list(v)"]
    if wire.WIRE_TYPES[field.kind] == wire.DELIMITED:
        return [*guard, "for v in v:", *_indent(1, _single(field))]
    prefix = wire.tag(field.number, wire.DELIMITED)
    return [
        *guard,
        f'x = b"".join([{_scalar(field, "v")} for v in v])',
        f"o += {prefix!r}, varint(len(x)), x",
    ]


def _single(field: Field) -> list[str]:
    prefix = wire.tag(field.number, wire.WIRE_TYPES[field.kind])
    if wire.WIRE_TYPES[field.kind] == wire.DELIMITED:
        return [
            f"x = {_payload(field, 'v')}; n = len(x)",
            f"o += {prefix!r}, ONE_BYTE[n] if n < 128 else varint(n), x",
        ]
    return [f"o += {prefix!r}, {_scalar(field, 'v')}"]


def _map(field: Field, key: Field, value: Field) -> list[str]:
    prefix = wire.tag(field.number, wire.DELIMITED)
    return [
        "for k, v in v.items():",
        *_indent(
            1,
            [
                f"k = {_entry_part(key, 'k')}",
                f"x = k + {_entry_part(value, 'v')}",
                f"o += {prefix!r}, varint(len(x)), x",
            ],
        ),
    ]


def _entry_part(field: Field, name: str) -> str:
    prefix = wire.tag(field.number, wire.WIRE_TYPES[field.kind])
    if wire.WIRE_TYPES[field.kind] == wire.DELIMITED:
        return f"delimited({prefix!r}, {_payload(field, name)})"
    return f"{prefix!r} + {_scalar(field, name)}"


def _payload(field: Field, name: str) -> str:
    """The expression for what follows the length of a string, bytes or message."""
    if field.kind == "string":
        return f"{name}.encode()"
    if field.message is None:
        return f"octets({name})"
    if field.wrapped:
        return f"{field.message.__name__}({name})"
    return f"{_child(field.message)}({name})"


def _scalar(field: Field, name: str) -> str:
    if field.kind in _SIGNED_OR_UNSIGNED_VARINTS:
        full = "int32" if field.kind == "enum" else field.kind
        return f"(ONE_BYTE[{name}] if 0 <= {name} < 128 else {full}({name}))"
    return f"{_runtime_name(field.kind)}({name})"


def _runtime_name(kind: str) -> str:
    return {"bool": "boolean", "bytes": "octets", "float": "float32", "double": "float64"}.get(
        kind, kind
    )


RUNTIME: Final = {
    "ONE_BYTE": wire.ONE_BYTE,
    "varint": wire.varint,
    "delimited": wire.delimited,
    **{_runtime_name(kind): scalar for kind, scalar in wire.SCALARS.items()},
    **wire.WRAPPERS,
}
"""What the written source refers to, beside CLASS, its refusals and its sub-encoders."""


def _child(cls: type[Message]) -> str:
    module = cls.__module__.replace(".", "_")
    return f"encode_{module}_{cls.__name__}"


def _indent(levels: int, lines: "Iterator[str] | list[str]") -> list[str]:
    return [" " * levels + line for line in lines]
