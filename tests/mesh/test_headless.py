"""Pods of headless services, one by one."""

from dataclasses import replace

from smi_xds.mesh.model import Mesh, PortRef
from smi_xds.objects.kube import Pod, Service, Transport
from smi_xds.values import ServiceRef
from tests.support.mesh import build_mesh
from tests.support.objects import (
    mk_account,
    mk_pod,
    mk_port,
    mk_service,
    mk_split,
    mk_target,
    mk_tcp_route,
    spiffe,
    tcp,
)

DB = ServiceRef("shop", "db")


def mk_stateful(number: int, *, sidecar: str = "bound") -> Pod:
    name = f"db-{number}"
    pod = mk_pod(name, f"10.0.0.{number}", account="db", app="db", sidecar=sidecar)
    return replace(pod, hostname=name, subdomain="db")


def mk_headless(*, name: str = "db") -> Service:
    ports = (mk_port(80, target=8080), mk_port(5432), mk_port(53, transport=Transport.UDP))
    return replace(mk_service(name, *ports, app="db"), headless=True)


WORLD = (
    mk_account("client"),
    mk_stateful(0),
    mk_stateful(1),
    mk_headless(),
    mk_tcp_route("all"),
    mk_target("t", ["client"], "db", tcp("all")),
)


def pod_ref(port: int, pod: str) -> PortRef:
    return PortRef(DB, port, pod=pod)


def test_each_pod_has_routes_of_its_own() -> None:
    """To itself alone, for those who may call it."""
    mesh = build_mesh(*WORLD)
    assert sorted(map(str, mesh.pods)) == [
        "shop/db/db-0:5432",
        "shop/db/db-0:80",
        "shop/db/db-1:5432",
        "shop/db/db-1:80",
    ]
    routes = mesh.pods[pod_ref(80, "db-1")]
    assert routes.callers == (spiffe("client"),)
    assert (routes.pod, routes.default_port) == ("db-1", True)
    assert [backend.service for backend in routes.entries[0].backends] == [DB]


def test_a_split_has_no_say_about_one_pod() -> None:
    """Who names a pod wants that one."""
    mesh = build_mesh(*WORLD, mk_service("other", mk_port(80)), mk_split("s", "db", {"other": 1}))
    assert mesh.routes[PortRef(DB, 80)].entries[0].split == "shop/s"
    assert mesh.pods[pod_ref(80, "db-0")].entries[0].split == ""


def test_pods_without_a_name_count_where_addresses_do() -> None:
    """A Deployment's pods are found by address, which only intercepted callers use."""
    nameless = (mk_pod("a", "10.0.0.8", app="db"), mk_headless())
    assert build_mesh(*nameless).pods == {}
    found = build_mesh(*nameless, mk_pod("b", "10.0.0.9", sidecar="intercepted")).pods
    assert {str(ref) for ref in found} == {"shop/db/10.0.0.8:80", "shop/db/10.0.0.8:5432"}
    assert all(ref.is_address for ref in found)


def test_tcp_of_a_pod_has_a_local_port() -> None:
    """Bound sidecars offer each by itself, beside the whole service."""
    ports = build_mesh(*WORLD).bound_ports
    wanted = {PortRef(DB, 5432), pod_ref(5432, "db-0"), pod_ref(5432, "db-1")}
    assert wanted <= ports.keys()
    assert len(set(ports.values())) == len(ports)


def test_a_pod_is_called_ready_or_not() -> None:
    """Its caller has chosen it; the service as a whole leaves it out."""
    mesh = build_mesh(replace(mk_stateful(0), ready=False), mk_stateful(1), mk_headless())
    port = mesh.services[DB].port(80)
    assert port is not None
    assert [it.hostname for it in port.endpoints] == ["db-1"]
    assert [(name, len(pod.endpoints)) for name, pod in port.pods] == [("db-0", 1), ("db-1", 1)]


def test_all_addresses_of_a_pod_are_its_own() -> None:
    """One name for both families."""
    pod = replace(mk_stateful(0, sidecar="intercepted"), ips=("10.0.0.1", "fd00::1"))
    mesh: Mesh = build_mesh(pod, mk_headless())
    port = mesh.services[DB].port(80)
    assert port is not None
    ((name, there),) = port.pods
    assert (name, [it.address for it in there.endpoints]) == ("db-0", ["10.0.0.1", "fd00::1"])
    assert {str(it): str(ref) for it, ref in mesh.destinations.items() if ref.port == 80} == {
        "10.0.0.1:8080": "shop/db/db-0:80",
        "[fd00::1]:8080": "shop/db/db-0:80",
    }
