"""The frozen picture of all objects that `objects.store` hands to `mesh.build`.

Objects come in groups that belong together. A group that no event touched since the last
picture is the very same Python object, so everything computed from it may be kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from smi_xds.objects.kube import EndpointSlice, Namespace, Pod, Service, ServiceAccount
from smi_xds.objects.smi import (
    HTTPRouteGroup,
    IdentityBinding,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
)
from smi_xds.problems import Problem
from smi_xds.values import ObjectRef, ProxyId, ServiceAccountRef, ServiceRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceGroup:
    """A Service, its EndpointSlices by name, and the pods that these name, by pod name."""

    service: Service
    slices: tuple[EndpointSlice, ...] = ()
    pods: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodGroup:
    """A Pod and the services that have it behind them (by EndpointSlice), sorted."""

    pod: Pod
    services: tuple[ServiceRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """All objects at one moment; every mapping and every value in it is frozen by convention.

    `targets` are keyed by the service account they name as destination, as written, with the
    TrafficTarget's own namespace as default; those whose destination is missing, or of an unknown
    kind, stand under their namespace and the empty name. Those whose destination is an
    IdentityBinding are not there but in `bound_targets`, keyed by their own namespace. `splits`
    are keyed by root, read from its first DNS label and the split's namespace. All tuples are
    sorted by name.
    """

    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    accounts: Mapping[ServiceAccountRef, ServiceAccount] = field(default_factory=dict)
    services: Mapping[ServiceRef, ServiceGroup] = field(default_factory=dict)
    pods: Mapping[ProxyId, PodGroup] = field(default_factory=dict)
    pods_of: Mapping[ServiceAccountRef, tuple[Pod, ...]] = field(default_factory=dict)
    targets: Mapping[ServiceAccountRef, tuple[TrafficTarget, ...]] = field(default_factory=dict)
    bound_targets: Mapping[str, tuple[TrafficTarget, ...]] = field(default_factory=dict)
    identity_bindings: Mapping[ObjectRef, IdentityBinding] = field(default_factory=dict)
    http_routes: Mapping[ObjectRef, HTTPRouteGroup] = field(default_factory=dict)
    tcp_routes: Mapping[ObjectRef, TCPRoute] = field(default_factory=dict)
    udp_routes: Mapping[ObjectRef, UDPRoute] = field(default_factory=dict)
    splits: Mapping[ServiceRef, tuple[TrafficSplit, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    """What the sources could not read, sorted."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but Namespaces."""
        return not any(
            (
                self.accounts,
                self.services,
                self.pods,
                self.targets,
                self.bound_targets,
                self.identity_bindings,
                self.http_routes,
                self.tcp_routes,
                self.udp_routes,
                self.splits,
            )
        )
