"""The flags of who writes to the API server."""

import pytest

from smi_xds.config import KubernetesConfig, LeaseConfig, parse_lease, parse_serve, parse_write_back
from smi_xds.problems import ConfigError

LAPTOP = KubernetesConfig(kubeconfig="/tmp/kubeconfig")
POD = KubernetesConfig(kubeconfig=None, in_cluster=True)


@pytest.mark.parametrize(
    "kubernetes, wanted, expected",
    [
        (None, None, False),
        (None, False, False),
        (LAPTOP, None, False),
        (LAPTOP, True, True),
        (POD, None, True),
        (POD, False, False),
    ],
)
def test_who_is_installed_writes_back(
    kubernetes: KubernetesConfig | None, wanted: bool | None, expected: bool
) -> None:
    """Who tries it from elsewhere has to ask for it."""
    assert parse_write_back(kubernetes, wanted=wanted) is expected


def test_the_lease_is_that_of_the_manifests() -> None:
    """Unless another one is named."""
    assert parse_lease(None, POD) == LeaseConfig(namespace="smi-xds", name="smi-xds-leader")
    assert parse_lease("shop/mine", LAPTOP) == LeaseConfig(namespace="shop", name="mine")
    assert parse_lease("shop/my.lease", LAPTOP) == LeaseConfig(namespace="shop", name="my.lease")
    assert parse_lease(None, None) is None


def test_what_needs_an_api_server_says_so() -> None:
    """And what a lease is called."""
    with pytest.raises(ConfigError, match="--lease is kept in an API server: add --kubernetes"):
        parse_lease("shop/mine", None)
    with pytest.raises(ConfigError, match="--write-back writes to an API server"):
        parse_write_back(None, wanted=True)
    with pytest.raises(ConfigError, match="--lease 'mine' is not NAMESPACE/NAME of a Lease, such"):
        parse_lease("mine", POD)


def test_a_leader_is_needed_by_who_writes() -> None:
    """Nobody else asks for the lease."""
    lease = LeaseConfig(namespace="smi-xds", name="smi-xds-leader")
    writes = parse_serve(kubernetes=POD, lease=lease, write_back=True, environ={"HOME": "/h"})
    reads = parse_serve(kubernetes=POD, lease=lease, environ={"HOME": "/h"})

    assert (writes.needs_leader, reads.needs_leader) == (True, False)
