"""Kubernetes objects as the mesh needs them: parsed, flattened, frozen.

Only what the mesh reads is kept (of annotations: our own), so that a change of anything else
makes an equal object and no event at all. Wire shapes and their parsing: `objects.parse_kube`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import msgspec

from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef, ServiceRef

ANNOTATION_PREFIX = "smi-xds.io/"

Labels: TypeAlias = frozenset[tuple[str, str]]
"""Labels or a selector, as pairs: `selector <= labels` selects."""

Annotations: TypeAlias = tuple[tuple[str, str], ...]
"""Our own annotations (`smi-xds.io/…`, with the prefix), sorted."""


class Transport(StrEnum):
    """`protocol` of a port (core/v1 Protocol)."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """core/v1 Namespace."""

    name: str
    annotations: Annotations = ()

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("Namespace", "", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """core/v1 ServiceAccount."""

    namespace: str
    name: str

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("ServiceAccount", self.namespace, self.name)

    @property
    def account(self) -> ServiceAccountRef:
        return ServiceAccountRef(self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """core/v1 ServicePort; `target_port` is a number or the name of a container port."""

    port: int
    name: str = ""
    transport: Transport = Transport.TCP
    app_protocol: str = ""
    target_port: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """core/v1 Service. `cluster_ips` is empty for headless and external ones, and in files."""

    namespace: str
    name: str
    type: str = "ClusterIP"
    cluster_ips: tuple[str, ...] = ()
    headless: bool = False
    """`clusterIP: None` was written; without a cluster IP alone it may just not have been."""
    external_name: str = ""
    selector: Labels = frozenset()
    ports: tuple[ServicePort, ...] = ()
    annotations: Annotations = ()
    publish_not_ready: bool = False
    created: str = ""
    uid: str = ""

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("Service", self.namespace, self.name)

    @property
    def service(self) -> ServiceRef:
        return ServiceRef(self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """core/v1 ContainerPort."""

    port: int
    name: str = ""
    transport: Transport = Transport.TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """core/v1 Pod. `ready` is its Ready condition; `done` says phase Succeeded or Failed."""

    namespace: str
    name: str
    uid: str = ""
    service_account: str = "default"
    ips: tuple[str, ...] = ()
    labels: Labels = frozenset()
    annotations: Annotations = ()
    ports: tuple[ContainerPort, ...] = ()
    node: str = ""
    owner: str = ""
    """`Kind/name` of the controlling owner: `ReplicaSet/web-5d8f`."""
    hostname: str = ""
    subdomain: str = ""
    ready: bool = False
    terminating: bool = False
    done: bool = False
    host_network: bool = False

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("Pod", self.namespace, self.name)

    @property
    def proxy(self) -> ProxyId:
        return ProxyId(self.namespace, self.name)

    @property
    def account(self) -> ServiceAccountRef:
        return ServiceAccountRef(self.namespace, self.service_account)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePort:
    """discovery/v1 EndpointPort: `port` is the target port, `name` that of the Service port."""

    port: int
    name: str = ""
    transport: Transport = Transport.TCP
    app_protocol: str = ""


class SliceEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """discovery/v1 Endpoint; unset conditions already have their documented defaults.

    No dataclass, though as frozen and comparable as one: the most frequent event of all brings a
    hundred of them, and these are made ten times faster, and compared faster still.
    """

    addresses: tuple[str, ...]
    pod: str = ""
    """`targetRef.name` where its kind is Pod."""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    hostname: str = ""
    node: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """discovery/v1 EndpointSlice; `service` is its label kubernetes.io/service-name."""

    namespace: str
    name: str
    service: str
    address_type: str = "IPv4"
    ports: tuple[SlicePort, ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("EndpointSlice", self.namespace, self.name)

    @property
    def owner(self) -> ServiceRef:
        return ServiceRef(self.namespace, self.service)


KubeObject: TypeAlias = Namespace | ServiceAccount | Service | Pod | EndpointSlice
