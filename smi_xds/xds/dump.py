"""Resources as JSON, for people: `translate`, the debug API, golden cases."""

from collections.abc import Iterator, Mapping
from typing import cast

from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool

from smi_xds.xds.descriptors import message_class
from smi_xds.xds.encode import encode, type_url
from smi_xds.xds.fields import Message
from smi_xds.xds.resources import TYPES, Resource, ResourceSet

_REDACTED = "<redacted>"

# Fields of Envoy's messages that hold secrets, in secrets and where they stand inline: of
# TlsCertificate, Secret, TlsSessionTicketKeys and core.GrpcService.GoogleGrpc.
_SECRET_FIELDS = frozenset(
    {"private_key", "pkcs12", "password", "generic_secret", "session_ticket_keys", "access_token"}
)


def to_json(message: Message) -> dict[str, object]:
    """A message of envoy-data-plane as proto3 JSON, with Envoy's own field names.

    Shows everything, private keys included: it is for bootstraps and the like.
    """
    return _decode(type_url(type(message)), encode(message))


def resource_json(resource: Resource) -> dict[str, object]:
    """A resource as proto3 JSON; private keys and other secrets are redacted."""
    decoded = _decode(resource.type, resource.body)
    _redact(decoded)
    return decoded


def set_json(resources: ResourceSet) -> dict[str, list[dict[str, object]]]:
    """Everything that one proxy gets: resources by the last word of their type, sorted by name."""
    return {
        str(type_).rpartition(".")[2]: [
            resource_json(resource) for _, resource in sorted(resources.all(type_).items())
        ]
        for type_ in TYPES
    }


def _decode(url: str, body: bytes) -> dict[str, object]:
    message = message_class(url.rpartition("/")[2]).FromString(body)
    # The pool resolves what is packed in an Any; upb's own pool class has no stub.
    pool = cast("DescriptorPool", message.DESCRIPTOR.file.pool)
    decoded = json_format.MessageToDict(
        message, preserving_proto_field_name=True, descriptor_pool=pool
    )
    return {key: ordered(child) for key, child in _sorted(decoded)}


def ordered(value: object) -> object:
    """Plain dicts in a fixed order, what a reader looks for first: maps have none of their own."""
    if isinstance(value, dict):
        return {key: ordered(child) for key, child in _sorted(value)}
    return [ordered(child) for child in value] if isinstance(value, list) else value


def _sorted(value: Mapping[str, object]) -> list[tuple[str, object]]:
    return sorted(value.items(), key=lambda item: (item[0] not in ("@type", "name"), item[0]))


def _redact(value: object) -> None:
    for key, child in _items(value):
        if key in _SECRET_FIELDS and isinstance(value, dict):
            value[key] = _REDACTED
        else:
            _redact(child)


def _items(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from list(value.items())
    elif isinstance(value, list):
        yield from (("", child) for child in value)
