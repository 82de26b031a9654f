"""What things are called in a cluster; sidecars, operators and our own commands go by these."""

from smi_xds.crds.definition import WEBHOOK_NAMESPACE

NAMESPACE = WEBHOOK_NAMESPACE
NAME = "smi-xds"
"""Of the ServiceAccount, the Deployment and the Service for sidecars."""

AUTHORITY_SECRET = "smi-xds-ca"  # noqa: S105 - its name
LEASE = "smi-xds-leader"
TRUST_CONFIG_MAP = "smi-xds-trust"
TRUST_KEY = "ca.crt"

XDS_PORT = 15010
"""Plaintext, on the loopback of the pod: for port-forward, and in no Service."""
XDS_TLS_PORT = 15012
MONITORING_PORT = 15014

PART_OF = {"app.kubernetes.io/part-of": "smi-xds"}
SELECTOR = {"app.kubernetes.io/name": "smi-xds"}
LABELS = SELECTOR | PART_OF

FIELD_MANAGER = "smi-xds-install"
"""As whom `smi-xds install` applies."""
