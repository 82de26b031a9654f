"""Every name that Envoy sees is made here.

They stand in stats, access logs and dashboards: renaming one breaks somebody's metrics.
"""

from typing import Final

from smi_xds.mesh.model import PortRef

ALPN: Final = "smi-xds"
"""Offered by our clients alone, so that a chain can tell mesh traffic from an app's own TLS."""

GRPC_ALPN: Final = "h2"
"""All that a gRPC client without a proxy ever offers."""

IDENTITY: Final = "identity"
"""SDS name of a proxy's own certificate: the same word for all, resolved per stream.

gRPC clients without a proxy find it in their bootstrap: it names a certificate provider there.
"""

TRUST: Final = "trust"
"""SDS name of the trust bundle, for whoever accepts any identity of the mesh; a provider too."""

OUTBOUND: Final = "outbound"
"""The outbound HTTP listener of a bound sidecar, and its route configuration."""

OUTBOUND_PORT: Final = 15001
ADMIN_PORT: Final = 15000

DENIED: Final = "denied"
"""The cluster, without endpoints, of gRPC clients' routes to services that they must not call."""

NO_ONE: Final = "spiffe://nobody.invalid/"
"""A SAN that no certificate has (RFC 6761): an empty list of SANs would accept everyone."""


def outbound_cluster(ref: PortRef) -> str:
    """The cluster of a service port, and its load assignment: `namespace/name:port`."""
    return str(ref)


def inbound(port: int) -> str:
    """The listener, route configuration and cluster of a workload's own port."""
    return f"inbound|{port}"


def outbound_tcp(ref: PortRef) -> str:
    """The listener on which a bound sidecar offers a TCP service."""
    return f"outbound|{ref}"


def outbound_grpc(ref: PortRef) -> str:
    """The route configuration of one service for gRPC clients without a proxy."""
    return f"outbound|{ref}"


def peers(ref: PortRef) -> str:
    """SDS name of the trust bundle with the identities behind a service port."""
    return f"peers|{ref}"


def domains(ref: PortRef, *, default_port: bool, local: bool) -> list[str]:
    """The hosts by which a service port is called; `local` ones are in the caller's namespace.

    Without a port only where it is the one that such a host means.
    """
    name, namespace = ref.service.name, ref.service.namespace
    hosts = [
        f"{name}.{namespace}",
        f"{name}.{namespace}.svc",
        f"{name}.{namespace}.svc.cluster.local",
    ]
    if local:
        hosts.insert(0, name)
    return [
        domain
        for host in hosts
        for domain in ([host] if default_port else []) + [f"{host}:{ref.port}"]
    ]
