"""The embedded certificate authority: makes a root, and signs X509-SVIDs with it.

It is given the time and touches neither disk nor clock; `state` says which authority it is, and
`embedded` keeps what it signed. Sections are those of the SPIFFE standard "X509-SVID".
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from smi_xds.problems import IdentityError
from smi_xds.values import Secret, SpiffeId, is_trust_domain

ROOT_LIFETIME = timedelta(days=3650)  # a root is replaced by rotation, never by surprise
LEAF_LIFETIME = timedelta(hours=24)  # how long a stolen key is of use
CLOCK_SKEW = timedelta(minutes=5)  # a proxy whose clock is behind ours still accepts what is new

# A leaf is renewed at 60 % to 66.7 % of its life: no later than at two thirds, which leaves eight
# hours of 24 for a control plane that is down, and spread, so that all identities that were
# issued in one second (a restart) are not renewed in one second.
_RENEWAL_LATEST = 2 / 3
_RENEWAL_SPREAD = 1 / 15
# Where the end of the root cuts leaves short, renewals do not chase each other. All times are
# whole seconds, so this is never later than the end.
_RENEWAL_MINIMUM = timedelta(seconds=1)

_SPIFFE = "spiffe://"

_CURES = {
    "root": "move the state folder away, so that a new one is made",
    "intermediate": "replace the files of --ca-cert and --ca-key",
}

# Section 4.3: a leaf has digitalSignature and neither keyCertSign nor cRLSign; a signing
# certificate has keyCertSign; the extension is critical in both.
LEAF_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_ROOT_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
# Section 4.4: both, for a sidecar is a client and a server.
_LEAF_EXTENDED_USAGE = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)
# Section 4.1: only signing certificates set the cA field.
_LEAF_CONSTRAINTS = x509.BasicConstraints(ca=False, path_length=None)
_ROOT_CONSTRAINTS = x509.BasicConstraints(ca=True, path_length=0)  # it signs leaves only


# What the library raises where a certificate is not as it should be: many of its parts are read
# when they are looked at.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""Ours is ECDSA P-256; an intermediate that somebody brings may be RSA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What a workload proves itself with: certificate and key, and when to replace them."""

    identity: SpiffeId
    certificate_chain: bytes
    """PEM, leaf first, without the root."""
    private_key: Secret
    """PEM, PKCS8."""
    not_before: datetime
    not_after: datetime
    renew_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who signs at a moment, in which trust domain, and what is trusted then: a value.

    `current` has the one of now, which is replaced while a root or a trust domain is changed.
    """

    trust_domain: str
    """Of all that is signed."""
    certificate: x509.Certificate
    """Of the key: a root, or an intermediate."""
    key: SigningKey = field(repr=False, compare=False)
    intermediates: tuple[x509.Certificate, ...] = ()
    """What a leaf carries besides itself, from `certificate` up; empty where that is a root."""
    roots: tuple[x509.Certificate, ...] = ()
    """What is trusted; empty for `certificate` alone."""
    aliases: tuple[str, ...] = ()
    """Trust domains whose identities are accepted as those of `trust_domain`."""
    fading: bool = False
    """Nobody has a certificate of an alias any more, but connections may have begun with one."""
    created: bool = field(default=False, compare=False)
    """It is new: no proxy trusts it before it got its trust bundle."""

    @property
    def trust_bundle(self) -> bytes:
        """The roots by which peers are judged, PEM."""
        return _pem(self.roots or (self.certificate,))

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """Those whose identities are ours, the one of now first."""
        return (self.trust_domain, *self.aliases)

    @property
    def signers(self) -> tuple[x509.Certificate, ...]:
        """By which what is signed leads to the root: another one of them, and it is replaced."""
        return self.intermediates or (self.certificate,)

    @property
    def not_after(self) -> datetime:
        """When the first of them, and with it all that was signed, ends."""
        return min(it.not_valid_after_utc for it in self.signers)

    def chain(self, leaf: x509.Certificate) -> bytes:
        """What the holder of a leaf presents, PEM: the leaf first, without the root."""
        return _pem((leaf, *self.intermediates))

    def check_not_ended(self, now: datetime) -> None:
        """IdentityError where nothing can be signed any more."""
        if now >= self.not_after:
            what = "intermediate" if self.intermediates else "root"
            raise IdentityError(
                f"the {what} certificate expired at {self.not_after:%Y-%m-%d %H:%M:%S} UTC: "
                + _CURES[what]
            )

    def issue(
        self, identity: SpiffeId, *, now: datetime, lifetime: timedelta = LEAF_LIFETIME
    ) -> Leaf:
        """Sign a fresh key for an identity of this trust domain (0.15 ms)."""
        start = now.replace(microsecond=0)  # X.509 counts in seconds
        self._check_issue(identity, start)
        not_before = start - CLOCK_SKEW
        not_after = min((start + lifetime).replace(microsecond=0), self.not_after)
        key = create_key()
        builder = (
            _builder(key.public_key(), not_before=not_before, not_after=not_after)
            # A subject is not required, and would be a second name to be mistaken for the first.
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .add_extension(_LEAF_CONSTRAINTS, critical=True)
            .add_extension(LEAF_USAGE, critical=True)
            .add_extension(_LEAF_EXTENDED_USAGE, critical=False)
            # Critical where the subject is empty (RFC 5280, section 4.2.1.6).
            .add_extension(_uri_san(str(identity)), critical=True)
            .add_extension(authority_key_id(self.certificate), critical=False)
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        return Leaf(
            identity=identity,
            certificate_chain=self.chain(certificate),
            private_key=encode_key(key),
            not_before=not_before,
            not_after=not_after,
            renew_at=renewal(identity, start=start, not_after=not_after),
        )

    def _check_issue(self, identity: SpiffeId, now: datetime) -> None:
        if identity.trust_domain != self.trust_domain:
            raise IdentityError(
                f"{identity} is not of trust domain {self.trust_domain!r}: not signed"
            )
        try:
            # Built from names in objects, an identity may hold what a URI must not.
            SpiffeId.parse(str(identity))
        except ValueError as error:
            raise IdentityError(f"{error}: not signed") from None
        self.check_not_ended(now)


def create_key() -> ec.EllipticCurvePrivateKey:
    """Make an ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def encode_key(key: SigningKey) -> Secret:
    """Write a key as PEM, PKCS8."""
    return Secret(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def create_root(
    key: ec.EllipticCurvePrivateKey, *, trust_domain: str, now: datetime
) -> x509.Certificate:
    """Make the root certificate of a key."""
    start = now.replace(microsecond=0)
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # Named after its key: roots that are trusted side by side do not share a name.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "smi-xds"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"root {key_id.digest.hex()[:16]}"),
        ]
    )
    builder = (
        _builder(key.public_key(), not_before=start - CLOCK_SKEW, not_after=start + ROOT_LIFETIME)
        .subject_name(name)
        .issuer_name(name)
        .add_extension(_ROOT_CONSTRAINTS, critical=True)
        .add_extension(_ROOT_USAGE, critical=True)
        # Section 3.2: the id of a signing certificate is its trust domain, without a path.
        .add_extension(_uri_san(_SPIFFE + trust_domain), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def parse_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read an ECDSA P-256 private key; ValueError says what it is instead."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # TypeError: it is encrypted. The library's reason may quote what it read.
        raise ValueError("is not a readable private key in PEM") from None
    match key:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return key
        case _:
            raise ValueError("is not an ECDSA P-256 key")


def parse_root(pem: bytes, *, key: SigningKey) -> tuple[x509.Certificate, str]:
    """Read the root of this key, and its trust domain; ValueError says what is wrong with it."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem)
        same_key = certificate.public_key() == key.public_key()
    except UNREADABLE:
        raise ValueError("is not exactly one readable certificate in PEM") from None
    if not same_key:
        raise ValueError("does not belong to the key")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (*UNREADABLE, InvalidSignature):
        raise ValueError("is not signed by its own key") from None
    return certificate, _root_trust_domain(certificate)


def _root_trust_domain(certificate: x509.Certificate) -> str:
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (*UNREADABLE, x509.ExtensionNotFound):
        raise ValueError("lacks what makes it a SPIFFE root") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    domain = uris[0].removeprefix(_SPIFFE) if len(uris) == 1 else ""
    if not (constraints.ca and usage.key_cert_sign and is_trust_domain(domain)):
        raise ValueError("is not a SPIFFE root: it may not sign, or does not name a trust domain")
    return domain


def renewal(identity: SpiffeId, *, start: datetime, not_after: datetime) -> datetime:
    """No later than at two thirds; when exactly is the identity's own, the same at each renewal."""
    digest = hashlib.sha256(str(identity).encode()).digest()
    jitter = int.from_bytes(digest[:4], "big") / 2**32
    fraction = _RENEWAL_LATEST - _RENEWAL_SPREAD * jitter
    return start + max((not_after - start) * fraction, _RENEWAL_MINIMUM)


def _builder(
    key: ec.EllipticCurvePublicKey, *, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _uri_san(uri: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def authority_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Names the issuer's key; by the key itself where its certificate says no name."""
    try:
        key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public_key = issuer.public_key()
        assert isinstance(public_key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey))
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(it.public_bytes(serialization.Encoding.PEM) for it in certificates)
