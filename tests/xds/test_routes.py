"""Route configurations."""

from dataclasses import replace
from typing import Any

import pytest

from smi_xds.mesh.model import (
    HttpMatch,
    InboundPort,
    PortRef,
    PortRoutes,
    Protocol,
    RouteEntry,
    WeightedBackend,
)
from smi_xds.values import AccessMode, ProxyId, ServiceRef
from smi_xds.xds.resources import CLUSTER, Need
from smi_xds.xds.routes import (
    called_by,
    inbound_routes,
    outbound_host,
    outbound_routes,
    service_routes,
)
from tests.support.mesh import build_mesh
from tests.support.objects import NS, mk_pod, mk_service
from tests.support.shown import shown

WEB, V1, V2 = (ServiceRef(NS, name) for name in ("web", "v1", "v2"))


def mk_entry(split: str, *matches: HttpMatch, **weights: int) -> RouteEntry:
    backends = [WeightedBackend(service=ServiceRef(NS, s), weight=w) for s, w in weights.items()]
    return RouteEntry(split=split, matches=matches, backends=tuple(backends))


def mk_routes(*entries: RouteEntry, protocol: Protocol = Protocol.HTTP) -> PortRoutes:
    return PortRoutes(service=WEB, port=80, protocol=protocol, entries=entries)


def hosts(routes: PortRoutes, *, allowed: bool = True) -> Any:
    table = outbound_routes((outbound_host(routes, allowed=allowed, local=True),))
    return shown(table)["virtual_hosts"]


def acts(routes: PortRoutes) -> list[Any]:
    """What each route of the service does, without what all of them have."""
    found = []
    for route in hosts(routes)[0]["routes"]:
        action = route.get("route") or route["direct_response"]
        found.append({k: v for k, v in action.items() if k not in ("timeout", "retry_policy")})
    return found


def test_one_backend_is_a_cluster_and_several_are_weighted() -> None:
    """A backend without a weight stays in the list: its cluster is warm when it gets one."""
    assert acts(mk_routes(mk_entry("", web=1))) == [{"cluster": "shop/web:80"}]
    assert acts(mk_routes(mk_entry("shop/s", v1=9, v2=0))) == [
        {
            "weighted_clusters": {
                "clusters": [
                    {"name": "shop/v1:80", "weight": 9},
                    {"name": "shop/v2:80", "weight": 0},
                ]
            }
        }
    ]


@pytest.mark.parametrize("entry", [mk_entry("shop/s"), mk_entry("shop/s", v1=0)])
def test_nowhere_to_go_is_503(entry: RouteEntry) -> None:
    """Envoy refuses weights that add up to 0: the answer names the split."""
    (answer,) = acts(mk_routes(entry))
    assert answer["status"] == 503
    assert "shop/s" in answer["body"]["inline_string"]


def test_each_match_of_an_entry_is_a_route_in_order() -> None:
    """Matches are alternatives; entries come in the order of the mesh, named by their split."""
    entry = mk_entry("shop/s", HttpMatch(path="/a"), HttpMatch(path="/b"), v1=1)
    routes = hosts(mk_routes(entry, mk_entry("", web=1)))[0]["routes"]
    assert [(r["name"], r["match"]) for r in routes] == [
        ("shop/s", {"safe_regex": {"regex": "(?:/a).*"}}),
        ("shop/s", {"safe_regex": {"regex": "(?:/b).*"}}),
        ("service", {"prefix": "/"}),
    ]


def test_an_entry_means_the_clusters_of_its_port() -> None:
    """The same split at two ports of a root, and with another weight, is encoded anew."""
    found = [
        acts(replace(mk_routes(mk_entry("shop/s", v1=weight, v2=1)), port=port))
        for port, weight in ((80, 1), (81, 1), (80, 2), (80, 1))
    ]
    clusters = [
        [(it["name"], it["weight"]) for it in act["weighted_clusters"]["clusters"]]
        for (act,) in found
    ]
    assert clusters == [
        [("shop/v1:80", 1), ("shop/v2:80", 1)],
        [("shop/v1:81", 1), ("shop/v2:81", 1)],
        [("shop/v1:80", 2), ("shop/v2:80", 1)],
        [("shop/v1:80", 1), ("shop/v2:80", 1)],
    ]


def test_only_what_was_not_processed_is_retried_and_nothing_times_out() -> None:
    """Envoy's 15 seconds would cut streams."""
    (route,) = hosts(mk_routes(mk_entry("", web=1)))[0]["routes"]
    assert route["route"]["timeout"] == "0s"
    retried = route["route"]["retry_policy"]
    assert retried["retry_on"] == "connect-failure,refused-stream,reset-before-request"


def test_a_caller_without_any_right_gets_403_and_no_cluster() -> None:
    """The denied variant names the service and needs nothing."""
    fragment = outbound_host(mk_routes(mk_entry("", web=1)), allowed=False, local=False)
    assert fragment.clusters == frozenset()
    host, _ = hosts(mk_routes(mk_entry("", web=1)), allowed=False)
    (route,) = host["routes"]
    assert route["direct_response"]["status"] == 403
    assert "shop/web:80" in str(route["direct_response"]["body"])


def test_the_table_joins_services_and_ends_with_the_unknown_host() -> None:
    """Its bytes are those of whole messages; what no service has is 404."""
    found = hosts(mk_routes(mk_entry("", web=1)))
    assert [host["name"] for host in found] == ["shop/web:80", "unknown"]
    assert found[1]["routes"][0]["direct_response"]["status"] == 404
    assert outbound_routes(()).needs == frozenset()


def test_a_route_needs_the_clusters_of_all_its_backends() -> None:
    """Those without a weight too: its weight may change alone."""
    fragment = outbound_host(mk_routes(mk_entry("shop/s", v1=1, v2=0)), allowed=True, local=False)
    assert fragment.clusters == {Need(CLUSTER, "shop/v1:80"), Need(CLUSTER, "shop/v2:80")}


def test_an_intercepted_caller_has_routes_per_service_for_any_host() -> None:
    """Its address has decided which service is meant; who must not call it gets 403."""
    routes = mk_routes(mk_entry("shop/s", v1=1, v2=2))
    allowed, denied = (service_routes(routes, allowed=it) for it in (True, False))
    assert allowed.name == denied.name == "outbound|shop/web:80"
    for found in (allowed, denied):
        (host,) = shown(found)["virtual_hosts"]
        assert host["domains"] == ["*"]
    assert allowed.needs == {Need(CLUSTER, "shop/v1:80"), Need(CLUSTER, "shop/v2:80")}
    assert denied.needs == frozenset()


def test_one_pod_of_a_headless_service_is_a_cluster_of_its_own() -> None:
    """By its name in DNS, or by its address."""
    routes = replace(mk_routes(mk_entry("", web=1)), pod="web-0")
    assert called_by(routes) == {PortRef(WEB, 80, pod="web-0")}
    assert acts(routes) == [{"cluster": "shop/web/web-0:80"}]
    assert "web-0.web.shop.svc:80" in hosts(routes)[0]["domains"]
    assert service_routes(routes, allowed=True).needs == {Need(CLUSTER, "shop/web/web-0:80")}


def test_tcp_is_called_by_the_root_alone() -> None:
    """A TCP split is in the endpoints of the root's own cluster."""
    entry = mk_entry("shop/s", v1=1)
    assert called_by(mk_routes(entry)) == {PortRef(V1, 80)}
    assert called_by(mk_routes(entry, protocol=Protocol.TCP)) == {PortRef(WEB, 80)}


@pytest.mark.parametrize(
    "access, rules", [("strict", "rules"), ("shadow", "shadow_rules"), ("permissive", None)]
)
def test_inbound_rules_stand_on_the_route_configuration(access: str, rules: str | None) -> None:
    """They reach open connections at the next request; permissive access has none."""
    mesh = build_mesh(mk_pod("web", access=access), mk_service("web"))
    workload = mesh.workloads[ProxyId(NS, "web")]
    assert workload.access is AccessMode(access)
    port = InboundPort(number=80, protocol=Protocol.HTTP)
    found = shown(inbound_routes(workload, port))
    judges = found.get("typed_per_filter_config", {}).get("envoy.filters.http.rbac")
    assert (judges and [*judges["rbac"]]) == (rules and [rules])
    (host,) = found["virtual_hosts"]
    assert host["domains"] == ["*"]
    assert host["routes"][0]["route"] == {"cluster": "inbound|80", "timeout": "0s"}
