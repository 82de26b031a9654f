"""Server reflection, v1 and v1alpha, so that grpcurl works out of the box.

grpcio brings reflection v1alpha only. v1 has the same messages in another package, so the same
servicer answers for both; what v1 lacks is the description of itself, made here by renaming.
"""

from typing import Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

from smi_xds.xds.descriptors import reflection_pool

_OLD: Final = "grpc.reflection.v1alpha"
_NEW: Final = "grpc.reflection.v1"
_NEW_FILE: Final = "grpc/reflection/v1/reflection.proto"


def reflection_handlers(*services: str) -> tuple[grpc.GenericRpcHandler, ...]:
    """Handlers that describe these services, and reflection itself."""
    _describe_v1()
    packages = (_OLD, _NEW)
    names = (*services, *(f"{package}.ServerReflection" for package in packages))
    servicer = reflection.aio.ReflectionServicer(names, pool=reflection_pool(*names))
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(
        grpc.method_handlers_generic_handler(
            f"{package}.ServerReflection", {"ServerReflectionInfo": method}
        )
        for package in packages
    )


def _describe_v1() -> None:
    """Put the description of reflection v1 into protobuf's default pool, unless it is there."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_NEW_FILE)
    except KeyError:
        text = reflection_pb2.DESCRIPTOR.serialized_pb
        file = FileDescriptorProto.FromString(text)
        file.name, file.package = _NEW_FILE, _NEW
        for message in file.message_type:
            for each in (each for each in message.field if each.type_name):
                each.type_name = each.type_name.replace(f".{_OLD}.", f".{_NEW}.")
        for method in file.service[0].method:
            method.input_type = method.input_type.replace(f".{_OLD}.", f".{_NEW}.")
            method.output_type = method.output_type.replace(f".{_OLD}.", f".{_NEW}.")
        pool.AddSerializedFile(file.SerializeToString())
