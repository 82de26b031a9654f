"""Builds protobuf file descriptors from plain statements about messages, enums and services.

Where the statements come from (classes or a table) is the business of `descriptors`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

_SCALARS: Final = frozenset(
    {"bool", "bytes", "double", "fixed32", "fixed64", "float", "int32", "int64", "sfixed32"}
    | {"sfixed64", "sint32", "sint64", "string", "uint32", "uint64"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """A field: `type` is the name of a scalar type, or the full name of a message or an enum."""

    name: str
    number: int
    type: str
    is_enum: bool = False
    repeated: bool = False
    oneof: str | None = None
    entry: tuple["FieldSpec", "FieldSpec"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnumSpec:
    """An enum's values in the order of their declaration."""

    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """A method: its messages are full names."""

    name: str
    input: str
    output: str
    streaming: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSpec:
    """All of a package, by full name; it becomes one file."""

    name: str
    messages: Mapping[str, tuple[FieldSpec, ...]]
    enums: Mapping[str, EnumSpec]
    services: Mapping[str, tuple[MethodSpec, ...]]


def build_file(package: PackageSpec, file_of: Callable[[str], str]) -> FileDescriptorProto:
    """The package as one file; `file_of` names the file that declares a message or an enum."""
    name = file_name(package.name)
    file = FileDescriptorProto(name=name, package=package.name, syntax="proto3")
    built: dict[str, DescriptorProto] = {}
    # Messages go where their names say: into the file, or into the message that encloses them.
    for full_name in sorted(package.messages, key=lambda full_name: full_name.count(".")):
        parent, _, own = full_name.rpartition(".")
        owner = file.message_type if parent == package.name else built[parent].nested_type
        built[full_name] = owner.add(name=own)
        _add_fields(built[full_name], package.messages[full_name], full_name)
    for full_name, enum in package.enums.items():
        parent, _, own = full_name.rpartition(".")
        target = (file if parent == package.name else built[parent]).enum_type.add(name=own)
        if len({number for _, number in enum.values}) < len(enum.values):
            target.options.allow_alias = True
        for value, number in enum.values:
            target.value.add(name=value, number=number)
    for full_name, methods in package.services.items():
        _add_methods(file.service.add(name=full_name.rpartition(".")[2]), methods)
    file.dependency.extend(sorted({file_of(used) for used in _used_types(package)} - {name}))
    return file


def file_name(package: str) -> str:
    """`envoy/config/cluster/v3/cluster.proto` for `envoy.config.cluster.v3`."""
    parts = package.split(".")
    is_version = len(parts) > 1 and parts[-1].startswith("v") and parts[-1][1:2].isdigit()
    return "/".join([*parts, f"{parts[-2] if is_version else parts[-1]}.proto"])


def _used_types(package: PackageSpec) -> Iterable[str]:
    for fields in package.messages.values():
        for field in fields:
            value = field.entry[1] if field.entry else field
            if value.type not in _SCALARS:
                yield value.type
    for methods in package.services.values():
        for method in methods:
            yield from (method.input, method.output)


def _add_fields(message: DescriptorProto, fields: tuple[FieldSpec, ...], full_name: str) -> None:
    # Envoy has no proto3 `optional` (a oneof of one): it uses wrapper messages.
    oneofs = list(dict.fromkeys(field.oneof for field in fields if field.oneof))
    for oneof in oneofs:
        message.oneof_decl.add(name=oneof)
    for field in fields:
        target = message.field.add(name=field.name, number=field.number)
        target.label = (
            FieldDescriptorProto.LABEL_REPEATED
            if field.repeated or field.entry
            else FieldDescriptorProto.LABEL_OPTIONAL
        )
        if field.entry:
            entry = message.nested_type.add(name=_entry_name(field.name))
            entry.options.map_entry = True
            _add_fields(entry, field.entry, f"{full_name}.{entry.name}")
            _set_type(target, f"{full_name}.{entry.name}", is_enum=False)
        else:
            _set_type(target, field.type, is_enum=field.is_enum)
        if field.oneof:
            target.oneof_index = oneofs.index(field.oneof)


def _set_type(target: FieldDescriptorProto, name: str, *, is_enum: bool) -> None:
    if name in _SCALARS:
        target.type = FieldDescriptorProto.Type.Value(f"TYPE_{name.upper()}")
        return
    target.type = FieldDescriptorProto.TYPE_ENUM if is_enum else FieldDescriptorProto.TYPE_MESSAGE
    target.type_name = f".{name}"


def _entry_name(field: str) -> str:
    """As protoc names the messages behind maps: `TypedPerFilterConfigEntry`."""
    return "".join(part[:1].upper() + part[1:] for part in field.split("_")) + "Entry"


def _add_methods(service: ServiceDescriptorProto, methods: tuple[MethodSpec, ...]) -> None:
    for method in methods:
        service.method.add(
            name=method.name,
            input_type=f".{method.input}",
            output_type=f".{method.output}",
            client_streaming=method.streaming,
            server_streaming=method.streaming,
        )
