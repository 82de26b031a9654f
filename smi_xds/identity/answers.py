"""What we ask another authority to sign, and whether what comes back is what we asked for.

Keys are made here and never leave: only the request does (PKCS #10). An answer is believed once
each of its properties was looked at. Sections are those of the SPIFFE standard "X509-SVID".
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.identity.ca import CLOCK_SKEW, UNREADABLE, Leaf, encode_key, renewal
from smi_xds.problems import IdentityError
from smi_xds.values import SpiffeId

# A root, three intermediates and a leaf; Envoy's own limit is 100.
_LONGEST_CHAIN: Final = 5
# An authority may shorten what was asked for. Below this, renewals would be all it does.
_SHORTEST_LIFE: Final = timedelta(seconds=30)


def signing_request(identity: SpiffeId, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Ask for a leaf of this identity and key, PEM; IdentityError where it is none."""
    try:
        # Built from names in objects, an identity may hold what a URI must not.
        SpiffeId.parse(str(identity))
    except ValueError as error:
        raise IdentityError(f"{error}: not asked for") from None
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(names, critical=True)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def read_certificates(pem: bytes, *, what: str) -> tuple[x509.Certificate, ...]:
    """One or more certificates, PEM; IdentityError where there are none."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except UNREADABLE:
        raise IdentityError(f"{what} holds no readable certificates in PEM") from None


def write_certificates(certificates: Sequence[x509.Certificate]) -> bytes:
    """The same, PEM."""
    encoding = serialization.Encoding.PEM
    return b"".join(certificate.public_bytes(encoding) for certificate in certificates)


def accept(
    answer: bytes,
    *,
    identity: SpiffeId,
    key: ec.EllipticCurvePrivateKey,
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> Leaf:
    """The leaf in an answer (PEM, leaf first); IdentityError says what is wrong with it."""
    certificate, *rest = read_certificates(answer, what="the answer")
    try:
        _check_leaf(certificate, identity, key, now=now)
        chain = chain_to_root(certificate, rest, roots, now=now)
        not_after = min(it.not_valid_after_utc for it in chain)
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise IdentityError(
            f"the certificate that came back is not a workload's: {error}"
        ) from None
    except UNREADABLE as error:
        raise IdentityError(f"the certificate that came back {error}") from None
    start = max(certificate.not_valid_before_utc, now.replace(microsecond=0))
    return Leaf(
        identity=identity,
        certificate_chain=write_certificates([it for it in chain if it not in roots]),
        private_key=encode_key(key),
        not_before=certificate.not_valid_before_utc,
        not_after=not_after,
        renew_at=renewal(identity, start=start, not_after=not_after),
    )


def _check_leaf(
    certificate: x509.Certificate,
    identity: SpiffeId,
    key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime,
) -> None:
    """Sections 4.1 to 4.4, and what we asked for; ValueError goes on "the certificate …"."""
    if certificate.public_key() != key.public_key():
        raise ValueError("is of another key")
    extensions = certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    # Section 2: exactly one URI; another kind of name could be taken for somebody else's.
    if uris != [str(identity)] or len(names) != 1:
        raise ValueError(f"names {', '.join(str(it.value) for it in names)}, not {identity} alone")
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise ValueError("is an authority's")
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise ValueError("has other key usages than digital signature")
    purposes = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    if not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH} <= purposes:
        raise ValueError("is not for client auth and server auth")
    if certificate.not_valid_before_utc > now + CLOCK_SKEW:
        raise ValueError(f"begins at {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC")
    if certificate.not_valid_after_utc < now + _SHORTEST_LIFE:
        raise ValueError(f"ends at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")


def chain_to_root(
    leaf: x509.Certificate,
    others: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    *,
    now: datetime,
) -> Sequence[x509.Certificate]:
    """From the leaf to one of the roots, which is the last; ValueError where there is no way."""
    chain = [leaf]
    while len(chain) < _LONGEST_CHAIN:
        # Roots first: what came with the answer may hold one as well.
        for issuer in (*roots, *others):
            if _signed(chain[-1], issuer, below=len(chain) - 1, now=now):
                chain.append(issuer)
                break
        else:
            break
        if chain[-1] in roots:
            return chain
    raise ValueError(
        "is not signed by an authority that is trusted here: let --cert-manager-ca "
        "name the root of the issuer"
    )


def _signed(
    certificate: x509.Certificate, issuer: x509.Certificate, *, below: int, now: datetime
) -> bool:
    """Whether one signed the other, and may; `below` counts the authorities between."""
    try:
        certificate.verify_directly_issued_by(issuer)
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (*UNREADABLE, InvalidSignature, x509.ExtensionNotFound):
        return False
    is_long = constraints.path_length is not None and constraints.path_length < below
    valid = issuer.not_valid_before_utc - CLOCK_SKEW <= now < issuer.not_valid_after_utc
    return constraints.ca and valid and not is_long and _may_sign(issuer)


def _may_sign(issuer: x509.Certificate) -> bool:
    """Section 4.3: where key usages are given, to sign certificates is one of them."""
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True
