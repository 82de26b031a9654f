"""Certificates of every kind, good ones and such as nobody should believe."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from smi_xds.identity.ca import create_key, encode_key

CLIENT_AND_SERVER = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
DAY = timedelta(days=1)

KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A certificate with its key, and those between it and its root."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """What it presents: itself first."""
        return b"".join(to_pem(it) for it in (self.certificate, *self.above))

    @property
    def key_pem(self) -> bytes:
        """Its private key."""
        return encode_key(self.key).value

    @classmethod
    def root(cls, name: str, *, now: datetime, life: timedelta = 100 * DAY) -> Self:
        """An authority that signed itself."""
        key = create_key()
        certificate = mk_certificate(
            key.public_key(), name=name, now=now, life=life, is_ca=True, signer=None, key=key
        )
        return cls(certificate=certificate, key=key)

    def intermediate(self, name: str, *, now: datetime, life: timedelta = 50 * DAY) -> "Holder":
        """An authority below this one."""
        key = create_key()
        certificate = mk_certificate(
            key.public_key(), name=name, now=now, life=life, is_ca=True, signer=self, key=self.key
        )
        return Holder(certificate=certificate, key=key, above=self._presented())

    def leaf(
        self,
        uris: Sequence[str],
        *,
        now: datetime,
        life: timedelta = DAY,
        public_key: ec.EllipticCurvePublicKey | None = None,
        is_ca: bool = False,
        signs_others: bool = False,
        purposes: Sequence[ObjectIdentifier] = CLIENT_AND_SERVER,
        dns: Sequence[str] = (),
    ) -> "Holder":
        """What a workload has, or should not."""
        key = create_key()
        certificate = mk_certificate(
            public_key or key.public_key(),
            uris=uris,
            dns=dns,
            now=now,
            life=life,
            is_ca=is_ca,
            signs_others=signs_others,
            purposes=purposes,
            signer=self,
            key=self.key,
        )
        return Holder(certificate=certificate, key=key, above=self._presented())

    def _presented(self) -> tuple[x509.Certificate, ...]:
        is_root = self.certificate.issuer == self.certificate.subject
        return () if is_root else (self.certificate, *self.above)


def to_pem(certificate: x509.Certificate) -> bytes:
    """One certificate."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def to_der(pem: bytes) -> bytes:
    """The first certificate of a text, to be damaged."""
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def der_to_pem(der: bytes) -> bytes:
    """A certificate that nobody looked at."""
    text = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


def mk_certificate(
    public_key: ec.EllipticCurvePublicKey,
    *,
    signer: Holder | None,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    life: timedelta,
    name: str = "",
    uris: Sequence[str] = (),
    dns: Sequence[str] = (),
    is_ca: bool = False,
    signs_others: bool = False,
    purposes: Sequence[ObjectIdentifier] = (),
) -> x509.Certificate:
    """Any certificate; without a signer it signs itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    ends, signs = now + life, is_ca or signs_others
    usage = key_usage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if signer is None else signer.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, ends) - timedelta(hours=1))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if names := [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(names), critical=not subject.rdns
        )
    return builder.sign(key, hashes.SHA256())


def key_usage(**said: bool) -> x509.KeyUsage:
    """What a key may do; what is not said it may not."""
    return x509.KeyUsage(**dict.fromkeys(KEY_USAGES, False) | said)
