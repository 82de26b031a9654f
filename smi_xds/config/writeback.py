"""Who of the replicas writes to the API server, and whether anybody does."""

from dataclasses import dataclass

from smi_xds.config.kubernetes import KubernetesConfig
from smi_xds.config.notation import parse_name
from smi_xds.problems import ConfigError

DEFAULT_LEASE = "smi-xds/smi-xds-leader"  # as in deploy/kubernetes


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseConfig:
    """Which Lease says who of the replicas leads."""

    namespace: str
    name: str


def parse_lease(lease: str | None, kubernetes: KubernetesConfig | None) -> LeaseConfig | None:
    """Read which Lease says who of the replicas leads; None where there is no API server."""
    if kubernetes is None:
        if lease is not None:
            raise ConfigError("--lease is kept in an API server: add --kubernetes")
        return None
    namespace, name = parse_name(
        lease or DEFAULT_LEASE, kind="Lease", flag="--lease", example=DEFAULT_LEASE
    )
    return LeaseConfig(namespace=namespace, name=name)


def parse_write_back(kubernetes: KubernetesConfig | None, *, wanted: bool | None) -> bool:
    """Whether conditions and events are written.

    A pod of a cluster is installed there, with the rights to do so. Whoever tries us from a
    laptop does not expect that objects change, and has to ask for it.
    """
    if kubernetes is None:
        if wanted:
            raise ConfigError("--write-back writes to an API server: add --kubernetes")
        return False
    return kubernetes.in_cluster if wanted is None else wanted
