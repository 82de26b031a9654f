import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.google.protobuf import Struct, Value
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from grpc_health.v1 import health_pb2

from smi_xds.xds import descriptors, services
from smi_xds.xds.descriptors import envelopes, message_class, reflection_pool
from smi_xds.xds.encode import encode, pack
from smi_xds.xds.protofile import build_file
from tests.support.messages import all_classes, full_name, load_independent_decoder

SERVICES = tuple(name for package in services.SERVICES.values() for name in package)

# What xds-protos, which is older than envoy-data-plane, has under another name, type or oneof.
CHANGED_SINCE = {
    "envoy.config.endpoint.v3.LbEndpointCollection: entries",
    "envoy.extensions.filters.http.mcp.v3.ParserConfig.MethodConfig: group",
    "envoy.service.ext_proc.v3.ProcessingResponse: streamed_immediate_response",
}


@pytest.fixture(autouse=True)
def _fresh_pool() -> Iterator[None]:
    """A pool keeps a package as it was when first asked for: other tests import less."""
    for cached in (descriptors._pool, descriptors.message_class):
        cached.cache_clear()
    yield
    for cached in (descriptors._pool, descriptors.message_class):
        cached.cache_clear()


def test_envelopes_read_and_write_what_envoy_sends() -> None:
    """The classes parse a first request and give back every part of it."""
    types = envelopes()
    node = Node(id="shop/books", metadata=Struct(fields={"a": Value(string_value="b")}))
    sent = types.delta_discovery_request(
        node=types.node.FromString(encode(node)),
        type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster",
        resource_names_subscribe=["*"],
        initial_resource_versions={"one": "1"},
        error_detail=types.status(code=3, message="no"),
    )

    read = types.delta_discovery_request.FromString(sent.SerializeToString())

    assert read.node.id == "shop/books"
    assert read.node.metadata["a"] == "b"
    assert list(read.resource_names_subscribe) == ["*"]
    assert dict(read.initial_resource_versions) == {"one": "1"}
    assert (read.error_detail.code, read.error_detail.message) == (3, "no")
    assert read.HasField("error_detail")


def test_envelopes_do_not_import_the_discovery_module() -> None:
    """Making the envelopes spares the 0.5 s and 16 MB of envoy-data-plane's own module."""
    code = """
import sys
from smi_xds.xds.descriptors import envelopes
envelopes().discovery_response(nonce="1").SerializeToString()
sys.exit("envoy_data_plane.envoy.service.discovery.v3" in sys.modules or "grpclib" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_table_of_envelopes_agrees_with_envoy_data_plane() -> None:
    """What is written down about the discovery package is what its own metadata say."""
    classes = {
        cls: full_name(cls)
        for cls in all_classes()
        if descriptors.package_name(cls) == services.DISCOVERY
    }
    database = descriptors._Database()
    table = services.discovery_package()

    spec = descriptors.spec_from_classes(services.DISCOVERY, classes)

    assert spec.messages == table.messages
    assert build_file(spec, database._file_of) == build_file(table, database._file_of)


def test_descriptors_agree_with_those_of_protoc() -> None:
    """Every message that xds-protos knows too has the same fields, types, labels and oneofs."""
    all_classes()
    load_independent_decoder()
    pool, other = reflection_pool(), descriptor_pool.Default()
    differing, compared = set[str](), 0
    for name in map(full_name, all_classes()):
        try:
            theirs = other.FindMessageTypeByName(name)
        except KeyError:
            continue
        mine = pool.FindMessageTypeByName(name)
        differing |= {f"{name}: {field}" for field in _differing(mine, theirs)}
        compared += 1

    assert differing == CHANGED_SINCE
    assert compared > 1800


def _differing(mine: Descriptor, theirs: Descriptor) -> Iterator[str]:
    common = set(mine.fields_by_number) & set(theirs.fields_by_number)
    for number in common:
        field = mine.fields_by_number[number]
        other = theirs.fields_by_number[number]
        # validate.proto is proto2, whose presence betterproto2 does not keep.
        same_presence = field.has_presence == other.has_presence or (
            theirs.full_name.startswith("validate.")
        )
        if _shape(field) != _shape(other) or not same_presence:
            yield field.name


def _shape(field: FieldDescriptor) -> tuple[object, ...]:
    oneof = field.containing_oneof
    entry = field.message_type
    is_map = entry is not None and entry.GetOptions().map_entry
    return (
        field.name,
        field.json_name,
        field.type,
        field.is_repeated,
        oneof.name if oneof else None,
        entry.full_name if entry is not None else None,
        field.enum_type.full_name if field.enum_type is not None else None,
        tuple(_shape(part) for part in entry.fields) if entry is not None and is_map else None,
    )


def test_enums_agree_with_those_of_protoc() -> None:
    """Every enum that xds-protos knows too has the same names for the same numbers."""
    all_classes()
    load_independent_decoder()
    pool, other = reflection_pool(), descriptor_pool.Default()
    names = {enum.full_name for cls in all_classes() for enum in _enums(pool, full_name(cls))}
    differing = []
    for name in names:
        try:
            theirs = _values(other.FindEnumTypeByName(name))
        except KeyError:
            continue
        mine = _values(pool.FindEnumTypeByName(name))
        # Newer values are missing there, but what is there must be here.
        if not theirs.items() <= mine.items():
            differing.append(name)

    assert differing == []
    assert len(names) > 200


def _enums(pool: descriptor_pool.DescriptorPool, message: str) -> Iterator[EnumDescriptor]:
    for field in pool.FindMessageTypeByName(message).fields:
        if field.enum_type is not None:
            yield field.enum_type


def _values(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values}


@pytest.mark.parametrize("name", SERVICES)
def test_services_agree_with_those_of_protoc(name: str) -> None:
    """Each discovery service has protoc's methods, with their messages and directions."""
    load_independent_decoder()

    mine = _methods(reflection_pool(name).FindServiceByName(name))

    assert mine == _methods(descriptor_pool.Default().FindServiceByName(name))


def _methods(service: ServiceDescriptor) -> dict[str, tuple[str, str, bool, bool]]:
    return {
        method.name: (
            method.input_type.full_name,
            method.output_type.full_name,
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    }


def test_reflection_finds_files_by_symbol_and_by_name() -> None:
    """What reflection asks for: a symbol's file, its dependencies, and services of other owners."""
    pool = reflection_pool("grpc.health.v1.Health")
    method = "envoy.service.discovery.v3.AggregatedDiscoveryService.DeltaAggregatedResources"

    file = pool.FindFileContainingSymbol(method.rpartition(".")[0])

    assert file.name == "envoy/service/discovery/v3/discovery.proto"
    assert "envoy/config/core/v3/core.proto" in {needed.name for needed in file.dependencies}
    assert pool.FindFileByName("google/protobuf/any.proto").package == "google.protobuf"
    assert pool.FindFileContainingSymbol("grpc.health.v1.Health").name == (
        health_pb2.DESCRIPTOR.name
    )


def test_every_file_stands_in_a_pool_of_its_own() -> None:
    """All files, copied in the order of their dependencies, build a pool without ours."""
    all_classes()
    pool, copy = reflection_pool(*SERVICES), descriptor_pool.DescriptorPool()
    copied = set[str]()

    def add(name: str) -> None:
        if name not in copied:
            copied.add(name)
            file = FileDescriptorProto()
            pool.FindFileByName(name).CopyToProto(file)
            for needed in file.dependency:
                add(needed)
            copy.Add(file)

    for cls in all_classes():
        add(pool.FindMessageTypeByName(full_name(cls)).file.name)

    assert copy.FindMessageTypeByName("envoy.config.bootstrap.v3.Bootstrap").fields
    assert len(copied) > 400


def test_aliases_of_enums_are_declared() -> None:
    """Strict readers (Go's) refuse two names for one number unless the enum allows aliases."""
    all_classes()
    name = "envoy.extensions.compression.gzip.compressor.v3.Gzip"
    proto = DescriptorProto()
    message_class(name).DESCRIPTOR.CopyToProto(proto)

    (level,) = (enum for enum in proto.enum_type if enum.name == "CompressionLevel")
    assert level.options.allow_alias


def test_message_class_decodes_any_bodies_to_json() -> None:
    """A packed resource becomes the JSON that Envoy's documentation speaks of."""
    body = pack(Cluster(name="books", type=ClusterDiscoveryType.EDS))

    decoded = message_class(body.type_url.rpartition("/")[2]).FromString(body.value)

    assert json.loads(json_format.MessageToJson(decoded)) == {"name": "books", "type": "EDS"}


def test_unknown_names_are_refused() -> None:
    """A name that is not known gets an error that says so."""
    with pytest.raises(ValueError, match=r"envoy\.Nope is no message that is known here"):
        message_class("envoy.Nope")
    with pytest.raises(ValueError, match=r"envoy\.Nope is no service that is known here"):
        reflection_pool("envoy.Nope")
    with pytest.raises(KeyError):
        reflection_pool().FindFileByName("nope.proto")
    with pytest.raises(KeyError):
        reflection_pool().FindFileByName("envoy/config/cluster/v3/outlier_detection.proto")
