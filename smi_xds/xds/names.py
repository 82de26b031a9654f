"""Every name that Envoy sees is made here.

They stand in stats, access logs and dashboards: renaming one breaks somebody's metrics.
"""

from typing import Final

from smi_xds.mesh.model import Destination, PortRef

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
"""The listener on 15001: of a bound sidecar for HTTP, with its route configuration; of an
intercepted one for everything."""

INBOUND: Final = "inbound"
"""The listener on 15006 of an intercepted sidecar."""

OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15006
ADMIN_PORT: Final = 15000

TUNNEL: Final = "tunnel"
"""The listener to which other sidecars bring datagrams, and its route configuration."""

TUNNEL_PORT: Final = 15008

SIDECAR_SOURCE: Final = ("127.0.0.6", "::6")
"""From where (IPv4, IPv6) an intercepted sidecar calls its own application: Istio's addresses."""

DENIED: Final = "denied"
"""The cluster, without endpoints, of what must not go anywhere."""

PASSTHROUGH: Final = "passthrough"
"""The cluster of what an intercepted workload sends to no service: on to where it was going."""

INBOUND_PASSTHROUGH: Final = "inbound|passthrough"
"""The cluster of an intercepted workload's ports that no service names."""

NO_ONE: Final = "spiffe://nobody.invalid/"
"""A SAN that no certificate has (RFC 6761): an empty list of SANs would accept everyone."""


def outbound_cluster(ref: PortRef) -> str:
    """The cluster of a service port, and its load assignment: `namespace/name:port`.

    That of one pod of a headless service is `namespace/name/pod:port`.
    """
    return str(ref)


def inbound(port: int) -> str:
    """The listener, route configuration and cluster of a workload's own port."""
    return f"inbound|{port}"


def inbound_udp(port: int) -> str:
    """The cluster of a workload's own UDP port."""
    return f"inbound|{port}/udp"


def outbound_tcp(ref: PortRef) -> str:
    """The listener on which a bound sidecar offers a TCP service."""
    return f"outbound|{ref}"


def outbound_udp(ref: PortRef) -> str:
    """The listener on which a sidecar offers a UDP service."""
    return f"outbound|{ref}"


def udp_host(ref: PortRef) -> str:
    """The service, as a tunnel is asked for it."""
    return f"{ref.service.name}.{ref.service.namespace}"


def udp_path(ref: PortRef) -> str:
    """The path of a tunnel to a service port (RFC 9298, section 3)."""
    return f"/.well-known/masque/udp/{udp_host(ref)}/{ref.port}/"


def outbound_at(destination: Destination) -> str:
    """The listener of an intercepted sidecar for one address."""
    return f"outbound|{destination}"


def outbound_routes(ref: PortRef) -> str:
    """The route configuration of one service port: of intercepted sidecars and gRPC clients."""
    return f"outbound|{ref}"


def peers(ref: PortRef) -> str:
    """SDS name of the trust bundle with the identities behind a service port."""
    return f"peers|{ref}"


def domains(ref: PortRef, *, default_port: bool, local: bool) -> list[str]:
    """The hosts by which a service port is called; `local` ones are in the caller's namespace.

    Without a port only where it is the one that such a host means.
    """
    name, namespace = ref.service.name, ref.service.namespace
    if ref.pod:
        name = f"{ref.pod}.{name}"
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
