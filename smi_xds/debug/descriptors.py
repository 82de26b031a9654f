"""The description of our API, for server reflection and for clients."""

from importlib import resources
from typing import Any, Final

from google.protobuf import descriptor_pool, message_factory, struct_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from smi_xds import _proto

# Imported for what their import does: ours refers to them.
_IMPORTED: Final = (struct_pb2, timestamp_pb2)
_PACKAGE: Final = "smi_xds.debug.v1"


def describe() -> None:
    """Put it into protobuf's default pool; as often as one likes."""
    blob = (resources.files(_proto) / "descriptors.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(blob).file:
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


def fast_class(name: str) -> Any:
    """The upb class of a message: reads a thousand times faster than betterproto2."""
    describe()
    descriptor = descriptor_pool.Default().FindMessageTypeByName(f"{_PACKAGE}.{name}")
    return message_factory.GetMessageClass(descriptor)
