"""Authorities that an operator brings: a root that stays away, an intermediate in files."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from smi_xds.config import BroughtConfig
from smi_xds.identity.ca import Authority
from tests.support.certificates import key_usage
from tests.support.identity import NOW

Change = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]

_USAGE = key_usage(key_cert_sign=True, crl_sign=True)


def mk_ca(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    path_length: int | None = None,
    is_ca: bool = True,
    uri: str = "",
    more: Iterable[tuple[x509.ExtensionType, bool]] = (),
    now: datetime = NOW,
    days: int = 365,
) -> x509.Certificate:
    """A certificate of an authority, by its own key where nobody else issues it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = key if issuer is None else issuer[1]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if uri:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    for extension, critical in more:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(it.public_bytes(serialization.Encoding.PEM) for it in certificates)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtFiles:
    """Files as cert-manager and Vault mount them, and the root behind them."""

    config: BroughtConfig
    root: x509.Certificate
    root_key: ec.EllipticCurvePrivateKey
    now: datetime

    def renew(self) -> None:
        """Another intermediate below the same root."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = (self.root, self.root_key)
        certificate = mk_ca("intermediate", key, issuer=issuer, path_length=0, now=self.now)
        assert self.config.root is not None
        self.config.root.write_bytes(pem(self.root))
        self.config.key.write_bytes(key_pem(key))
        self.config.chain.write_bytes(pem(certificate))


def brought_files(folder: Path, *, now: datetime = NOW) -> BroughtFiles:
    """A root, and an intermediate in `tls.crt`, `tls.key` and `ca.crt`."""
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    files = BroughtFiles(
        config=BroughtConfig(
            chain=folder / "tls.crt", key=folder / "tls.key", root=folder / "ca.crt"
        ),
        root=mk_ca("root", key, now=now),
        root_key=key,
        now=now,
    )
    files.renew()
    return files


def mk_renewed_chain() -> tuple[Authority, Authority]:
    """An authority two below its root, and the same when the one above has a new certificate."""
    root_key, upper_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = mk_ca("root", root_key)
    uppers = [mk_ca("upper", upper_key, issuer=(root, root_key), days=days) for days in (1, 300)]
    certificate = mk_ca("lower", key, issuer=(uppers[0], upper_key), days=200)
    before, after = (
        Authority(
            trust_domain="cluster.local",
            certificate=certificate,
            key=key,
            intermediates=(certificate, upper),
            roots=(root,),
        )
        for upper in uppers
    )
    return before, after
