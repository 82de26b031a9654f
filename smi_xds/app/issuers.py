"""Who signs the workloads' certificates: our own authority, or cert-manager."""

from pathlib import Path

from smi_xds.config import ServeConfig
from smi_xds.identity.ca import Authority
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.embedded import EmbeddedIssuer
from smi_xds.identity.issuer import Issuer
from smi_xds.problems import IdentityError


async def opened_issuer(config: ServeConfig, authority: Authority | CurrentAuthority) -> Issuer:
    """The one that was chosen; certificates of servers of ours are our own authority's anyway."""
    chosen = config.cert_manager
    if chosen is None:
        return EmbeddedIssuer(authority, lifetime=config.authority.leaf_lifetime)
    assert config.kubernetes is not None, "judged with the flags"
    # Who signs by himself does without aiohttp.
    from smi_xds.identity.cert_manager import CertManagerIssuer
    from smi_xds.identity.certificate_request import IssuerRef
    from smi_xds.sources.kube_connection import Connection

    reference = IssuerRef(
        namespace=chosen.namespace, kind=chosen.kind, group=chosen.group, name=chosen.name
    )
    file = chosen.ca
    connection = Connection(config.kubernetes)
    await connection.open()
    return CertManagerIssuer(
        connection,
        reference,
        roots=None if file is None else lambda: _read(file),
        lifetime=config.authority.leaf_lifetime,
    )


def _read(file: Path) -> bytes:
    """Again and again: it is mounted, and replaced when the root is."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise IdentityError(f"--cert-manager-ca {file} cannot be read: {error.strerror}") from error
