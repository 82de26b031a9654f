"""Names that Envoy sees, and hosts by which services are called."""

from smi_xds.mesh.model import Destination, PortRef
from smi_xds.values import ServiceRef
from smi_xds.xds import names

WEB = PortRef(ServiceRef("shop", "web"), 8080)


def test_names_of_resources() -> None:
    """They stand in statistics and logs: changing one breaks somebody's dashboards."""
    assert names.outbound_cluster(WEB) == "shop/web:8080"
    assert names.outbound_tcp(WEB) == "outbound|shop/web:8080"
    assert names.peers(WEB) == "peers|shop/web:8080"
    assert names.inbound(8080) == "inbound|8080"
    assert names.outbound_routes(WEB) == "outbound|shop/web:8080"
    assert names.outbound_at(Destination("fd00::1", 80)) == "outbound|[fd00::1]:80"


def test_hosts_of_the_default_port_need_no_port() -> None:
    """A host without a port means one port of the service; the others are written out."""
    assert names.domains(WEB, default_port=True, local=False) == [
        "web.shop",
        "web.shop:8080",
        "web.shop.svc",
        "web.shop.svc:8080",
        "web.shop.svc.cluster.local",
        "web.shop.svc.cluster.local:8080",
    ]
    assert "web.shop" not in names.domains(WEB, default_port=False, local=False)


def test_the_bare_name_is_for_callers_of_the_namespace() -> None:
    """As in DNS, a name without a namespace is of the caller's own."""
    assert names.domains(WEB, default_port=True, local=True)[:2] == ["web", "web:8080"]


def test_a_pod_of_a_headless_service_has_names_of_its_own() -> None:
    """Before those of its service, as in DNS."""
    pod = PortRef(ServiceRef("shop", "db"), 80, pod="db-0")
    assert names.outbound_cluster(pod) == "shop/db/db-0:80"
    assert names.domains(pod, default_port=False, local=True) == [
        "db-0.db:80",
        "db-0.db.shop:80",
        "db-0.db.shop.svc:80",
        "db-0.db.shop.svc.cluster.local:80",
    ]
