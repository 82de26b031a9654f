"""Workloads: who has a sidecar, and which ports it serves."""

from typing import Any

import pytest

from smi_xds.mesh.model import InboundPort, Mesh, Protocol, Sidecar, Workload
from smi_xds.objects.kube import Pod, Transport
from smi_xds.problems import ProblemCode
from smi_xds.values import AccessMode, Mode, ObjectRef, ProxyId, ServiceRef
from tests.support.mesh import build_mesh, told
from tests.support.objects import (
    NS,
    http,
    mk_http_routes,
    mk_pod,
    mk_port,
    mk_service,
    mk_target,
    mk_tcp_route,
    spiffe,
    tcp,
    with_slices,
)


def workload(mesh: Mesh, name: str = "web") -> Workload:
    return mesh.workloads[ProxyId(NS, name)]


def test_a_workload_is_a_pod_with_a_sidecar() -> None:
    """It has its account's identity, its address, and the ports of the services before it."""
    mesh = build_mesh(
        mk_pod("web", "10.0.0.1", account="clerk", app_address="127.0.2.1", mtls="permissive"),
        mk_pod("bare", "10.0.0.2", sidecar=""),
        mk_service("web", mk_port(80, target=8080), mk_port(5432)),
        mk_service("also", mk_port(81, target=8080), app="web"),
    )
    assert mesh.workloads == {
        ProxyId(NS, "web"): Workload(
            proxy=ProxyId(NS, "web"),
            identity=spiffe("clerk"),
            address="10.0.0.1",
            app_address="127.0.2.1",
            sidecar=Sidecar.BOUND,
            access=AccessMode.STRICT,
            mtls=Mode.PERMISSIVE,
            ports=(
                InboundPort(number=5432, protocol=Protocol.TCP, services=(ServiceRef(NS, "web"),)),
                InboundPort(
                    number=8080,
                    protocol=Protocol.HTTP,
                    services=(ServiceRef(NS, "also"), ServiceRef(NS, "web")),
                ),
            ),
        )
    }


@pytest.mark.parametrize("pod", [mk_pod("web", ""), mk_pod("web", done=True)])
def test_pods_that_do_not_run_are_no_workloads(pod: Pod) -> None:
    """A pod without an address, or one that has ended, gets nothing."""
    assert build_mesh(pod, mk_service("web")).workloads == {}


def test_ports_that_no_service_names_are_closed() -> None:
    """A container port alone opens nothing, and neither do SCTP ports."""
    mesh = build_mesh(
        mk_pod("web", ports={"http": 8080}),
        mk_service("web", mk_port(54, "x", transport=Transport.SCTP)),
    )
    assert (workload(mesh).ports, workload(mesh).udp_ports) == ((), ())
    assert told(mesh) == [("spec.ports[0].protocol", ProblemCode.UNKNOWN_PROTOCOL)]


def test_two_services_that_disagree_about_a_port_have_a_fixed_winner() -> None:
    """Of services with different protocols for one target port, the first by name counts."""
    mesh = build_mesh(
        mk_pod("web"),
        mk_service("b", mk_port(80, "tcp", target=8080), app="web"),
        mk_service("a", mk_port(80, "http", target=8080), app="web"),
    )
    assert workload(mesh).ports == (
        InboundPort(
            number=8080,
            protocol=Protocol.HTTP,
            services=(ServiceRef(NS, "a"), ServiceRef(NS, "b")),
        ),
    )
    assert told(mesh) == [("port 8080", ProblemCode.PORT_CONFLICT)]


def test_a_service_may_send_two_ports_to_one() -> None:
    """Two ports of one service before one target port are one port of the workload."""
    service = mk_service("web", mk_port(80, target=8080), mk_port(81, target=8080))
    (port,) = workload(build_mesh(mk_pod("web"), service)).ports
    assert (port.number, port.services) == (8080, (ServiceRef(NS, "web"),))


def test_pods_outside_the_mesh_serve_no_ports_of_an_account() -> None:
    """What nobody protects is nothing that a TrafficTarget could speak of."""
    pods = (
        mk_pod("bare", "10.0.0.1", account="web", sidecar=""),
        mk_pod("web", "10.0.0.2"),
        mk_pod("client", "10.0.0.3"),
    )
    services = (mk_service("bare", mk_port(70)), mk_service("web", mk_port(80)))
    target = mk_target("t", ["client"], "web", tcp("r"))
    mesh = build_mesh(*pods, *services, mk_tcp_route("r", 70), target)
    assert told(mesh) == [
        ("spec.destination", ProblemCode.NOT_ENFORCED),
        ("spec.rules[0]", ProblemCode.UNKNOWN_PORT),
    ]


@pytest.mark.parametrize("port", [15000, 15001, 15021])
def test_ports_of_the_sidecar_itself_stay_closed(port: int) -> None:
    """A target port that the sidecar uses is told: two listeners on one address are refused."""
    mesh = build_mesh(mk_pod("web"), mk_service("web", mk_port(80, target=port)))
    assert workload(mesh).ports == ()
    assert told(mesh) == [(f"port {port}", ProblemCode.PORT_CONFLICT)]


def test_a_named_target_port_that_some_pods_lack_is_told_once() -> None:
    """Kubernetes leaves such pods out in silence."""
    mesh = build_mesh(
        mk_service("web", mk_port(80, target="http"), mk_port(81, "n")),
        mk_pod("a", "10.0.0.1", app="web", ports={"http": 8080}),
        mk_pod("b", "10.0.0.2", app="web"),
        mk_pod("c", "10.0.0.3", app="web"),
    )
    assert [p.number for p in workload(mesh, "b").ports] == [81]
    assert [(p.ref, p.field, p.code) for p in mesh.problems] == [
        (
            ObjectRef("Service", NS, "web"),
            "spec.ports[0].targetPort",
            ProblemCode.MISSING_TARGET_PORT,
        )
    ]


def test_the_slices_of_both_families_are_one_service() -> None:
    """A pod with two addresses serves each port once."""
    mesh = build_mesh(mk_pod("web", "10.0.0.1 fd00::1"), mk_service("web"))
    assert [(p.number, len(p.services)) for p in workload(mesh).ports] == [(80, 1)]
    assert workload(mesh).address == "10.0.0.1"


def test_each_port_has_the_grants_that_apply_to_it() -> None:
    """TCP and HTTP on one workload are judged apart."""
    mesh = build_mesh(
        mk_pod("web"),
        mk_pod("client", "10.0.0.2"),
        mk_service("web", mk_port(80), mk_port(5432)),
        mk_http_routes("none"),
        mk_tcp_route("db", 5432),
        mk_target("a", ["client"], "web", tcp("db")),
        mk_target("b", ["client"], "web", http("none")),
    )
    granted = {port.number: [g.target for g in port.grants] for port in workload(mesh).ports}
    assert granted == {80: [], 5432: ["shop/a"]}
    assert [port.callers for port in workload(mesh).ports] == [(), (spiffe("client"),)]


def test_two_sidecars_on_one_address_are_told() -> None:
    """Envoy would share the address in silence, or fail to bind it."""
    mesh = build_mesh(mk_pod("a", "10.0.0.1"), mk_pod("b", "10.0.0.1"), mk_pod("c", "10.0.0.2"))
    assert [(p.ref.name, p.code) for p in mesh.problems] == [("b", ProblemCode.ADDRESS_CONFLICT)]


def test_an_application_on_its_sidecars_address_is_told() -> None:
    """They cannot both listen there."""
    mesh = build_mesh(mk_pod("a", "10.0.0.1", app_address="10.0.0.1"))
    assert told(mesh) == [
        ("metadata.annotations[smi-xds.io/app-address]", ProblemCode.ADDRESS_CONFLICT)
    ]


def test_a_server_that_speaks_first_in_permissive_mode_is_told() -> None:
    """A plaintext client waits for a greeting; strict mode has no such delay."""
    service = mk_service("db", mk_port(3306), mk_port(80))
    mesh = build_mesh(mk_pod("db", mtls="permissive"), service)
    assert told(mesh) == [("port 3306", ProblemCode.SERVER_FIRST_PERMISSIVE)]
    assert told(build_mesh(mk_pod("db"), service)) == []


def test_a_slice_of_an_unknown_service_serves_nothing() -> None:
    """Slices outlive their Service for a moment: what it names is closed by then."""
    service = mk_service("web")
    slices = [it for it in with_slices([service, mk_pod("web")]) if it.ref.kind == "EndpointSlice"]
    assert workload(build_mesh(mk_pod("web"), *slices)).ports == ()


@pytest.mark.parametrize(
    "protocol, problems",
    [
        ("mongo", [("spec.ports[0].appProtocol", ProblemCode.UNKNOWN_PROTOCOL)]),
        ("HTTP", []),
        ("", []),
    ],
)
def test_a_protocol_that_nobody_knows_is_told(
    protocol: str, problems: list[tuple[str, ProblemCode]]
) -> None:
    """The port counts as what its name or number says."""
    mesh = build_mesh(mk_pod("web"), mk_service("web", mk_port(80, app_protocol=protocol)))

    assert told(mesh) == problems
    assert workload(mesh).ports[0].protocol is Protocol.HTTP


@pytest.mark.parametrize(
    "more, problems",
    [
        ({}, [("spec.destination", ProblemCode.NOT_ENFORCED)]),
        ({"done": True}, []),
        ({"app": "behind-no-service"}, []),
    ],
)
def test_a_traffic_target_that_nobody_enforces_is_told(
    more: dict[str, Any], problems: list[tuple[str, ProblemCode]]
) -> None:
    """A destination without a sidecar, where somebody calls it."""
    mesh = build_mesh(
        mk_pod("web", "10.0.0.1", sidecar="", **more),
        mk_pod("client", "10.0.0.2"),
        mk_service("web"),
        mk_tcp_route("r"),
        mk_target("t", ["client"], "web", tcp("r")),
    )

    assert told(mesh) == problems
