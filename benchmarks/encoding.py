"""Encoding load assignments: our encoders, betterproto2's own, and upb.

Bars: a load assignment of 10 endpoints in under 1/20 of `bytes(message)`; building and encoding
one of 1,000 endpoints of which one changed in under 2 ms.
"""

import sys
from collections.abc import Callable
from itertools import count
from typing import Any

from envoy_data_plane.envoy.config.core.v3 import Address, HealthStatus, SocketAddress
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from google.protobuf.message import Message as Upb

from benchmarks.measure import Bar, Report, present, side_by_side
from smi_xds.xds.descriptors import message_class
from smi_xds.xds.encode import encode, fragment, splice, warm

NAME = "shop/bookstore:http"
PORT = 8080


def main() -> int:
    """Measure and print."""
    warm(ClusterLoadAssignment)
    return present([ten_endpoints(), one_of_a_thousand_changed()], sys.argv[1:])


def ten_endpoints() -> Report:
    """The bytes of a message that is there already, and of one that is built first."""
    addresses = [address(number) for number in range(10)]
    message, upb = build(addresses), build_upb(addresses)
    assert encode(message) == bytes(message)
    assert type(upb).FromString(encode(message)) == upb
    rows = side_by_side(
        {
            "bytes(message)": lambda: bytes(message),
            "encode(message)": lambda: encode(message),
            "upb serialise": lambda: upb_bytes(upb),
            "build, bytes(message)": lambda: bytes(build(addresses)),
            "build, encode(message)": lambda: encode(build(addresses)),
            "upb build, serialise": lambda: upb_bytes(build_upb(addresses)),
        }
    )
    report = Report(name="a load assignment of 10 endpoints", rows=rows)
    ratio = report.median("encode(message)") / report.median("bytes(message)")
    bar = Bar(name="encode(message) to bytes(message)", value=ratio, limit=1 / 20, unit="parts")
    return Report(name=report.name, rows=rows, bars=(bar,))


def one_of_a_thousand_changed() -> Report:
    """The bytes after one address changed, by each way of getting there."""
    joined, kept = Joined(), Kept()
    some = [address(number) for number in range(1000)]
    assert joined.encode(some) == encode(build(some))
    rows = side_by_side(
        {
            "joined from memoised fragments": one_changed(joined.encode),
            "build all, encode(message)": one_changed(lambda them: encode(build(them))),
            "upb keep, change one, serialise": one_changed(kept.encode),
            "upb build all, serialise": one_changed(lambda them: upb_bytes(build_upb(them))),
        },
        rounds=9,
    )
    report = Report(name="a load assignment of 1,000 endpoints, one changed", rows=rows)
    took = report.median("joined from memoised fragments") / 1000
    bar = Bar(name="joined from memoised fragments", value=took, limit=2, unit="ms")
    return Report(name=report.name, rows=rows, bars=(bar,))


def one_changed(encode_all: Callable[[list[str]], bytes]) -> Callable[[], bytes]:
    """Replaces one of 1,000 addresses by one never seen, at each call, and encodes them all."""
    addresses = [address(number) for number in range(1000)]
    fresh = count(1000)

    def change() -> bytes:
        number = next(fresh)
        addresses[number % 1000] = address(number)
        return encode_all(addresses)

    return change


def address(number: int) -> str:
    """One of 16 million."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


# ------------------------------------------------------------------ ways of building


def build(addresses: list[str]) -> ClusterLoadAssignment:
    """A load assignment by envoy-data-plane."""
    locality = LocalityLbEndpoints(lb_endpoints=[build_endpoint(ip) for ip in addresses])
    return ClusterLoadAssignment(cluster_name=NAME, endpoints=[locality])


def build_endpoint(ip: str) -> LbEndpoint:
    """An endpoint by envoy-data-plane."""
    socket = SocketAddress(address=ip, port_value=PORT)
    return LbEndpoint(
        endpoint=Endpoint(address=Address(socket_address=socket)),
        health_status=HealthStatus.HEALTHY,
        load_balancing_weight=1,
    )


class Joined:
    """Keeps the tagged bytes of each endpoint that the last round used."""

    def __init__(self) -> None:
        self._fragments: dict[str, bytes] = {}

    def encode(self, addresses: list[str]) -> bytes:
        """The load assignment, of which only new endpoints are built."""
        kept = self._fragments
        self._fragments = {ip: kept.get(ip) or self._fragment(ip) for ip in addresses}
        locality = splice(LocalityLbEndpoints(), "lb_endpoints", self._fragments.values())
        tagged = [fragment(ClusterLoadAssignment, "endpoints", locality)]
        return splice(ClusterLoadAssignment(cluster_name=NAME), "endpoints", tagged)

    def _fragment(self, ip: str) -> bytes:
        return fragment(LocalityLbEndpoints, "lb_endpoints", encode(build_endpoint(ip)))


def build_upb(addresses: list[str]) -> Upb:
    """A load assignment by upb."""
    assignment: Any = message_class("envoy.config.endpoint.v3.ClusterLoadAssignment")()
    assignment.cluster_name = NAME
    locality = assignment.endpoints.add()
    for ip in addresses:
        endpoint = locality.lb_endpoints.add()
        endpoint.endpoint.address.socket_address.address = ip
        endpoint.endpoint.address.socket_address.port_value = PORT
        endpoint.health_status = HealthStatus.HEALTHY
        endpoint.load_balancing_weight.value = 1
    built: Upb = assignment
    return built


def upb_bytes(message: Upb) -> bytes:
    """Serialised by upb."""
    return message.SerializeToString()


class Kept:
    """Keeps a upb message and changes what is different."""

    def __init__(self) -> None:
        self._addresses: list[str] = []
        self._message: Any = None

    def encode(self, addresses: list[str]) -> bytes:
        """The load assignment, in which only changed addresses are set."""
        if len(self._addresses) != len(addresses):
            self._message = build_upb(addresses)
        else:
            endpoints = self._message.endpoints[0].lb_endpoints
            for index, (old, new) in enumerate(zip(self._addresses, addresses, strict=True)):
                if old != new:
                    endpoints[index].endpoint.address.socket_address.address = new
        self._addresses = list(addresses)
        return upb_bytes(self._message)


if __name__ == "__main__":
    sys.exit(main())
