"""Workloads: the pods (or VMs) that are proxies in the mesh, and the ports they serve."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from smi_xds.mesh.access import AccountPorts
from smi_xds.mesh.annotations import PodSettings
from smi_xds.mesh.model import Grant, InboundPort, PortRef, Protocol, Sidecar, Workload
from smi_xds.mesh.services import is_known, protocol_of
from smi_xds.mesh.subjects import Sight, from_anywhere
from smi_xds.mesh.udp import udp_ports
from smi_xds.objects.kube import Pod, Service, Transport
from smi_xds.objects.views import ServiceGroup
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import AccessMode, Mode, ObjectRef, ProxyId, ServiceRef, SpiffeId

# Ports that a sidecar uses itself, the same as Istio's: admin, outbound, inbound, tunnel, health,
# Prometheus.
RESERVED_PORTS = frozenset({15000, 15001, 15006, 15008, 15021, 15090})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServedPort:
    """A port of a pod that a service sends to."""

    service: ServiceRef
    port: int
    target: int
    protocol: Protocol

    @property
    def ref(self) -> PortRef:
        """The port of the service."""
        return PortRef(self.service, self.port, udp=self.protocol is Protocol.UDP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """What each pod behind one service serves for it, by the pod's name."""

    pods: Mapping[str, tuple[ServedPort, ...]]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A workload before anyone's rights are known, and what is wrong with its ports."""

    workload: Workload | None
    """With the ports that it served until lately, too."""
    bare: bool = False
    """It has no sidecar, and can be called."""
    targets: tuple[tuple[int, Protocol], ...] = ()
    """The TCP ports that services send to."""
    udp_targets: tuple[int, ...] = ()
    service_ports: tuple[tuple[int, int], ...] = ()
    """(Service port, target port) of every TCP port behind which it stands."""
    udp_service_ports: tuple[tuple[int, int], ...] = ()
    problems: tuple[Problem, ...] = ()


def build_backing(group: ServiceGroup) -> Backing:
    """Read a service's slices once for all of its pods."""
    ports = [port for port in group.service.ports if port.transport is not Transport.SCTP]
    pods: dict[str, dict[ServedPort, None]] = {}
    for slice_ in group.slices:
        served = [
            ServedPort(
                service=group.service.service,
                port=port.port,
                target=target.port,
                protocol=protocol_of(port),
            )
            for port in ports
            for target in slice_.ports
            if target.name == port.name and target.transport is port.transport
        ]
        for name in (endpoint.pod for endpoint in slice_.endpoints if endpoint.pod):
            # IPv4 and IPv6 say the same: kept once, in order.
            pods.setdefault(name, {}).update(dict.fromkeys(served))
    return Backing(
        pods={name: tuple(found) for name, found in pods.items()},
        problems=(
            *_missing_ports(group.service, pods.values()),
            *_unknown_protocols(group.service),
        ),
    )


def _missing_ports(
    service: Service, pods: Iterable[Mapping[ServedPort, None]]
) -> Iterator[Problem]:
    numbers = [{served.port for served in found} for found in pods]
    for index, port in enumerate(service.ports):
        named = isinstance(port.target_port, str) and port.transport is not Transport.SCTP
        if named and any(port.port not in found for found in numbers):
            yield Problem(
                ref=service.ref,
                field=f"spec.ports[{index}].targetPort",
                code=ProblemCode.MISSING_TARGET_PORT,
                message=f"Some of its pods have no container port named {port.target_port!r}, and "
                f"get nothing on port {port.port}.",
                cure="Name a container port so, or write its number.",
            )


def _unknown_protocols(service: Service) -> Iterator[Problem]:
    for index, port in enumerate(service.ports):
        where = f"spec.ports[{index}]"
        if port.transport is Transport.SCTP:
            yield Problem(
                ref=service.ref,
                field=f"{where}.protocol",
                code=ProblemCode.UNKNOWN_PROTOCOL,
                message=f"No sidecar carries SCTP, so port {port.port} is left out.",
                cure="Use TCP or UDP, or call it outside the mesh.",
            )
        elif not is_known(port):
            yield Problem(
                ref=service.ref,
                field=f"{where}.appProtocol",
                code=ProblemCode.UNKNOWN_PROTOCOL,
                message=f"The protocol {port.app_protocol!r} is not known here; the port counts as "
                f"{protocol_of(port)}.",
                cure="Write http, http2, grpc, tcp or tcp-server-first.",
            )


def build_workload(
    pod: Pod,
    settings: PodSettings,
    served: tuple[ServedPort, ...],
    *,
    former: tuple[ServedPort, ...] = (),
    trust_domain: str,
) -> Served:
    """The workload of a pod, which serves `served`, sorted by service.

    What it served until lately (`former`) stays open, but is nothing that objects can be wrong
    about.
    """
    if settings.sidecar is Sidecar.PROXYLESS:
        return _proxyless(pod, settings, served, trust_domain)
    ports: dict[int, InboundPort] = {}
    problems: list[Problem] = []
    for one in served:
        problem = _claim(ports, one, pod)
        if problem is not None:
            problems.append(problem)
    if settings.sidecar is Sidecar.NONE or not pod.ips or pod.done:
        is_called = bool(served and pod.ips) and not pod.done
        return Served(workload=None, bare=is_called and settings.sidecar is Sidecar.NONE)
    workload = Workload(
        proxy=pod.proxy,
        identity=SpiffeId.of(trust_domain, pod.account),
        address=pod.ips[0],
        app_address=settings.app_address,
        sidecar=settings.sidecar,
        access=settings.access,
        mtls=settings.mtls,
        ports=tuple(port for _, port in sorted(ports.items())),
        more_addresses=pod.ips[1:] if settings.sidecar is Sidecar.INTERCEPTED else (),
        egress=settings.egress,
        udp_ports=udp_ports((one.ref, one.target) for one in served if one.ref.udp),
    )
    problems += _check(workload, pod)
    return Served(
        workload=_with_former(workload, former),
        targets=tuple((port.number, port.protocol) for port in workload.ports),
        udp_targets=tuple(port.number for port in workload.udp_ports),
        service_ports=_pairs(one for one in served if not one.ref.udp),
        udp_service_ports=_pairs(one for one in served if one.ref.udp),
        problems=tuple(problems),
    )


def _with_former(workload: Workload, former: tuple[ServedPort, ...]) -> Workload:
    """The workload with ports that no service names any longer; where one does, its word counts."""
    if not former:
        return workload
    ports = {port.number: port for port in workload.ports}
    udp = [(ref, port.number) for port in workload.udp_ports for ref in port.services]
    for one in former:
        if one.ref.udp:
            udp.append((one.ref, one.target))
        elif one.target not in ports and one.target not in RESERVED_PORTS:
            ports[one.target] = InboundPort(
                number=one.target, protocol=one.protocol, services=(one.service,)
            )
    return replace(
        workload,
        ports=tuple(port for _, port in sorted(ports.items())),
        udp_ports=udp_ports(udp),
    )


def _pairs(served: Iterable[ServedPort]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted({(one.port, one.target) for one in served}))


def _proxyless(
    pod: Pod, settings: PodSettings, served: tuple[ServedPort, ...], trust_domain: str
) -> Served:
    """A gRPC process by itself: a client with an identity, and no server that we could protect."""
    if pod.done:
        return Served(workload=None)
    workload = Workload(
        proxy=pod.proxy,
        identity=SpiffeId.of(trust_domain, pod.account),
        address=pod.ips[0] if pod.ips else "",
        app_address=settings.app_address,
        sidecar=settings.sidecar,
        access=settings.access,
        mtls=settings.mtls,
    )
    lenient = settings.access is AccessMode.PERMISSIVE and settings.mtls is Mode.PERMISSIVE
    if not served or lenient:
        return Served(workload=workload)
    problem = Problem(
        ref=pod.ref,
        field="metadata.annotations[smi-xds.io/sidecar]",
        code=ProblemCode.PROXYLESS_SERVER,
        message=f"It is behind Service {served[0].service}, but nothing stands before it: anyone "
        "may call it, in plaintext.",
        cure="Give it a sidecar (bound), or make access and mTLS permissive for it.",
    )
    return Served(workload=workload, problems=(problem,))


def with_grants(workload: Workload, grants: tuple[Grant, ...]) -> Workload:
    """The workload with the grants that apply to each of its ports."""
    if not workload.sidecar.sees_addresses:
        grants = from_anywhere(grants)
    return replace(
        workload,
        ports=tuple(
            replace(port, grants=tuple(g for g in grants if g.admits(port.number, port.protocol)))
            for port in workload.ports
        ),
        udp_ports=tuple(
            replace(port, grants=tuple(g for g in grants if g.admits(port.number, Protocol.UDP)))
            for port in workload.udp_ports
        ),
    )


def account_ports(served: Iterable[Served]) -> AccountPorts:
    """What the pods of one account serve, for the checks of TrafficTargets."""
    targets: set[tuple[int, Protocol]] = set()
    services: set[tuple[int, int]] = set()
    udp_targets: set[int] = set()
    udp_services: set[tuple[int, int]] = set()
    sights: set[bool] = set()
    bare = False
    for one in served:
        bare = bare or one.bare
        services.update(one.service_ports)
        udp_services.update(one.udp_service_ports)
        if one.workload is not None:
            if one.workload.sidecar.listens:
                sights.add(one.workload.sidecar.sees_addresses)
            targets.update(one.targets)
            udp_targets.update(one.udp_targets)
    return AccountPorts(
        targets=tuple(sorted(targets)),
        services=tuple(sorted(services)),
        udp_targets=tuple(sorted(udp_targets)),
        udp_services=tuple(sorted(udp_services)),
        sight=Sight(some_see=True in sights, some_do_not=False in sights),
        bare=bare,
    )


def bound_address(workload: Workload) -> tuple[str, ...]:
    """The address that its sidecar binds, if it does."""
    return (workload.address,) if workload.sidecar.listens else ()


def address_conflicts(address: str, owners: frozenset[ProxyId]) -> tuple[Problem, ...]:
    """Bound sidecars that claim one address: Envoy would share it in silence, or fail to bind."""
    first, *others = sorted(owners)
    return tuple(
        Problem(
            ref=ObjectRef("Pod", proxy.namespace, proxy.name),
            field="status.podIP",
            code=ProblemCode.ADDRESS_CONFLICT,
            message=f"Pod {first} has the address {address} too; bound sidecars cannot share one.",
            cure="Give each bound workload an address of its own.",
        )
        for proxy in others
    )


def _claim(ports: dict[int, InboundPort], one: ServedPort, pod: Pod) -> Problem | None:
    number, protocol, service = one.target, one.protocol, one.service
    if protocol is Protocol.UDP:
        return None
    if number in RESERVED_PORTS:
        return Problem(
            ref=pod.ref,
            field=f"port {number}",
            code=ProblemCode.PORT_CONFLICT,
            message=f"Service {service} targets port {number}, which sidecars use themselves; it "
            "stays closed.",
            cure="Let the application listen on another port.",
        )
    held = ports.get(number)
    if held is None:
        ports[number] = InboundPort(number=number, protocol=protocol, services=(service,))
        return None
    if service not in held.services:
        ports[number] = replace(held, services=(*held.services, service))
    if held.protocol is protocol:
        return None
    return Problem(
        ref=pod.ref,
        field=f"port {number}",
        code=ProblemCode.PORT_CONFLICT,
        message=f"Service {held.services[0]} says that it speaks {held.protocol}, Service "
        f"{service} says {protocol}; {held.protocol} counts.",
        cure="Give both Service ports the same appProtocol or name prefix.",
    )


def _check(workload: Workload, pod: Pod) -> list[Problem]:
    problems = []
    if workload.sidecar is Sidecar.BOUND and workload.address == workload.app_address:
        problems.append(
            Problem(
                ref=pod.ref,
                field="metadata.annotations[smi-xds.io/app-address]",
                code=ProblemCode.ADDRESS_CONFLICT,
                message=f"The application would listen on {workload.address}, which the sidecar "
                "binds.",
                cure="Let the application listen on another address, and name it there.",
            )
        )
    if workload.mtls is Mode.PERMISSIVE:
        # An intercepted sidecar has one listener, and one patience, for all ports.
        delay = "three seconds" if workload.sidecar is Sidecar.INTERCEPTED else "a second"
        problems += [
            Problem(
                ref=pod.ref,
                field=f"port {port.number}",
                code=ProblemCode.SERVER_FIRST_PERMISSIVE,
                message="Its server speaks first, so a plaintext client waits for a greeting "
                "until the TLS inspection times out.",
                cure=f"Make mTLS strict for this workload, or expect the delay of {delay}.",
            )
            for port in workload.ports
            if port.protocol is Protocol.SERVER_FIRST
        ]
    return problems
