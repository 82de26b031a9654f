"""The dialect of gRPC clients without a proxy."""

from smi_xds.mesh.model import PortRef
from smi_xds.values import ServiceRef
from smi_xds.xds import names
from smi_xds.xds.proxyless import (
    denied_cluster,
    denied_endpoints,
    grpc_cluster,
    grpc_denied,
    grpc_listeners,
    grpc_routes,
)
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, ROUTES, Need
from smi_xds.xds.routes import HostFragment
from tests.support.objects import spiffe
from tests.support.shown import shown

CART = PortRef(ServiceRef("shop", "cart"), 8080)


def test_a_listener_has_the_name_that_is_dialled() -> None:
    """`xds:///cart.shop:8080` asks for exactly that; each leads to the same routes."""
    listeners = grpc_listeners(CART)
    assert [listener.name for listener in listeners] == [
        "cart.shop:8080",
        "cart.shop.svc:8080",
        "cart.shop.svc.cluster.local:8080",
    ]
    for listener in listeners:
        assert listener.needs == {Need(ROUTES, "outbound|shop/cart:8080")}
        found = shown(listener)
        assert found.keys() == {"name", "api_listener"}
        manager = found["api_listener"]["api_listener"]
        assert manager["rds"]["route_config_name"] == "outbound|shop/cart:8080"
        assert [it["name"].rpartition(".")[2] for it in manager["http_filters"]] == [
            "fault",
            "router",
        ]


def test_routes_are_the_virtual_host_of_sidecars() -> None:
    """Byte for byte, in a route configuration of its own."""
    needs = frozenset({Need(CLUSTER, "shop/cart:8080")})
    host = HostFragment(body=b"\x12\x03\x0a\x01x", clusters=needs)
    routes = grpc_routes(CART, host)
    assert routes.body.endswith(host.body)
    assert shown(routes) == {"name": "outbound|shop/cart:8080", "virtual_hosts": [{"name": "x"}]}
    assert routes.needs == needs


def test_the_denied_are_told_permission_denied() -> None:
    """By a fault on the only route, whose cluster has no endpoints."""
    denied = grpc_denied(CART)
    (host,) = shown(denied)["virtual_hosts"]
    (route,) = host["routes"]
    assert host["domains"] == ["*"]
    assert route["route"] == {"cluster": "denied"}
    (fault,) = route["typed_per_filter_config"].values()
    assert fault["abort"] == {"grpc_status": 7, "percentage": {"numerator": 100}}
    assert denied.needs == {Need(CLUSTER, "denied")}
    assert denied.name == grpc_routes(CART, HostFragment(body=b"", clusters=frozenset())).name
    assert denied_cluster().needs == {Need(ENDPOINTS, "denied")}
    assert shown(denied_endpoints()) == {"cluster_name": "denied"}


def test_certificates_come_from_the_bootstraps_providers() -> None:
    """With the names behind the service in the one list that gRPC reads."""
    cluster = grpc_cluster(CART, (spiffe("b"), spiffe("a")))
    found = shown(cluster)
    assert "transport_socket_matches" not in found
    assert "lb_policy" not in found, "round robin"
    assert found["transport_socket"]["name"] == "envoy.transport_sockets.tls"
    assert found["transport_socket"]["typed_config"]["common_tls_context"] == {
        "tls_certificate_provider_instance": {"instance_name": "identity"},
        "validation_context": {
            "ca_certificate_provider_instance": {"instance_name": "trust"},
            "match_subject_alt_names": [{"exact": str(spiffe(name))} for name in "ab"],
        },
    }
    assert cluster.needs == {Need(ENDPOINTS, "shop/cart:8080")}


def test_a_list_of_names_is_never_empty() -> None:
    """gRPC, too, reads an empty list as anyone with a certificate."""
    tls = shown(grpc_cluster(CART, ()))["transport_socket"]["typed_config"]
    context = tls["common_tls_context"]["validation_context"]
    assert context["match_subject_alt_names"] == [{"exact": names.NO_ONE}]


def test_without_mtls_there_is_no_transport_socket() -> None:
    """The client's own credentials then say what it falls back to."""
    assert "transport_socket" not in shown(grpc_cluster(CART, None))
