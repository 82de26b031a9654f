"""Services and what is behind them."""

from dataclasses import replace

import pytest

from smi_xds.mesh.annotations import pod_settings
from smi_xds.mesh.model import (
    Endpoint,
    EndpointState,
    MeshSettings,
    Protocol,
    Service,
    ServicePort,
    Target,
)
from smi_xds.mesh.services import build_service, protocol_of
from smi_xds.objects.kube import (
    EndpointSlice,
    Pod,
    SliceEndpoint,
    SlicePort,
    Transport,
)
from smi_xds.objects.kube import Service as KubeService
from smi_xds.objects.kube import ServicePort as KubeServicePort
from smi_xds.objects.parse import MeshObject
from smi_xds.values import AccessMode, Mode, ServiceRef
from tests.support.objects import NS, mk_pod, mk_port, mk_service, picture, spiffe

WEB = ServiceRef(NS, "web")


def build(service: KubeService, *objects: MeshObject) -> Service:
    group = picture(service, *objects).services[service.service]
    settings = tuple(pod_settings(pod, None, MeshSettings())[0] for pod in group.pods)
    return build_service(group, settings, "cluster.local")


def port_of(service: Service, number: int = 80) -> ServicePort:
    port = service.port(number)
    assert port is not None
    return port


def mk_slice(*endpoints: SliceEndpoint, name: str = "web-1", **fields: str) -> EndpointSlice:
    """A slice of the service `web`, whose port 80 is 8080 there."""
    return EndpointSlice(
        namespace=NS,
        name=name,
        service="web",
        ports=(SlicePort(port=8080, name="p80"),),
        endpoints=endpoints,
        **fields,
    )


@pytest.mark.parametrize(
    "port, protocol",
    [
        (mk_port(80), Protocol.HTTP),
        (mk_port(80, "web"), Protocol.HTTP),
        (mk_port(5432, "http"), Protocol.HTTP),
        (mk_port(80, "http-admin"), Protocol.HTTP),
        (mk_port(80, "http2-x"), Protocol.HTTP2),
        (mk_port(80, "grpc"), Protocol.GRPC),
        (mk_port(80, "grpc-api"), Protocol.GRPC),
        (mk_port(80, "grpcish"), Protocol.HTTP),
        (mk_port(80, "https-web"), Protocol.TCP),
        (mk_port(80, "tls"), Protocol.TCP),
        (mk_port(80, "tcp-echo"), Protocol.TCP),
        (mk_port(80, "tcp-server-first"), Protocol.SERVER_FIRST),
        (mk_port(80, "tcp-server-first-ftp"), Protocol.SERVER_FIRST),
        (mk_port(25), Protocol.SERVER_FIRST),
        (mk_port(3306), Protocol.SERVER_FIRST),
        (mk_port(5432), Protocol.TCP),
        (mk_port(11211, "cache"), Protocol.TCP),
        (mk_port(3306, "tcp-db"), Protocol.TCP),
        (mk_port(80, "tcp", app_protocol="HTTP"), Protocol.HTTP),
        (mk_port(80, app_protocol="kubernetes.io/h2c"), Protocol.HTTP2),
        (mk_port(80, app_protocol="kubernetes.io/ws"), Protocol.HTTP),
        (mk_port(80, app_protocol="kubernetes.io/wss"), Protocol.TCP),
        (mk_port(80, app_protocol="grpc"), Protocol.GRPC),
        (mk_port(80, "grpc", app_protocol="example.com/own"), Protocol.GRPC),
        (mk_port(80, "http", transport=Transport.UDP), Protocol.UDP),
    ],
)
def test_what_a_port_speaks(port: KubeServicePort, protocol: Protocol) -> None:
    """`appProtocol` says it, else the port's name, else its number, else it is HTTP."""
    assert protocol_of(port) is protocol


def test_the_endpoints_of_a_port_with_their_identities() -> None:
    """Endpoints have the target port, the identity of a sidecar's account, and stand sorted."""
    service = mk_service("web", mk_port(80, target=8080))
    found = build(
        service,
        mk_pod("a", "10.0.0.2", app="web"),
        mk_pod("b", "10.0.0.1", app="web", access="permissive"),
        mk_pod("c", "10.0.0.3", app="web", sidecar=""),
    )
    assert port_of(found) == ServicePort(
        number=80,
        name="p80",
        protocol=Protocol.HTTP,
        endpoints=(
            Endpoint(address="10.0.0.1", port=8080, identity=spiffe("b")),
            Endpoint(address="10.0.0.2", port=8080, identity=spiffe("a")),
            Endpoint(address="10.0.0.3", port=8080),
        ),
        identities=(spiffe("a"), spiffe("b")),
        targets=(
            Target(identity=None, port=8080, access=None, mtls=None),
            Target(identity=spiffe("a"), port=8080, access=AccessMode.STRICT, mtls=Mode.STRICT),
            Target(identity=spiffe("b"), port=8080, access=AccessMode.PERMISSIVE, mtls=Mode.STRICT),
        ),
    )
    assert found.port(81) is None


def test_named_target_ports_are_those_of_each_pod() -> None:
    """Pods may give one port name different numbers."""
    found = build(
        mk_service("web", mk_port(80, target="http")),
        mk_pod("a", "10.0.0.1", app="web", ports={"http": 8080}),
        mk_pod("b", "10.0.0.2", app="web", ports={"http": 9090}),
        mk_pod("c", "10.0.0.3", app="web", ports={"other": 1}),
    )
    endpoints = port_of(found).endpoints
    assert [(e.address, e.port) for e in endpoints] == [("10.0.0.1", 8080), ("10.0.0.2", 9090)]


def test_endpoints_that_are_not_ready_stay_out_but_keep_their_identity() -> None:
    """The list of identities that clients check grows before an endpoint is used."""
    found = build(
        mk_service("web"),
        mk_pod("a", "10.0.0.1", app="web"),
        mk_pod("b", "10.0.0.2", app="web", ready=False),
    )
    assert [e.address for e in port_of(found).endpoints] == ["10.0.0.1"]
    assert port_of(found).identities == (spiffe("a"), spiffe("b"))
    assert len(port_of(found).targets) == 2


def test_a_service_may_publish_what_is_not_ready() -> None:
    """`publishNotReadyAddresses` makes every endpoint count as ready."""
    service = replace(mk_service("web"), publish_not_ready=True)
    found = build(service, mk_pod("a", app="web", ready=False))
    assert [e.state for e in port_of(found).endpoints] == [EndpointState.READY]


@pytest.mark.parametrize(
    "conditions, expected",
    [
        ([(True, True, False), (False, True, True)], ["ready", "draining"]),
        ([(False, True, True), (False, False, True)], ["ready"]),
        ([(False, False, True), (False, True, False)], []),
    ],
)
def test_terminating_endpoints_drain(
    conditions: list[tuple[bool, bool, bool]], expected: list[str]
) -> None:
    """One that terminates and still serves drains; with nothing ready it serves on."""
    endpoints = (
        SliceEndpoint(addresses=(f"10.0.0.{i}",), ready=ready, serving=serving, terminating=ends)
        for i, (ready, serving, ends) in enumerate(conditions)
    )
    found = build(mk_service("web"), mk_slice(*endpoints))
    assert [e.state for e in port_of(found).endpoints] == expected


def test_addresses_without_a_pod_are_outside_the_mesh() -> None:
    """Hand-made slices may name what is no pod: called in plaintext, by anyone, in its zone."""
    endpoint = SliceEndpoint(addresses=("192.0.2.1",), zone="z1")
    port = port_of(build(mk_service("web"), mk_slice(endpoint)))
    assert port.endpoints == (Endpoint(address="192.0.2.1", port=8080, zone="z1"),)
    assert port.targets == (Target(identity=None, port=8080, access=None, mtls=None),)


def test_an_endpoint_waits_for_its_pod() -> None:
    """A slice may arrive before the pod that it names: it is not called in plaintext meanwhile."""
    endpoint = SliceEndpoint(addresses=("10.0.0.1",), pod="a")
    port = port_of(build(mk_service("web"), mk_slice(endpoint)))
    assert (port.endpoints, port.targets) == ((), ())


@pytest.mark.parametrize("pod", [mk_pod("a", ""), mk_pod("a", done=True)])
def test_an_endpoint_without_a_workload_is_not_there(pod: Pod) -> None:
    """A slice may arrive before its pod's address, and go after the pod has ended."""
    endpoint = SliceEndpoint(addresses=("10.0.0.1",), pod="a")
    port = port_of(build(mk_service("web"), mk_slice(endpoint), pod))
    assert (port.endpoints, port.identities, port.targets) == ((), (), ())


def test_slices_without_addresses_are_left_out() -> None:
    """Envoy takes addresses alone: a slice of host names would make it refuse the others."""
    names = mk_slice(SliceEndpoint(addresses=("example.com",)), name="n", address_type="FQDN")
    addresses = mk_slice(SliceEndpoint(addresses=("fd00::1",)), address_type="IPv6")
    port = port_of(build(mk_service("web"), names, addresses))
    assert [e.address for e in port.endpoints] == ["fd00::1"]


@pytest.mark.parametrize(
    "pod, addresses",
    [
        (mk_pod("a", "10.0.0.1 fd00::1", app="web"), ["10.0.0.1"]),
        (mk_pod("a", "10.0.0.1 fd00::1", app="web", sidecar=""), ["10.0.0.1", "fd00::1"]),
    ],
)
def test_a_sidecar_is_called_at_the_address_where_it_listens(
    pod: Pod, addresses: list[str]
) -> None:
    """Of a pod with two addresses, a bound sidecar has the first; an application has both."""
    port = port_of(build(mk_service("web"), pod))
    assert [e.address for e in port.endpoints] == addresses


@pytest.mark.parametrize(
    "cluster_ips, addresses",
    [
        (("10.96.0.1",), ["10.0.0.1"]),
        (("fd00:96::1",), ["fd00::1"]),
        (("10.96.0.1", "fd00:96::1"), ["10.0.0.1"]),
    ],
)
def test_an_intercepted_pod_is_called_by_one_family(
    cluster_ips: tuple[str, ...], addresses: list[str]
) -> None:
    """Its sidecar takes both; by both at once it would count twice among others."""
    service = replace(mk_service("web"), cluster_ips=cluster_ips)
    pod = mk_pod("a", "10.0.0.1 fd00::1", app="web", sidecar="intercepted")
    assert [e.address for e in port_of(build(service, pod)).endpoints] == addresses


def test_only_slices_of_the_same_name_and_transport_are_behind_a_port() -> None:
    """A UDP port of the same number has its own endpoints; SCTP is left out."""
    service = mk_service(
        "web",
        mk_port(53, "dns-tcp", target=5353),
        mk_port(53, "dns", target=5300, transport=Transport.UDP),
        mk_port(54, "x", transport=Transport.SCTP),
    )
    found = build(service, mk_pod("a", app="web"))
    assert [(p.number, p.protocol, [e.port for e in p.endpoints]) for p in found.ports] == [
        (53, Protocol.HTTP, [5353]),
        (53, Protocol.UDP, [5300]),
    ]
