"""Protobuf descriptors of Envoy's messages, rebuilt from envoy-data-plane's own metadata.

They give upb classes for the discovery envelopes, for decoding resources to JSON, and feed gRPC
server reflection. A file per proto package, built when it is first asked for. Known are the
packages of envoy-data-plane that are imported at that moment, which are those we emit.
"""

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final, cast

import betterproto2
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.google import rpc
from envoy_data_plane.message_pool import default_message_pool
from google.protobuf import (
    any_pb2,
    descriptor,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    message,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from smi_xds.xds import envelopes as types
from smi_xds.xds.envelopes import Envelopes
from smi_xds.xds.fields import Field, Message, fields_of
from smi_xds.xds.protofile import EnumSpec, FieldSpec, PackageSpec, build_file, file_name
from smi_xds.xds.services import DISCOVERY, SERVICES, discovery_package

# Imported for what their import does: the envelopes refer to these packages and files.
_IMPORTED: Final = (core, rpc)
_STANDARD: Final = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)

# What brings files of its own: the standard types, gRPC's health and reflection services, and
# our own services.
_FOREIGN: Final = ("google.protobuf.", "grpc.", "smi_xds.")

# Where the class name of an enum does not tell its full name: betterproto2 writes `PassTLVs` as
# `PassTlVs`, and some enums that stand alone look as if they were nested.
_ENUM_NAMES: Final[Mapping[str, str]] = {
    "envoy.config.core.v3.ProxyProtocolPassThroughTLVs.PassTlVsMatchType": (
        "envoy.config.core.v3.ProxyProtocolPassThroughTLVs.PassTLVsMatchType"
    ),
    "envoy.config.route.v3.RetryPolicy.ResetHeader.Format": (
        "envoy.config.route.v3.RetryPolicy.ResetHeaderFormat"
    ),
    "envoy.data.accesslog.v2.HTTPAccessLogEntry.HttpVersion": (
        "envoy.data.accesslog.v2.HTTPAccessLogEntry.HTTPVersion"
    ),
    "envoy.data.accesslog.v2.TLSProperties.TlsVersion": (
        "envoy.data.accesslog.v2.TLSProperties.TLSVersion"
    ),
    "envoy.data.accesslog.v3.HTTPAccessLogEntry.HttpVersion": (
        "envoy.data.accesslog.v3.HTTPAccessLogEntry.HTTPVersion"
    ),
    "envoy.data.accesslog.v3.TLSProperties.TlsVersion": (
        "envoy.data.accesslog.v3.TLSProperties.TLSVersion"
    ),
    "envoy.data.core.v2alpha.HealthCheckFailure.Type": (
        "envoy.data.core.v2alpha.HealthCheckFailureType"
    ),
    "envoy.data.core.v3.HealthCheckFailure.Type": "envoy.data.core.v3.HealthCheckFailureType",
    "envoy.extensions.common.ratelimit.v3.XRateLimitHeadersRfcVersion": (
        "envoy.extensions.common.ratelimit.v3.XRateLimitHeadersRFCVersion"
    ),
    "envoy.extensions.filters.http.ratelimit.v3.RateLimit.XRateLimitHeadersRfcVersion": (
        "envoy.extensions.filters.http.ratelimit.v3.RateLimit.XRateLimitHeadersRFCVersion"
    ),
    "envoy.service.status.v3.ClientConfig.Status": "envoy.service.status.v3.ClientConfigStatus",
}


@cache
def envelopes() -> Envelopes:
    """The upb classes of the discovery envelopes."""

    def named(full_name: str) -> object:
        return message_class(full_name)

    return Envelopes(
        discovery_request=cast(
            "type[types.DiscoveryRequest]", named(f"{DISCOVERY}.DiscoveryRequest")
        ),
        discovery_response=cast(
            "type[types.DiscoveryResponse]", named(f"{DISCOVERY}.DiscoveryResponse")
        ),
        delta_discovery_request=cast(
            "type[types.DeltaDiscoveryRequest]", named(f"{DISCOVERY}.DeltaDiscoveryRequest")
        ),
        delta_discovery_response=cast(
            "type[types.DeltaDiscoveryResponse]", named(f"{DISCOVERY}.DeltaDiscoveryResponse")
        ),
        resource=cast("type[types.Resource]", named(f"{DISCOVERY}.Resource")),
        node=cast("type[types.Node]", named("envoy.config.core.v3.Node")),
        status=cast("type[types.Status]", named("google.rpc.Status")),
    )


@cache
def message_class(full_name: str) -> type[message.Message]:
    """The upb class of a message, for decoding what stands in an `Any`."""
    try:
        descriptor = _pool().FindMessageTypeByName(full_name)
    except KeyError:
        raise ValueError(f"{full_name} is no message that is known here") from None
    return message_factory.GetMessageClass(descriptor)


def reflection_pool(*service_names: str) -> descriptor_pool.DescriptorPool:
    """A pool that knows these services, all our messages, and what both refer to."""
    pool = _pool()
    for name in service_names:
        try:
            pool.FindServiceByName(name)
        except KeyError:
            raise ValueError(f"{name} is no service that is known here") from None
    return pool


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    return descriptor_pool.DescriptorPool(_Database())


# ------------------------------------------------------------------ files, when they are missed


class _Database:
    """Builds a package's file when the pool misses it (`google.protobuf.DescriptorDatabase`)."""

    def __init__(self) -> None:
        self._packages: dict[str, dict[type[Message], str]] = {}
        self._indexed = 0

    def FindFileByName(self, name: str) -> FileDescriptorProto:  # noqa: N802 - protobuf's own name
        for package in self._known():
            if file_name(package) == name:
                return self._file(package)
        return _foreign_file(descriptor_pool.Default().FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptorProto:  # noqa: N802 - the same
        package = self._package_of(symbol)
        if package is None:
            return _foreign_file(_foreign(symbol))
        return self._file(package)

    def _file(self, package: str) -> FileDescriptorProto:
        if package == DISCOVERY:
            return build_file(discovery_package(), self._file_of)
        return build_file(spec_from_classes(package, self._known()[package]), self._file_of)

    def _file_of(self, symbol: str) -> str:
        package = self._package_of(symbol)
        return _foreign(symbol).name if package is None else file_name(package)

    def _package_of(self, symbol: str) -> str | None:
        """The known package that a message, enum, service, method or field belongs to."""
        known = self._known()
        while symbol:
            if symbol in known:
                return symbol
            symbol = symbol.rpartition(".")[0]
        return None

    def _known(self) -> Mapping[str, Mapping[type[Message], str]]:
        """Packages with their classes; another import can add some at any time."""
        registered = default_message_pool.type_to_url
        if self._indexed != len(registered):
            # Found by module, since some packages declare nothing but enums.
            modules = (name.partition(".") for name in tuple(sys.modules))
            found = (package for root, _, package in modules if root == "envoy_data_plane")
            self._packages = {package: {} for package in (*found, *SERVICES) if _declares(package)}
            for cls, url in registered.items():
                if (package := package_name(cls)) in self._packages:
                    self._packages[package][cls] = url.rpartition("/")[2]
            self._indexed = len(registered)
        return self._packages


def _declares(package: str) -> bool:
    """Whether a package is ours to describe; modules of generated code have this name in them."""
    module = sys.modules.get(f"envoy_data_plane.{package}")
    is_generated = hasattr(module, "_COMPILER_VERSION")
    return package in SERVICES or (is_generated and package != "google.protobuf")


def _foreign(symbol: str) -> descriptor.FileDescriptor:
    """The file of a symbol that is not envoy-data-plane's."""
    if not symbol.startswith(_FOREIGN):
        raise KeyError(symbol)
    return descriptor_pool.Default().FindFileContainingSymbol(symbol)


def _foreign_file(file: descriptor.FileDescriptor) -> FileDescriptorProto:
    if not file.package.startswith(tuple(prefix.rstrip(".") for prefix in _FOREIGN)):
        raise KeyError(file.name)
    copy = FileDescriptorProto()
    file.CopyToProto(copy)
    return copy


# ------------------------------------------------------------------ specs from classes


def package_name(cls: type[Message]) -> str:
    """The proto package of a class: modules of envoy-data-plane are named like it."""
    return cls.__module__.partition(".")[2]


def spec_from_classes(package: str, classes: Mapping[type[Message], str]) -> PackageSpec:
    """What a package declares, from its classes and their full names."""
    return PackageSpec(
        name=package,
        messages={name: tuple(map(_spec, fields_of(cls))) for cls, name in classes.items()},
        enums={enum_name(enum): _enum_spec(enum) for enum in _enums(package)},
        services=SERVICES.get(package, {}),
    )


def _spec(field: Field) -> FieldSpec:
    entry = (_spec(field.entry[0]), _spec(field.entry[1])) if field.entry else None
    return FieldSpec(
        # betterproto2 appends an underscore to Python's keywords: `in_` is `in`.
        name=field.name.rstrip("_"),
        number=field.number,
        type=_type_name(field),
        is_enum=field.enum is not None,
        repeated=field.repeated,
        oneof=field.oneof,
        entry=entry,
    )


def _type_name(field: Field) -> str:
    if field.message is not None:
        return default_message_pool.type_to_url[field.message].rpartition("/")[2]
    return field.kind if field.enum is None else enum_name(field.enum)


def _enums(package: str) -> Iterator[type[betterproto2.Enum]]:
    module = sys.modules.get(f"envoy_data_plane.{package}")
    for value in vars(module).values() if module else ():
        if isinstance(value, type) and issubclass(value, betterproto2.Enum):
            yield value


@cache
def enum_name(enum: type[betterproto2.Enum]) -> str:
    """The full name of an enum; classes of nested ones are named `ClusterDiscoveryType`."""
    own, package = enum.__name__, enum.__module__.partition(".")[2]
    owners = [
        (cls.__name__, url.rpartition("/")[2])
        for cls, url in default_message_pool.type_to_url.items()
        if cls.__module__ == enum.__module__
        and own.startswith(cls.__name__)
        and own[len(cls.__name__) :][:1].isupper()
    ]
    prefix, owner = max(owners, default=("", package))
    name = f"{owner}.{own.removeprefix(prefix)}"
    return _ENUM_NAMES.get(name, name)


def _enum_spec(enum: type[betterproto2.Enum]) -> EnumSpec:
    renamed = enum.betterproto_value_to_renamed_proto_names()
    values = (
        (renamed.get(int(member), name), int(member)) for name, member in enum.__members__.items()
    )
    return EnumSpec(values=tuple(values))
