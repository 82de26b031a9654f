"""What a gRPC process without a proxy starts with."""

from smi_xds.mesh.model import Sidecar, Workload
from smi_xds.values import AccessMode, Mode, ProxyId, SpiffeId
from smi_xds.xds.grpc_bootstrap import CertificateFiles, grpc_bootstrap
from tests.support.objects import spiffe

FILES = CertificateFiles(certificate_chain="a.crt", private_key="a.key", trust_bundle="ca.crt")


def mk_workload(identity: SpiffeId) -> Workload:
    return Workload(
        proxy=ProxyId("shop", "job"),
        identity=identity,
        address="",
        app_address="127.0.0.1",
        sidecar=Sidecar.PROXYLESS,
        access=AccessMode.STRICT,
        mtls=Mode.STRICT,
    )


def test_it_names_the_process_and_the_server() -> None:
    """The node id is the pod's; without certificates no provider is named."""
    bootstrap = grpc_bootstrap(
        mk_workload(spiffe("worker")), server="127.0.0.1:15010", certificates=None
    )
    assert bootstrap == {
        "xds_servers": [
            {
                "server_uri": "127.0.0.1:15010",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "shop/job", "cluster": "shop/worker"},
    }


def test_clusters_find_the_providers_that_they_name() -> None:
    """Files that the process watches, for its own certificate and for the roots."""
    bootstrap = grpc_bootstrap(mk_workload(spiffe("worker")), server="x:1", certificates=FILES)
    assert bootstrap["certificate_providers"] == {
        "identity": {
            "plugin_name": "file_watcher",
            "config": {"certificate_file": "a.crt", "private_key_file": "a.key"},
        },
        "trust": {"plugin_name": "file_watcher", "config": {"ca_certificate_file": "ca.crt"}},
    }


def test_an_identity_of_another_form_is_named_as_it_is() -> None:
    """It stands for no service account."""
    identity = SpiffeId("cluster.local", "/vm/7")
    bootstrap = grpc_bootstrap(mk_workload(identity), server="x:1", certificates=None)
    assert bootstrap["node"] == {"id": "shop/job", "cluster": "spiffe://cluster.local/vm/7"}
