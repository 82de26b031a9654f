"""EndpointSlices from Services and Pods, for sources in which no controller makes them.

They have the shape that Kubernetes' own endpoint slice controller gives them, without its limit
of 100 endpoints each.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from smi_xds.objects.kube import EndpointSlice, Labels, Pod, Service, SliceEndpoint, SlicePort


def derive_slices(services: Iterable[Service], pods: Iterable[Pod]) -> tuple[EndpointSlice, ...]:
    """The slices of those services that select pods, in a stable order."""
    index = _Index(pods)
    return tuple(
        slice_
        for service in services
        if service.selector and service.type != "ExternalName"
        for slice_ in _slices_of(service, index.select(service.namespace, service.selector))
    )


class _Index:
    """Pods by each of their labels, so that not every service looks at every pod."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._pods: defaultdict[tuple[str, tuple[str, str]], list[Pod]] = defaultdict(list)
        for pod in pods:
            for label in pod.labels:
                self._pods[pod.namespace, label].append(pod)

    def select(self, namespace: str, selector: Labels) -> list[Pod]:
        """The pods that have every label of a selector that is not empty."""
        candidates = (self._pods.get((namespace, label), []) for label in selector)
        return [pod for pod in min(candidates, key=len) if selector <= pod.labels]


def _slices_of(service: Service, pods: list[Pod]) -> Iterator[EndpointSlice]:
    for family in ("IPv4", "IPv6"):
        # Pods may give one port name different numbers: each set of numbers is a slice.
        groups: defaultdict[tuple[SlicePort, ...], list[SliceEndpoint]] = defaultdict(list)
        for pod in sorted(pods, key=lambda pod: pod.name):
            addresses = _addresses(service, pod, family)
            if addresses and not pod.done:
                groups[_ports(service, pod)].append(_endpoint(service, pod, addresses))
        for number, ports in enumerate(sorted(groups, key=repr)):
            suffix = f"-{number}" if number else ""
            yield EndpointSlice(
                namespace=service.namespace,
                name=f"{service.name}.derived-{family.lower()}{suffix}",
                service=service.name,
                address_type=family,
                ports=ports,
                endpoints=tuple(groups[ports]),
            )


def _addresses(service: Service, pod: Pod, family: str) -> tuple[str, ...]:
    """The pod's first address of a family that the service has (without cluster IP: of any)."""
    if service.cluster_ips and all(_family(ip) != family for ip in service.cluster_ips):
        return ()
    return tuple(ip for ip in pod.ips if _family(ip) == family)[:1]


def _family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"  # parsing left nothing else


def _ports(service: Service, pod: Pod) -> tuple[SlicePort, ...]:
    found = []
    for port in service.ports:
        number = _target(port.target_port, pod, transport=port.transport)
        if number is not None:
            found.append(
                SlicePort(
                    port=number,
                    name=port.name,
                    transport=port.transport,
                    app_protocol=port.app_protocol,
                )
            )
    return tuple(found)


def _target(target: int | str, pod: Pod, *, transport: str) -> int | None:
    if isinstance(target, int):
        return target
    named = (p.port for p in pod.ports if p.name == target and p.transport == transport)
    return next(named, None)


def _endpoint(service: Service, pod: Pod, addresses: tuple[str, ...]) -> SliceEndpoint:
    named = bool(pod.hostname) and pod.subdomain == service.name
    return SliceEndpoint(
        addresses=addresses,
        pod=pod.name,
        ready=service.publish_not_ready or (pod.ready and not pod.terminating),
        serving=pod.ready,
        terminating=pod.terminating,
        hostname=pod.hostname if named else "",
        node=pod.node,
    )
