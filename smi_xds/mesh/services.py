"""Services and what is behind them.

One pure function per service (`build_service`), from its Service, EndpointSlices and pods.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from smi_xds.mesh.annotations import PodSettings
from smi_xds.mesh.model import (
    Endpoint,
    EndpointState,
    Protocol,
    Service,
    ServicePort,
    Sidecar,
    Target,
)
from smi_xds.objects.kube import (
    EndpointSlice,
    Pod,
    SliceEndpoint,
    SlicePort,
    Transport,
)
from smi_xds.objects.kube import Service as KubeService
from smi_xds.objects.kube import ServicePort as KubeServicePort
from smi_xds.objects.views import ServiceGroup
from smi_xds.values import SpiffeId

# `appProtocol`: the standard names of KEP-3726 and the bare words that older meshes accept.
_APP_PROTOCOLS = {
    "http": Protocol.HTTP,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.TCP,
    "http2": Protocol.HTTP2,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "tcp": Protocol.TCP,
    "https": Protocol.TCP,
    "tls": Protocol.TCP,
    "tcp-server-first": Protocol.SERVER_FIRST,
}

# Prefixes of port names, the longest first: `tcp-server-first-db` is not `tcp`.
_NAME_PREFIXES = (
    ("tcp-server-first", Protocol.SERVER_FIRST),
    ("https", Protocol.TCP),
    ("http2", Protocol.HTTP2),
    ("http", Protocol.HTTP),
    ("grpc", Protocol.GRPC),
    ("tcp", Protocol.TCP),
    ("tls", Protocol.TCP),
)

# Ports that are known not to be HTTP, as Linkerd lists them: SMTP, submission and MySQL greet
# first; then Galera, PostgreSQL, Redis, Elasticsearch transport, memcached.
_KNOWN_PORTS = {
    25: Protocol.SERVER_FIRST,
    587: Protocol.SERVER_FIRST,
    3306: Protocol.SERVER_FIRST,
    4444: Protocol.TCP,
    5432: Protocol.TCP,
    6379: Protocol.TCP,
    9300: Protocol.TCP,
    11211: Protocol.TCP,
}

# discovery/v1: FQDN names a host; Envoy refuses a load assignment with anything but addresses.
_ADDRESS_TYPES = frozenset({"IPv4", "IPv6"})


def protocol_of(port: KubeServicePort) -> Protocol:
    """What a port speaks: `appProtocol`, then its name, then its number, else HTTP."""
    if port.transport is Transport.UDP:
        return Protocol.UDP
    if port.app_protocol.lower() in _APP_PROTOCOLS:
        return _APP_PROTOCOLS[port.app_protocol.lower()]
    for prefix, protocol in _NAME_PREFIXES:
        if port.name == prefix or port.name.startswith(f"{prefix}-"):
            return protocol
    return _KNOWN_PORTS.get(port.port, Protocol.HTTP)


def is_known(port: KubeServicePort) -> bool:
    """Whether its `appProtocol`, if it says one, is one that counts."""
    named = port.app_protocol.lower()
    return not named or port.transport is Transport.UDP or named in _APP_PROTOCOLS


def build_service(
    group: ServiceGroup, settings: tuple[PodSettings, ...], trust_domain: str
) -> Service:
    """What a service is; `settings` are those of `group.pods`, in their order."""
    if group.service.type == "ExternalName":
        # A name in DNS and nothing else: whoever is there is none of ours.
        return Service(service=group.service.service, external=True)
    pods = {pod.name: (pod, s) for pod, s in zip(group.pods, settings, strict=True)}
    ports = [
        _build_port(port, group, pods, trust_domain)
        for port in group.service.ports
        if port.transport is not Transport.SCTP
    ]
    return Service(
        service=group.service.service,
        addresses=group.service.cluster_ips,
        ports=tuple(sorted(ports, key=lambda port: (port.number, port.protocol))),
        headless=group.service.headless,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What stands at one address and port."""

    endpoint: SliceEndpoint
    target: Target


_AllFound: TypeAlias = Mapping[tuple[str, int], _Found]


def _build_port(
    port: KubeServicePort,
    group: ServiceGroup,
    pods: Mapping[str, tuple[Pod, PodSettings]],
    trust_domain: str,
) -> ServicePort:
    found: dict[tuple[str, int], _Found] = {}
    for slice_ in group.slices:
        for slice_port in _matching(slice_, port):
            for endpoint in slice_.endpoints:
                if not _is_known(endpoint, pods):
                    continue
                target = _target(endpoint, slice_port.port, pods, trust_domain)
                for address in endpoint.addresses[:1]:
                    found[address, slice_port.port] = _Found(endpoint, target)
    if not group.service.headless:
        found = _one_family(found, pods)
    return ServicePort(
        number=port.port,
        name=port.name,
        protocol=protocol_of(port),
        endpoints=_usable(found, group.service),
        identities=_identities(found.values()),
        targets=_targets(found.values()),
        pods=_each_pod(found, port) if group.service.headless else (),
    )


def _each_pod(found: _AllFound, port: KubeServicePort) -> tuple[tuple[str, ServicePort], ...]:
    """The pods of a headless service one by one, ready or not: the caller has chosen."""
    pods: dict[str, dict[tuple[str, int], _Found]] = {}
    for (address, number), one in sorted(found.items(), key=lambda it: it[0]):
        pods.setdefault(one.endpoint.hostname or address, {})[address, number] = one
    return tuple(
        (
            name,
            ServicePort(
                number=port.port,
                name=port.name,
                protocol=protocol_of(port),
                endpoints=tuple(
                    Endpoint(address=address, port=number, identity=one.target.identity)
                    for (address, number), one in there.items()
                ),
                identities=_identities(there.values()),
                targets=_targets(there.values()),
            ),
        )
        for name, there in sorted(pods.items())
    )


def _one_family(
    found: _AllFound, pods: Mapping[str, tuple[Pod, PodSettings]]
) -> dict[tuple[str, int], _Found]:
    """Leave out the other addresses of pods in the mesh, which would count twice."""
    first = {
        (pod.ips[0], port): pod.ips[1:]
        for (_, port), one in found.items()
        if (pod := pods[one.endpoint.pod][0] if one.target.identity is not None else None)
    }
    again = {
        (address, port)
        for (main, port), others in first.items()
        if (main, port) in found
        for address in others
    }
    return {key: one for key, one in found.items() if key not in again}


def _identities(found: Iterable[_Found]) -> tuple[SpiffeId, ...]:
    return tuple(sorted({i for one in found if (i := one.target.identity) is not None}))


def _targets(found: Iterable[_Found]) -> tuple[Target, ...]:
    return tuple(sorted({one.target for one in found}, key=_target_order))


def _target_order(target: Target) -> tuple[str, int, str, str]:
    return str(target.identity), target.port, str(target.access), str(target.mtls)


def _matching(slice_: EndpointSlice, port: KubeServicePort) -> list[SlicePort]:
    # EndpointPort.name equals ServicePort.name; the number in a slice is already the target's.
    if slice_.address_type not in _ADDRESS_TYPES:
        return []
    return [p for p in slice_.ports if p.name == port.name and p.transport is port.transport]


def _is_known(endpoint: SliceEndpoint, pods: Mapping[str, tuple[Pod, PodSettings]]) -> bool:
    """Whether it can be called: how is only known once its pod is.

    A slice may arrive before the pod that it names, or before its address, and go after the pod
    has ended. A bound sidecar listens on one address of its pod: the slice with those of the other
    family has nobody behind it.
    """
    if not endpoint.pod:
        return True
    pod, settings = pods.get(endpoint.pod, (None, None))
    if pod is None or settings is None or pod.done or (settings.sidecar.listens and not pod.ips):
        return False
    return settings.sidecar is not Sidecar.BOUND or not {*endpoint.addresses} & {*pod.ips[1:]}


def _target(
    endpoint: SliceEndpoint,
    port: int,
    pods: Mapping[str, tuple[Pod, PodSettings]],
    trust_domain: str,
) -> Target:
    pod, settings = pods.get(endpoint.pod, (None, None))
    if pod is None or settings is None or not settings.sidecar.listens:
        return Target(identity=None, port=port, access=None, mtls=None)
    identity = SpiffeId.of(trust_domain, pod.account)
    access, mtls = settings.access, settings.mtls
    return Target(identity=identity, port=port, access=access, mtls=mtls)


def _usable(found: _AllFound, service: KubeService) -> tuple[Endpoint, ...]:
    """Endpoints that may serve: the ready ones; where there is none, those still serving.

    kube-proxy rules the same (KEP-1669): a terminating endpoint that still serves gets new
    connections only while nothing else is there, and is otherwise drained.
    """
    any_ready = any(one.endpoint.ready or service.publish_not_ready for one in found.values())
    endpoints = []
    for (address, port), one in sorted(found.items(), key=lambda it: it[0]):
        e = one.endpoint
        ready = e.ready or service.publish_not_ready
        if not ready and not (e.serving and e.terminating):
            continue
        draining = not ready and any_ready
        endpoints.append(
            Endpoint(
                address=address,
                port=port,
                state=EndpointState.DRAINING if draining else EndpointState.READY,
                identity=one.target.identity,
                zone=e.zone,
                hostname=e.hostname if service.headless else "",
            )
        )
    return tuple(endpoints)
