"""The only reader of flags and environment: both become frozen values, or one line of error.

One module for each group of flags; `serve` judges them together. The command line hands its flags
over as the text that the user wrote; nothing here knows of the library that parsed them, opens a
file or asks the network.
"""

from smi_xds.config.authority import (
    DEFAULT_LEAF_LIFETIME,
    AuthorityConfig,
    BroughtConfig,
    CertManagerConfig,
    SecretName,
    parse_authority,
    parse_cert_manager,
    parse_lifetime,
    parse_secret,
)
from smi_xds.config.kubernetes import KubernetesConfig, parse_kubernetes
from smi_xds.config.log import LogConfig, LogFormat, LogLevel, parse_log
from smi_xds.config.mesh import DEFAULT_TRUST_DOMAIN, MeshConfig, parse_mesh
from smi_xds.config.notation import Address, parse_address
from smi_xds.config.serve import (
    DEFAULT_MONITORING_ADDRESS,
    ServeConfig,
    default_state_folder,
    parse_serve,
)
from smi_xds.config.webhooks import DEFAULT_WEBHOOK_SERVICE, WebhookConfig, parse_webhooks
from smi_xds.config.writeback import DEFAULT_LEASE, LeaseConfig, parse_lease, parse_write_back
from smi_xds.config.xds import (
    DEFAULT_XDS_ADDRESS,
    DEFAULT_XDS_SERVICE,
    NO_XDS_ADDRESS,
    XdsTlsConfig,
    parse_xds_address,
    parse_xds_tls,
)

__all__ = [
    "DEFAULT_LEAF_LIFETIME",
    "DEFAULT_LEASE",
    "DEFAULT_MONITORING_ADDRESS",
    "DEFAULT_TRUST_DOMAIN",
    "DEFAULT_WEBHOOK_SERVICE",
    "DEFAULT_XDS_ADDRESS",
    "DEFAULT_XDS_SERVICE",
    "NO_XDS_ADDRESS",
    "Address",
    "AuthorityConfig",
    "BroughtConfig",
    "CertManagerConfig",
    "KubernetesConfig",
    "LeaseConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "MeshConfig",
    "SecretName",
    "ServeConfig",
    "WebhookConfig",
    "XdsTlsConfig",
    "default_state_folder",
    "parse_address",
    "parse_authority",
    "parse_cert_manager",
    "parse_kubernetes",
    "parse_lease",
    "parse_lifetime",
    "parse_log",
    "parse_mesh",
    "parse_secret",
    "parse_serve",
    "parse_webhooks",
    "parse_write_back",
    "parse_xds_address",
    "parse_xds_tls",
]
