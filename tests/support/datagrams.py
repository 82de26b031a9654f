"""A workload that serves datagrams, for the generators of both sides of its tunnel."""

from smi_xds.mesh.model import Grant, PortRef, Sidecar, Source, UdpPort, Workload
from smi_xds.values import AccessMode, Mode, ProxyId, ServiceRef
from tests.support.objects import spiffe

DNS = PortRef(ServiceRef("shop", "dns"), 53, udp=True)
ROOT = PortRef(ServiceRef("shop", "root"), 53, udp=True)
GRANT = Grant(
    target="shop/t",
    sources=(Source(spiffe("client")),),
    ports=None,
    http=(),
    tcp=False,
    l7=True,
    udp=None,
)
SERVER = Workload(
    proxy=ProxyId("shop", "dns"),
    identity=spiffe("dns"),
    address="10.0.0.1",
    app_address="127.0.0.1",
    sidecar=Sidecar.BOUND,
    access=AccessMode.STRICT,
    mtls=Mode.STRICT,
    udp_ports=(
        UdpPort(number=5353, services=(DNS, ROOT), grants=(GRANT,)),
        UdpPort(number=8125, services=(PortRef(ServiceRef("shop", "dns"), 8125, udp=True),)),
    ),
)
