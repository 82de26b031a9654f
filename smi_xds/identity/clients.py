"""Certificates that clients of ours prove themselves with: X509-SVIDs of our trust domain.

The handshake has found that the client has the key, and that its chain leads to a root of ours and
is in its time. Here the certificate is read by the rules of the standard (X509-SVID, section 5),
and the chain once more: gRPC does not heed how many authorities a root allows below it (tried).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.ads.auth import (
    CertificateProof,
    Credentials,
    Proof,
    Reason,
    Refused,
    unauthenticated,
)
from smi_xds.identity.answers import chain_to_root
from smi_xds.identity.ca import UNREADABLE
from smi_xds.identity.issuer import Clock, wall_clock
from smi_xds.values import SpiffeId

_NONE: Final = unauthenticated(Reason.NO_CREDENTIAL, "a client certificate of a workload is needed")


@dataclass(frozen=True, slots=True)
class ClientCertificates:
    """Judges the certificates of calls; `trust_domains` are those whose workloads may come."""

    trust_domains: Callable[[], Collection[str]]
    roots: Callable[[], bytes]
    """PEM."""
    clock: Clock = wall_clock

    async def __call__(self, credentials: Credentials, /) -> Proof | Refused:
        """Whose certificate it is, or why it is nobody's."""
        if not credentials.certificate:
            return _NONE
        try:
            proof = prove(credentials.certificate, roots=self.roots(), now=self.clock())
        except ValueError as error:
            return unauthenticated(Reason.INVALID_CERTIFICATE, f"the client certificate {error}")
        domain = proof.identity.trust_domain
        if domain not in self.trust_domains():
            text = f"the client certificate is of trust domain {domain!r}, which is not ours"
            return unauthenticated(Reason.WRONG_TRUST_DOMAIN, text)
        return proof


def prove(chain: bytes, *, roots: bytes, now: datetime) -> CertificateProof:
    """Read whose certificate this is (PEM, leaf first); ValueError says why not a workload's."""
    try:
        certificate, *others = x509.load_pem_x509_certificates(chain)
        extensions = certificate.extensions
    except UNREADABLE:
        raise ValueError("cannot be read") from None
    _check_use(extensions)
    try:
        chain_to_root(certificate, others, x509.load_pem_x509_certificates(roots), now=now)
    except ValueError:
        raise ValueError("does not lead to a root of ours as that allows") from None
    return CertificateProof(
        identity=_identity(extensions),
        serial=f"{certificate.serial_number:x}",
        expires=certificate.not_valid_after_utc.timestamp(),
    )


def _check_use(extensions: x509.Extensions) -> None:
    """Sections 4.1, 4.3 and 4.4: a leaf, for signatures, and for clients where it says for whom."""
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise ValueError("has no key usage") from None
    if constraints.ca or usage.key_cert_sign or usage.crl_sign:
        raise ValueError("is one that signs others")
    if not usage.digital_signature:
        raise ValueError("is not for signatures")
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise ValueError("is not for clients")


def _identity(extensions: x509.Extensions) -> SpiffeId:
    """Section 5.2: exactly one URI."""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("names no SPIFFE id") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ValueError("does not name exactly one URI")
    try:
        return SpiffeId.parse(uris[0])
    except ValueError as error:
        raise ValueError(f"names no SPIFFE id: {error}") from None
