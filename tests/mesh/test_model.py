"""The values of the mesh."""

import pytest

from smi_xds.mesh.model import Protocol, Service, ServicePort, Target
from smi_xds.values import AccessMode, Mode, ServiceRef


@pytest.mark.parametrize(
    "protocol, is_http, is_tcp",
    [
        (Protocol.HTTP, True, False),
        (Protocol.HTTP2, True, False),
        (Protocol.GRPC, True, False),
        (Protocol.TCP, False, True),
        (Protocol.SERVER_FIRST, False, True),
        (Protocol.UDP, False, False),
    ],
)
def test_families_of_protocols(protocol: Protocol, is_http: bool, is_tcp: bool) -> None:
    """Requests, connections, and UDP, which is neither."""
    assert (protocol.is_http, protocol.is_tcp) == (is_http, is_tcp)


@pytest.mark.parametrize("access", AccessMode)
@pytest.mark.parametrize("mtls", Mode)
def test_who_needs_no_name(access: AccessMode, mtls: Mode) -> None:
    """Permissive mTLS asks nobody for one, unless strict access denies the nameless."""
    target = Target(identity=None, port=80, access=access, mtls=mtls)
    assert target.is_open is (mtls is Mode.PERMISSIVE and access is not AccessMode.STRICT)


def test_a_port_by_number() -> None:
    """A service finds its port, and None where it has none of that number."""
    port = ServicePort(number=80)
    service = Service(service=ServiceRef("shop", "web"), ports=(port,))
    assert (service.port(80), service.port(81)) == (port, None)
