"""Ports that no Service names any longer: how long they stay open, and for whom."""

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.former import KEPT, FormerPorts, Ports
from smi_xds.mesh.model import MeshSettings, PortRef, Protocol
from smi_xds.mesh.workloads import ServedPort
from smi_xds.objects.forms import MeshObject
from smi_xds.objects.kube import Transport
from smi_xds.problems import ProblemCode
from smi_xds.values import ProxyId, ServiceRef
from tests.support.mesh import told
from tests.support.objects import (
    NS,
    mk_pod,
    mk_port,
    mk_service,
    mk_target,
    mk_tcp_route,
    picture,
    spiffe,
    tcp,
)

WEB = ProxyId(NS, "web")


def served(target: int, *, service: str = "web", protocol: Protocol = Protocol.HTTP) -> ServedPort:
    return ServedPort(service=ServiceRef(NS, service), port=80, target=target, protocol=protocol)


def remembered(former: FormerPorts) -> tuple[Ports, float | None]:
    return former.ports, former.ends


def test_a_port_stays_for_its_time() -> None:
    """From when it was named last, whatever else changes meanwhile."""
    former = FormerPorts()
    assert not former.take({WEB: (served(1), served(2))}, 0)
    assert remembered(former) == ({}, None)
    assert former.take({WEB: (served(2),)}, 1)
    assert former.take({WEB: ()}, 2)
    assert remembered(former) == ({WEB: (served(1), served(2))}, 1 + KEPT)
    assert not former.take({WEB: ()}, KEPT)
    assert former.take({WEB: ()}, 1 + KEPT)
    assert remembered(former) == ({WEB: (served(2),)}, 2 + KEPT)
    assert former.take({WEB: ()}, 2 + KEPT)
    assert remembered(former) == ({}, None)


def test_a_port_that_is_named_again_is_no_former_one() -> None:
    """When it goes another time, it has its full time anew."""
    former = FormerPorts()
    former.take({WEB: (served(1),)}, 0)
    former.take({WEB: ()}, 1)
    assert former.take({WEB: (served(1),)}, 2)
    assert remembered(former) == ({}, None)
    assert former.take({WEB: ()}, 3)
    assert remembered(former) == ({WEB: (served(1),)}, 3 + KEPT)


def test_a_workload_that_is_gone_has_no_ports() -> None:
    """Nor is anything remembered of it."""
    former = FormerPorts()
    former.take({WEB: (served(1),)}, 0)
    former.take({WEB: ()}, 1)
    assert former.take({}, 2)
    assert remembered(former) == ({}, None)


WORLD: tuple[MeshObject, ...] = (
    mk_pod("web", "10.0.0.1"),
    mk_pod("client", "10.0.0.2"),
    mk_tcp_route("all"),
    mk_target("t", ["client"], "web", tcp("all")),
)
SERVICE = mk_service(
    "web", mk_port(80, target=8080), mk_port(53, target=5353, transport=Transport.UDP)
)


def test_former_ports_are_judged_as_ever() -> None:
    """A Service is gone: its pods' sidecars go on, with the grants of now."""
    build = MeshBuilder(MeshSettings())
    former = FormerPorts()
    before = build(picture(*WORLD, SERVICE))
    former.take(build.serving, 0)
    objects = picture(*WORLD)
    assert build(objects).workloads[WEB].ports == ()
    assert former.take(build.serving, 1)
    after = build(objects, former=former.ports)
    assert after.workloads[WEB] == before.workloads[WEB]
    [port] = after.workloads[WEB].ports
    assert (port.number, port.callers) == (8080, (spiffe("client"),))
    [udp] = after.workloads[WEB].udp_ports
    assert udp.services == (PortRef(ServiceRef(NS, "web"), 53, udp=True),)
    refused = build(picture(*WORLD[:2]), former=former.ports).workloads[WEB]
    assert [it.grants for it in refused.ports] == [()]


def test_what_a_service_says_now_counts() -> None:
    """Of a port with two protocols, and of one that sidecars use themselves, it is not former."""
    now = mk_service("web", mk_port(80, target=8080))
    build = MeshBuilder(MeshSettings())
    former = (
        served(8080, service="old", protocol=Protocol.TCP),
        served(15001),
        served(5353, protocol=Protocol.UDP),
    )
    mesh = build(picture(*WORLD, now), former={WEB: former})
    workload = mesh.workloads[WEB]
    assert [(port.number, port.protocol) for port in workload.ports] == [(8080, Protocol.HTTP)]
    udp = PortRef(ServiceRef(NS, "web"), 80, udp=True)
    assert [(port.number, port.services) for port in workload.udp_ports] == [(5353, (udp,))]


def test_nobody_is_told_of_former_ports_as_of_those_that_services_name() -> None:
    """A TrafficTarget for such a port is wrong from the start, not when its time is over."""
    world = [*WORLD[:2], mk_tcp_route("all", 8080), *WORLD[3:], mk_service("web", mk_port(81))]
    mesh = MeshBuilder(MeshSettings())(picture(*world), former={WEB: (served(8080),)})
    assert ("spec.rules[0]", ProblemCode.UNKNOWN_PORT) in told(mesh)
    numbers = [port.number for port in mesh.workloads[WEB].ports]
    assert numbers == [81, 8080]
