"""Asks a running server, as the command line does.

Answers are proto3 JSON with the field names of the proto, each field present. They are read by
upb: a proxy may have megabytes, with which betterproto2 would take half a minute.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import grpc
from betterproto2 import Message
from google.protobuf.json_format import MessageToDict

from smi_xds._proto.smi_xds.debug.v1 import (
    ExplainRequest,
    GetProxyRequest,
    GraphRequest,
    ListProxiesRequest,
)
from smi_xds.config import Address
from smi_xds.debug.descriptors import fast_class
from smi_xds.problems import AskError, NoAnswerError
from smi_xds.xds.encode import encode

Json: TypeAlias = dict[str, Any]

# The answer comes at once where a server listens; this is for thousands of proxies.
_PATIENCE: Final = 60.0

# What a proxy gets may be larger than the 4 MiB that gRPC takes by default.
_OPTIONS: Final = (("grpc.max_receive_message_length", -1),)

_DEBUG: Final = "/smi_xds.debug.v1.Debug"


def list_proxies(server: Address) -> list[Json]:
    """All proxies that are configured or connected."""
    with _channel(server) as channel:
        method: Any = channel.unary_stream(
            f"{_DEBUG}/ListProxies",
            request_serializer=encode,
            response_deserializer=fast_class("Proxy").FromString,
        )
        return [_json(each) for each in method(ListProxiesRequest(), timeout=_PATIENCE)]


def get_proxy(server: Address, node: str) -> Json:
    """One of them, with its resources."""
    return _one(server, "GetProxy", GetProxyRequest(node=node), answer="Proxy")


def explain(server: Address, question: Mapping[str, Any]) -> Json:
    """The Explanation of a question, whose fields are those of ExplainRequest."""
    return _one(server, "Explain", ExplainRequest(**question), answer="Explanation")


def graph(server: Address, namespace: str) -> Json:
    """Who may call whom; an empty namespace means all."""
    return _one(server, "Graph", GraphRequest(namespace=namespace), answer="MeshGraph")


def _one(server: Address, name: str, request: Message, *, answer: str) -> Json:
    with _channel(server) as channel:
        method: Any = channel.unary_unary(
            f"{_DEBUG}/{name}",
            request_serializer=encode,
            response_deserializer=fast_class(answer).FromString,
        )
        return _json(method(request, timeout=_PATIENCE))


def _json(message: Any) -> Json:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


@contextmanager
def _channel(server: Address) -> Iterator[grpc.Channel]:
    try:
        with grpc.insecure_channel(str(server), options=_OPTIONS) as channel:
            yield channel
    except grpc.RpcError as error:
        raise _explained(server, error) from error


def _explained(server: Address, call: Any) -> AskError:
    """In one line; what was raised is the call, with a code and a text."""
    match call.code():
        case grpc.StatusCode.NOT_FOUND | grpc.StatusCode.FAILED_PRECONDITION:
            return AskError(str(call.details()))
        case grpc.StatusCode.UNIMPLEMENTED:
            return AskError(
                f"{server} has no debug API of smi-xds: give the --server of an `smi-xds serve`"
            )
        case code:
            return NoAnswerError(
                f"no answer of a server at {server} ({code.name}): "
                "start `smi-xds serve`, or say with --server where it listens for xDS"
            )
