"""Load assignments from cached bytes."""

from typing import Any

import pytest

from smi_xds.mesh.model import Endpoint, EndpointState
from smi_xds.xds import endpoints
from smi_xds.xds.endpoints import EndpointEncoder, Group
from smi_xds.xds.resources import Resource
from tests.support.objects import spiffe
from tests.support.shown import shown

A = Endpoint(address="10.0.0.1", port=80, identity=spiffe("a"))
B = Endpoint(address="fd00::1", port=81)


def localities(resource: Resource) -> Any:
    return shown(resource)["endpoints"]


def test_endpoints_with_a_sidecar_are_marked() -> None:
    """The mark chooses mTLS in the cluster; without it they are called in plaintext."""
    resource = EndpointEncoder()("shop/web:80", (Group(endpoints=(A, B)),))
    assert resource.name == shown(resource)["cluster_name"] == "shop/web:80"
    assert localities(resource)[0]["lb_endpoints"] == [
        {
            "endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}},
            "metadata": {"filter_metadata": {"envoy.transport_socket_match": {"mtls": True}}},
        },
        {"endpoint": {"address": {"socket_address": {"address": "fd00::1", "port_value": 81}}}},
    ]


def test_draining_endpoints_are_said_to_drain() -> None:
    """They keep their connections and get no new ones."""
    drains = Endpoint(address="10.0.0.1", port=80, state=EndpointState.DRAINING)
    (locality,) = localities(EndpointEncoder()("x", (Group(endpoints=(drains,)),)))
    (endpoint,) = locality["lb_endpoints"]
    assert endpoint["health_status"] == "DRAINING"


def test_each_backend_of_a_tcp_split_is_a_weighted_locality() -> None:
    """Its name shows in statistics, its weight is its share."""
    groups = (
        Group(name="shop/v1", weight=9, endpoints=(A,)),
        Group(name="shop/v2", weight=1, endpoints=(B,)),
    )
    found = localities(EndpointEncoder()("x", groups))
    assert [(it["locality"], it["load_balancing_weight"]) for it in found] == [
        ({"sub_zone": "shop/v1"}, 9),
        ({"sub_zone": "shop/v2"}, 1),
    ]


def test_only_endpoints_that_are_new_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many endpoints of which one changed, one is encoded and the rest are joined."""
    encoded: list[Endpoint] = []
    encode = endpoints._encode

    def counting(endpoint: Endpoint) -> bytes:
        encoded.append(endpoint)
        return encode(endpoint)

    monkeypatch.setattr(endpoints, "_encode", counting)
    encoder = EndpointEncoder()
    encoder("x", (Group(endpoints=(A,)),))
    both = encoder("x", (Group(endpoints=(A, B)),))
    assert encoded == [A, B]
    assert both.body == EndpointEncoder()("x", (Group(endpoints=(A, B)),)).body
    encoder("x", (Group(endpoints=(B,)),))
    assert encoded == [A, B, A, B]  # the two more are those of the encoder without memory
    encoder("x", (Group(endpoints=(A, B)),))
    assert encoded[4:] == [A]  # what the last one did not have is forgotten
