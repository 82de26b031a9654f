"""Small Envoy messages that every generator needs."""

from datetime import timedelta
from functools import cache

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    CidrRange,
    ConfigSource,
    DataSource,
    SocketAddress,
    SocketAddressProtocol,
    TransportSocket,
)
from envoy_data_plane.google.protobuf import Struct, Value

from smi_xds.xds.encode import pack
from smi_xds.xds.fields import Message

NEVER = timedelta(0)
"""Switches a time-out of Envoy off."""


@cache
def mesh_endpoint() -> Struct:
    """`envoy.transport_socket_match` of endpoints that have a sidecar."""
    return Struct(fields={"mtls": Value(bool_value=True)})


@cache
def ads() -> ConfigSource:
    """On the same stream, in the order that we choose."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def socket(address: str, port: int) -> Address:
    """A TCP address."""
    return Address(socket_address=SocketAddress(address=address, port_value=port))


def host(address: str) -> CidrRange:
    """One address, as a range."""
    return CidrRange(address_prefix=address, prefix_len=128 if ":" in address else 32)


def udp_socket(address: str, port: int) -> Address:
    """A UDP address."""
    found = socket(address, port)
    assert found.socket_address is not None
    found.socket_address.protocol = SocketAddressProtocol.UDP
    return found


def inline(pem: bytes) -> DataSource:
    """PEM that travels in the message itself, as text: people read dumps."""
    return DataSource(inline_string=pem.decode("ascii"))


def transport_socket(kind: str, context: Message) -> TransportSocket:
    """`envoy.transport_sockets.<kind>`."""
    return TransportSocket(name=f"envoy.transport_sockets.{kind}", typed_config=pack(context))
