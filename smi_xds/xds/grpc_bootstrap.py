"""What a gRPC process without a proxy starts with: the file that GRPC_XDS_BOOTSTRAP names."""

from dataclasses import dataclass

from smi_xds.mesh.model import Workload
from smi_xds.xds import names


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Where the process finds its certificate, its key and the roots (PEM)."""

    certificate_chain: str
    private_key: str
    trust_bundle: str


def grpc_bootstrap(
    workload: Workload, *, server: str, certificates: CertificateFiles | None
) -> dict[str, object]:
    """The bootstrap of a gRPC process (gRFC A27), ready for JSON; `server` is `host:port`.

    Without certificates it can call only services that ask for none.
    """
    account = workload.identity.service_account
    cluster = str(account) if account else str(workload.identity)
    bootstrap: dict[str, object] = {
        "xds_servers": [
            {
                "server_uri": server,
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": str(workload.proxy), "cluster": cluster},
    }
    if certificates is not None:
        bootstrap["certificate_providers"] = _providers(certificates)
    return bootstrap


def _providers(files: CertificateFiles) -> dict[str, object]:
    """The providers that clusters name (gRFC A29)."""
    own = {
        "certificate_file": files.certificate_chain,
        "private_key_file": files.private_key,
    }
    return {
        names.IDENTITY: {"plugin_name": "file_watcher", "config": own},
        names.TRUST: {
            "plugin_name": "file_watcher",
            "config": {"ca_certificate_file": files.trust_bundle},
        },
    }
