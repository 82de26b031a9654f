"""Kubernetes objects: their wire shapes, and from these to the types of `objects.kube`.

The API server validated what it sends; a file may hold anything. So whatever could do harm further
on (names, addresses, ports) is judged here. Fields that we do not read are not looked at.
"""

from ipaddress import ip_address
from typing import Annotated, TypeAlias

import msgspec

from smi_xds.objects.faults import ParseError, printable
from smi_xds.objects.kube import (
    ANNOTATION_PREFIX,
    ContainerPort,
    EndpointSlice,
    Namespace,
    Pod,
    Service,
    ServiceAccount,
    ServicePort,
    SliceEndpoint,
    SlicePort,
    Transport,
)
from smi_xds.objects.metadata import (
    Metadata,
    address_from,
    annotations_of,
    check_host,
    check_name,
    check_namespace,
    is_ipv4,
    labels_of,
    name_of,
    namespace_of,
)

ADDRESS_ANNOTATION = f"{ANNOTATION_PREFIX}address"
"""Where a pod (or VM) written by hand is found: one address, or two separated by a comma."""

SERVICE_NAME_LABEL = "kubernetes.io/service-name"

Port: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class MetadataWire(msgspec.Struct):
    """Namespace and ServiceAccount: nothing but metadata."""

    metadata: Metadata


class _ServicePortWire(msgspec.Struct, rename="camel"):
    port: Port
    name: str | None = None
    protocol: Transport | None = None
    app_protocol: str | None = None
    target_port: int | str | None = None


class _ServiceSpec(msgspec.Struct, rename="camel"):
    type: str | None = None
    cluster_ip: str | None = msgspec.field(name="clusterIP", default=None)
    cluster_ips: list[str] | None = msgspec.field(name="clusterIPs", default=None)
    external_name: str | None = None
    selector: dict[str, str] | None = None
    ports: list[_ServicePortWire] | None = None
    publish_not_ready_addresses: bool | None = None


class ServiceWire(msgspec.Struct):
    """core/v1 Service."""

    metadata: Metadata
    spec: _ServiceSpec | None = None


class _ContainerPortWire(msgspec.Struct, rename="camel"):
    container_port: Port
    name: str | None = None
    protocol: Transport | None = None


class _Container(msgspec.Struct, rename="camel"):
    ports: list[_ContainerPortWire] | None = None
    restart_policy: str | None = None


class _PodSpec(msgspec.Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    service_account_name: str | None = None
    node_name: str | None = None
    hostname: str | None = None
    subdomain: str | None = None
    host_network: bool | None = None


class _PodIP(msgspec.Struct):
    ip: str | None = None


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _PodStatus(msgspec.Struct, rename="camel"):
    phase: str | None = None
    pod_ip: str | None = msgspec.field(name="podIP", default=None)
    pod_ips: list[_PodIP] | None = msgspec.field(name="podIPs", default=None)
    conditions: list[_Condition] | None = None


class PodWire(msgspec.Struct):
    """core/v1 Pod."""

    metadata: Metadata
    spec: _PodSpec | None = None
    status: _PodStatus | None = None


class _EndpointPort(msgspec.Struct, rename="camel"):
    port: Port | None = None
    name: str | None = None
    protocol: Transport | None = None
    app_protocol: str | None = None


class _EndpointConditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _TargetRef(msgspec.Struct):
    kind: str | None = None
    name: str | None = None


class _EndpointWire(msgspec.Struct, rename="camel"):
    addresses: list[str]
    conditions: _EndpointConditions | None = None
    target_ref: _TargetRef | None = None
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None


class EndpointSliceWire(msgspec.Struct, rename="camel"):
    """discovery/v1 EndpointSlice."""

    metadata: Metadata
    address_type: str
    endpoints: list[_EndpointWire] | None = None
    ports: list[_EndpointPort] | None = None


_NO_CONDITIONS = _EndpointConditions()
_NO_TARGET = _TargetRef()


def namespace_from(wire: MetadataWire) -> Namespace:
    """core/v1 Namespace."""
    check_namespace(wire.metadata.name, field="metadata.name")
    return Namespace(name=wire.metadata.name, annotations=annotations_of(wire.metadata))


def service_account_from(wire: MetadataWire) -> ServiceAccount:
    """core/v1 ServiceAccount."""
    return ServiceAccount(namespace=namespace_of(wire.metadata), name=name_of(wire.metadata))


def service_from(wire: ServiceWire) -> Service:
    """core/v1 Service."""
    meta, spec = wire.metadata, wire.spec or _ServiceSpec()
    check_namespace(meta.name, field="metadata.name")
    written = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if external := spec.external_name or "":
        check_host(external.removesuffix("."), field="spec.externalName")
    return Service(
        namespace=namespace_of(meta),
        name=meta.name,
        type=spec.type or "ClusterIP",
        cluster_ips=tuple(
            address_from(ip, field="spec.clusterIP") for ip in written if ip and ip != "None"
        ),
        headless="None" in written,
        external_name=external,
        selector=labels_of(spec.selector),
        ports=_service_ports(spec.ports or []),
        annotations=annotations_of(meta),
        publish_not_ready=bool(spec.publish_not_ready_addresses),
        created=meta.creation_timestamp or "",
        uid=meta.uid or "",
    )


def _service_ports(wires: list[_ServicePortWire]) -> tuple[ServicePort, ...]:
    ports = tuple(_service_port(wire, index=index) for index, wire in enumerate(wires))
    # Names join a Service's ports with those of its slices, so they must tell them apart.
    seen: set[tuple[object, ...]] = set()
    for index, port in enumerate(ports):
        for field, key in (("name", (port.name,)), ("port", (port.port, port.transport))):
            if key in seen:
                raise ParseError(
                    f"spec.ports[{index}].{field}",
                    f"another port of this Service has the same {field}",
                    "Give each port a name and a number of its own.",
                )
            seen.add(key)
    return ports


def _service_port(wire: _ServicePortWire, *, index: int) -> ServicePort:
    target = wire.target_port or wire.port  # core/v1: 0 and "" are "the port itself"
    if isinstance(target, int):
        valid = 1 <= target <= 65535
    else:
        valid = not target.isdecimal()  # the API server wants a letter in a port's name
    if not valid:
        raise ParseError(
            f"spec.ports[{index}].targetPort",
            f"{printable(repr(target))} is neither a port number nor the name of a port",
            "Write a number from 1 to 65535 without quotes, or the name of a container port.",
        )
    return ServicePort(
        port=wire.port,
        name=wire.name or "",
        transport=wire.protocol or Transport.TCP,
        app_protocol=wire.app_protocol or "",
        target_port=target,
    )


def pod_from(wire: PodWire) -> Pod:
    """core/v1 Pod.

    One without phase and conditions was written by hand: it counts as ready, and may give its
    address by annotation. The API server always sets a phase.
    """
    meta, spec, status = wire.metadata, wire.spec or _PodSpec(), wire.status or _PodStatus()
    annotations = annotations_of(meta)
    by_hand = not status.phase and not status.conditions
    for field, label in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if label:
            check_namespace(label, field=f"spec.{field}")
    account = spec.service_account_name or "default"
    check_name(account, field="spec.serviceAccountName")
    return Pod(
        namespace=namespace_of(meta),
        name=name_of(meta),
        uid=meta.uid or "",
        service_account=account,
        ips=_pod_ips(status) or (_annotated_ips(dict(annotations)) if by_hand else ()),
        labels=labels_of(meta.labels),
        annotations=annotations,
        ports=_container_ports(spec),
        node=spec.node_name or "",
        owner=next((f"{o.kind}/{o.name}" for o in meta.owner_references or () if o.controller), ""),
        hostname=spec.hostname or "",
        subdomain=spec.subdomain or "",
        ready=by_hand or _is_true(status, "Ready"),
        terminating=meta.deletion_timestamp is not None,
        done=status.phase in {"Succeeded", "Failed"},
        host_network=bool(spec.host_network),
    )


def _pod_ips(status: _PodStatus) -> tuple[str, ...]:
    ips = [pod_ip.ip for pod_ip in status.pod_ips or ()] or [status.pod_ip]
    return tuple(address_from(ip, field="status.podIP") for ip in ips if ip)


def _annotated_ips(annotations: dict[str, str]) -> tuple[str, ...]:
    text = annotations.get(ADDRESS_ANNOTATION, "")
    field = f"metadata.annotations[{ADDRESS_ANNOTATION}]"
    return tuple(address_from(ip.strip(), field=field) for ip in text.split(",") if ip.strip())


def _container_ports(spec: _PodSpec) -> tuple[ContainerPort, ...]:
    # Of init containers only sidecars ("Always") run on, so only their ports are reachable.
    sidecars = (c for c in spec.init_containers or () if c.restart_policy == "Always")
    return tuple(
        ContainerPort(
            port=port.container_port,
            name=port.name or "",
            transport=port.protocol or Transport.TCP,
        )
        for container in (*(spec.containers or ()), *sidecars)
        for port in container.ports or ()
    )


def _is_true(status: _PodStatus, condition: str) -> bool:
    return any(c.type == condition and c.status == "True" for c in status.conditions or ())


def endpoint_slice_from(wire: EndpointSliceWire) -> EndpointSlice | None:
    """discovery/v1 EndpointSlice; None for one that belongs to no Service."""
    service = (wire.metadata.labels or {}).get(SERVICE_NAME_LABEL)
    if not service:
        return None
    return EndpointSlice(
        namespace=namespace_of(wire.metadata),
        name=name_of(wire.metadata),
        service=service,
        address_type=wire.address_type,
        # A port without a number means "every port" there; no port of ours can mean that.
        ports=tuple(
            SlicePort(
                port=port.port,
                name=port.name or "",
                transport=port.protocol or Transport.TCP,
                app_protocol=port.app_protocol or "",
            )
            for port in wire.ports or ()
            if port.port is not None
        ),
        endpoints=tuple(
            _endpoint(endpoint, index=index, address_type=wire.address_type)
            for index, endpoint in enumerate(wire.endpoints or ())
        ),
    )


def _endpoint(wire: _EndpointWire, *, index: int, address_type: str) -> SliceEndpoint:
    conditions, target = wire.conditions or _NO_CONDITIONS, wire.target_ref or _NO_TARGET
    # discovery/v1: unknown readiness is to be read as ready, unknown serving as readiness.
    ready = conditions.ready is not False
    return SliceEndpoint(
        addresses=_addresses(wire.addresses, index=index, address_type=address_type),
        pod=(target.name or "") if target.kind == "Pod" else "",
        ready=ready,
        serving=ready if conditions.serving is None else conditions.serving,
        terminating=bool(conditions.terminating),
        hostname=wire.hostname or "",
        node=wire.node_name or "",
        zone=wire.zone or "",
    )


def _addresses(texts: list[str], *, index: int, address_type: str) -> tuple[str, ...]:
    if address_type == "IPv4" and all(map(is_ipv4, texts)):
        return tuple(texts)
    field = f"endpoints[{index}].addresses"
    if address_type == "FQDN":
        for text in texts:
            check_host(text.removesuffix("."), field=field)
        return tuple(texts)
    addresses = tuple(address_from(text, field=field) for text in texts)
    if any(f"IPv{ip_address(address).version}" != address_type for address in addresses):
        raise ParseError(
            field,
            f"not all addresses are of addressType '{printable(address_type)}'",
            "Use one EndpointSlice for IPv4 and one for IPv6.",
        )
    return addresses
