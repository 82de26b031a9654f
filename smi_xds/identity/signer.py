"""A signer: a key, its certificate, and the chain up to the root that others trust.

Either our own root, or an intermediate that an operator brings (`--ca-cert`, `--ca-key`). Whatever
a file says is checked here, as strictly as those will check it who judge what it signed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from smi_xds.identity import ca
from smi_xds.values import Secret

# What a proxy takes: BoringSSL refuses shorter RSA keys.
_RSA_BITS: Final = 2048
_SPIFFE: Final = "spiffe://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs, and by which root that is believed."""

    trust_domain: str
    """Of what it signs."""
    certificates: tuple[x509.Certificate, ...]
    """From its own up to the root; one, where it is the root."""
    key: ca.SigningKey | None = field(repr=False, compare=False)
    """None where it signs no more."""
    brought: bool = False
    """By the operator, in files: it is replaced by replacing these."""

    @property
    def root(self) -> x509.Certificate:
        """What others trust."""
        return self.certificates[-1]

    @property
    def not_before(self) -> datetime:
        """When all of it is valid."""
        return max(it.not_valid_before_utc for it in self.certificates)

    @property
    def not_after(self) -> datetime:
        """When the first of it ends."""
        return min(it.not_valid_after_utc for it in self.certificates)

    @property
    def fingerprint(self) -> str:
        """Of its root: SHA-256, as openssl writes it without colons."""
        return fingerprint(self.root)

    def is_same(self, other: "Signer") -> bool:
        """Whether nobody could tell what they sign apart."""
        return (self.trust_domain, self.certificates) == (other.trust_domain, other.certificates)

    def without_key(self) -> "Signer":
        """What is left when it has signed its last."""
        return replace(self, key=None)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256, in lower case hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def create_signer(trust_domain: str, *, now: datetime) -> Signer:
    """Make a root of our own."""
    key = ca.create_key()
    root = ca.create_root(key, trust_domain=trust_domain, now=now)
    return Signer(trust_domain=trust_domain, certificates=(root,), key=key)


def parse_certificates(pem: bytes, *, is_whole: bool = True) -> tuple[x509.Certificate, ...]:
    """Read a chain, as a `whole` one up to its root; ValueError says what is wrong with it."""
    try:
        # A root may stand in the chain and in a file of its own.
        chain = tuple(dict.fromkeys(x509.load_pem_x509_certificates(pem)))
        for it in chain:
            _look_at(it)
        subjects = [it.subject for it in chain]
    except ca.UNREADABLE:
        raise ValueError("has no readable certificates in PEM") from None
    for place, certificate in enumerate(chain):
        _check_may_sign(certificate, below=place, name=subjects[place].rfc4514_string())
    for lower, upper in pairwise(chain):
        if not _is_signed(lower, by=upper):
            raise ValueError(
                f"is no chain: {lower.subject.rfc4514_string()} is not signed by "
                f"{upper.subject.rfc4514_string()}, which follows it"
            )
    if is_whole and not _is_signed(chain[-1], by=chain[-1]):
        raise ValueError(
            f"does not end with a root: nobody signed {chain[-1].issuer.rfc4514_string()} itself"
        )
    return chain


def parse_signing_key(pem: bytes) -> ca.SigningKey:
    """Read a key that proxies take signatures of; ValueError says what it is instead."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # TypeError: it is encrypted. The library's reason may quote what it read.
        raise ValueError("is not a readable private key in PEM") from None
    match key:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            return key
        case rsa.RSAPrivateKey(key_size=size) if size >= _RSA_BITS:
            return key
        case _:
            raise ValueError(f"is neither ECDSA (P-256, P-384) nor RSA of {_RSA_BITS} bits or more")


def check_key(certificates: Sequence[x509.Certificate], key: ca.SigningKey) -> None:
    """ValueError where the key is not that of the first certificate."""
    if certificates[0].public_key() != key.public_key():
        raise ValueError("does not belong to the key")


def check_trust_domain(certificate: x509.Certificate, trust_domain: str) -> None:
    """ValueError where it says that it signs for another one (X509-SVID, section 3.2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    domains = {it.removeprefix(_SPIFFE) for it in uris if it.startswith(_SPIFFE)}
    if domains - {trust_domain}:
        raise ValueError(f"is of trust domain {min(domains)!r}, not {trust_domain!r}")


def encode_certificates(certificates: Sequence[x509.Certificate]) -> bytes:
    """PEM, in this order."""
    return b"".join(it.public_bytes(serialization.Encoding.PEM) for it in certificates)


def encode_signing_key(key: ca.SigningKey | None) -> Secret:
    """PEM, PKCS8; empty without one."""
    return Secret(b"") if key is None else ca.encode_key(key)


def _look_at(certificate: x509.Certificate) -> None:
    """Have the library read what it reads late, and say here what it cannot."""
    _ = certificate.public_key(), certificate.extensions, certificate.subject, certificate.issuer
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _check_may_sign(certificate: x509.Certificate, *, below: int, name: str) -> None:
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise ValueError(f"has a certificate that is no authority's: {name}") from None
    if not (constraints.ca and usage.key_cert_sign):
        raise ValueError(f"has a certificate that may not sign others: {name}")
    if constraints.path_length is not None and constraints.path_length < below:
        raise ValueError(f"is too long: {name} admits {constraints.path_length} authorities below")


def _is_signed(certificate: x509.Certificate, *, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (*ca.UNREADABLE, InvalidSignature):
        return False
    return True
