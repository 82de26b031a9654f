"""Workloads: the pods (or VMs) that are proxies in the mesh, and the ports they serve."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from smi_xds.mesh.access import AccountPorts
from smi_xds.mesh.annotations import PodSettings
from smi_xds.mesh.model import Grant, InboundPort, Protocol, Sidecar, Workload
from smi_xds.mesh.services import protocol_of
from smi_xds.objects.kube import Pod, Service, Transport
from smi_xds.objects.views import ServiceGroup
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import Mode, ObjectRef, ServiceRef, SpiffeId

# Ports that a sidecar uses itself, the same as Istio's: admin, outbound, inbound, tunnel, health,
# Prometheus.
RESERVED_PORTS = frozenset({15000, 15001, 15006, 15008, 15021, 15090})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPort:
    """A port of a pod that a service sends to."""

    service: ServiceRef
    port: int
    target: int
    protocol: Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """What each pod behind one service serves for it, by the pod's name."""

    pods: Mapping[str, tuple[ServedPort, ...]]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A workload before anyone's rights are known, and what is wrong with its ports."""

    workload: Workload | None
    service_ports: tuple[tuple[int, int], ...] = ()
    """(Service port, target port) of every port behind which it stands."""
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
        problems=tuple(_missing_ports(group.service, pods.values())),
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


def build_workload(
    pod: Pod, settings: PodSettings, served: tuple[ServedPort, ...], trust_domain: str
) -> Served:
    """The workload of a pod, which serves `served`, sorted by service."""
    if settings.sidecar is Sidecar.PROXYLESS:
        return _proxyless(pod, settings, served, trust_domain)
    ports: dict[int, InboundPort] = {}
    problems: list[Problem] = []
    for one in served:
        problem = _claim(ports, one, pod)
        if problem is not None:
            problems.append(problem)
    if settings.sidecar is Sidecar.NONE or not pod.ips or pod.done:
        return Served(workload=None)
    workload = Workload(
        proxy=pod.proxy,
        identity=SpiffeId.of(trust_domain, pod.account),
        address=pod.ips[0],
        app_address=settings.app_address,
        sidecar=settings.sidecar,
        access=settings.access,
        mtls=settings.mtls,
        ports=tuple(port for _, port in sorted(ports.items())),
    )
    problems += _check(workload, pod)
    pairs = sorted({(one.port, one.target) for one in served})
    return Served(workload=workload, service_ports=tuple(pairs), problems=tuple(problems))


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
    if not served or (settings.access, settings.mtls) == (Mode.PERMISSIVE, Mode.PERMISSIVE):
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
    return replace(
        workload,
        ports=tuple(
            replace(port, grants=tuple(g for g in grants if g.admits(port.number, port.protocol)))
            for port in workload.ports
        ),
    )


def account_ports(served: Iterable[Served]) -> AccountPorts:
    """What the pods of one account serve, for the checks of TrafficTargets."""
    targets: set[tuple[int, Protocol]] = set()
    services: set[tuple[int, int]] = set()
    for one in served:
        services.update(one.service_ports)
        if one.workload is not None:
            targets.update((port.number, port.protocol) for port in one.workload.ports)
    return AccountPorts(targets=tuple(sorted(targets)), services=tuple(sorted(services)))


def address_conflicts(workloads: Iterable[Workload]) -> tuple[Problem, ...]:
    """Bound sidecars that claim one address: Envoy would share it in silence, or fail to bind."""
    owner: dict[str, Workload] = {}
    problems = []
    for workload in workloads:
        if not workload.sidecar.listens:
            continue
        first = owner.setdefault(workload.address, workload)
        if first is not workload:
            problems.append(
                Problem(
                    ref=_ref(workload),
                    field="status.podIP",
                    code=ProblemCode.ADDRESS_CONFLICT,
                    message=f"Pod {first.proxy} has the address {workload.address} too; bound "
                    "sidecars cannot share one.",
                    cure="Give each bound workload an address of its own.",
                )
            )
    return tuple(problems)


def _ref(workload: Workload) -> ObjectRef:
    return ObjectRef("Pod", workload.proxy.namespace, workload.proxy.name)


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
    if workload.address == workload.app_address:
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
        problems += [
            Problem(
                ref=pod.ref,
                field=f"port {port.number}",
                code=ProblemCode.SERVER_FIRST_PERMISSIVE,
                message="Its server speaks first, so a plaintext client waits for a greeting "
                "until the TLS inspection times out.",
                cure="Make mTLS strict for this workload, or expect the delay of a second.",
            )
            for port in workload.ports
            if port.protocol is Protocol.SERVER_FIRST
        ]
    return problems
