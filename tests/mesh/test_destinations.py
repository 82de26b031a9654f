"""Which service an intercepted workload means by an address."""

from dataclasses import replace

from smi_xds.mesh.destinations import address_claims, build_destinations
from smi_xds.mesh.model import Destination, Endpoint, PortRef, Protocol, Service, ServicePort
from smi_xds.objects.kube import Transport
from smi_xds.problems import ProblemCode
from smi_xds.values import ServiceRef
from tests.support.mesh import build_mesh, told
from tests.support.objects import mk_pod, mk_port, mk_service

WEB, OTHER = ServiceRef("shop", "web"), ServiceRef("shop", "other")


def headless(ref: ServiceRef, protocol: Protocol, *pods: str) -> Service:
    there = tuple(
        (
            name,
            ServicePort(
                number=80,
                protocol=protocol,
                endpoints=(Endpoint(address=f"10.0.0.{number}", port=8080),),
            ),
        )
        for number, name in enumerate(pods)
    )
    port = ServicePort(number=80, protocol=protocol, pods=there)
    return Service(service=ref, ports=(port,), headless=True)


def with_ips(ref: ServiceRef, *addresses: str) -> Service:
    return Service(
        service=ref,
        addresses=addresses,
        ports=(ServicePort(number=80), ServicePort(number=53, protocol=Protocol.UDP)),
    )


def test_a_service_is_called_at_its_addresses() -> None:
    """Each of both families, on the service's own port; datagrams are another matter."""
    found = build_destinations([address_claims(with_ips(WEB, "10.96.0.1", "fd00::1"))])
    assert found.found == {
        Destination("10.96.0.1", 80): PortRef(WEB, 80),
        Destination("fd00::1", 80): PortRef(WEB, 80),
    }
    assert [str(it) for it in found.found] == ["10.96.0.1:80", "[fd00::1]:80"]


def test_a_headless_service_is_called_at_its_pods() -> None:
    """On their own port: nobody turns the service's into it."""
    found = build_destinations([address_claims(headless(WEB, Protocol.HTTP, "a", "b"))])
    assert found.found == {
        Destination("10.0.0.0", 8080): PortRef(WEB, 80, pod="a"),
        Destination("10.0.0.1", 8080): PortRef(WEB, 80, pod="b"),
    }


def test_of_two_that_claim_an_address_the_first_by_name_has_it() -> None:
    """In whatever order they come; Envoy would refuse a second listener."""
    services = [with_ips(WEB, "10.96.0.1"), with_ips(OTHER, "10.96.0.1")]
    for order in (services, services[::-1]):
        found = build_destinations(address_claims(service) for service in order)
        assert found.found == {Destination("10.96.0.1", 80): PortRef(OTHER, 80)}
        (problem,) = found.problems
        assert (problem.code, problem.ref.name) == (ProblemCode.ADDRESS_CONFLICT, "web")


def test_headless_services_may_share_pods() -> None:
    """Either leads there; a protocol that they disagree about is one problem, not one per pod."""
    one = headless(WEB, Protocol.HTTP, "a", "b")
    same, other = headless(OTHER, Protocol.HTTP, "a", "b"), headless(OTHER, Protocol.TCP, "a", "b")
    assert build_destinations([address_claims(one), address_claims(same)]).problems == ()
    (problem,) = build_destinations([address_claims(one), address_claims(other)]).problems
    assert (problem.code, problem.field) == (ProblemCode.PORT_CONFLICT, "port 80")
    assert "10.0.0.0:8080 speaks tcp, this one says http; tcp counts" in problem.message


def test_only_interception_needs_addresses() -> None:
    """A mesh without intercepted workloads has no destinations, and no conflicts of them."""
    services = [
        replace(
            mk_service(name, mk_port(80), mk_port(53, transport=Transport.UDP)), cluster_ips=ips
        )
        for name, ips in (("web", ("10.96.0.1",)), ("other", ("10.96.0.1",)))
    ]
    assert build_mesh(*services, mk_pod("a")).destinations == {}
    mesh = build_mesh(*services, mk_pod("a", sidecar="intercepted"))
    assert mesh.destinations == {Destination("10.96.0.1", 80): PortRef(OTHER, 80)}
    assert told(mesh) == [("spec.clusterIP", ProblemCode.ADDRESS_CONFLICT)]
