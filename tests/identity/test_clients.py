"""Whose a client certificate is, and which are nobody's."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.ads.auth import CertificateProof, Credentials, Reason, Refused
from smi_xds.ads.session import Refusal
from smi_xds.identity.ca import LEAF_USAGE
from smi_xds.identity.clients import ClientCertificates, prove
from smi_xds.identity.serving import issue_serving
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.certificates import key_usage
from tests.support.identity import NOW, mk_authority

AUTHORITY = mk_authority()
ROOTS = AUTHORITY.trust_bundle
WEB = SpiffeId.of("cluster.local", ServiceAccountRef("shop", "web"))

Edit = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


def mk_certificate(
    *uris: str, extensions: Sequence[x509.ExtensionType] = (LEAF_USAGE,), names: bool = True
) -> bytes:
    """A certificate that says whatever it is told to."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(AUTHORITY.certificate.subject)
        .public_key(key.public_key())
        .serial_number(0xABC)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(hours=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    if names:
        ids: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        ids = ids or [x509.DNSName("web")]
        builder = builder.add_extension(x509.SubjectAlternativeName(ids), critical=True)
    signed = builder.sign(AUTHORITY.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def judging(*domains: str) -> ClientCertificates:
    return ClientCertificates(lambda: domains, lambda: ROOTS, lambda: NOW)


def test_a_leaf_is_that_of_its_workload() -> None:
    """Until it ends."""
    leaf = AUTHORITY.issue(WEB, now=NOW)

    proof = prove(leaf.certificate_chain, roots=ROOTS, now=NOW)

    assert proof.identity == WEB
    assert proof.expires == leaf.not_after.timestamp()


def test_a_certificate_of_another_issuer_may_say_less() -> None:
    """Without constraints it signs nothing, without purposes it is for any (RFC 5280)."""
    proof = prove(mk_certificate(str(WEB)), roots=ROOTS, now=NOW)

    assert proof == CertificateProof(
        identity=WEB, serial="abc", expires=(NOW + timedelta(hours=1)).timestamp()
    )


# A name of X.400, of which the library knows that it does not know it.
X400 = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), b"\x30\x02\xa3\x00")
SIGNS = key_usage(digital_signature=True)


@pytest.mark.parametrize(
    "pem, said",
    [
        (b"", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (mk_certificate(str(WEB), extensions=(LEAF_USAGE, X400)), "cannot be read"),
        (mk_certificate(str(WEB), extensions=()), "has no key usage"),
        (
            mk_certificate(str(WEB), extensions=(key_usage(key_agreement=True),)),
            "not for signatures",
        ),
        (
            mk_certificate(
                str(WEB), extensions=(key_usage(digital_signature=True, key_cert_sign=True),)
            ),
            "signs others",
        ),
        (
            mk_certificate(
                str(WEB), extensions=(key_usage(digital_signature=True, crl_sign=True),)
            ),
            "signs others",
        ),
        (
            mk_certificate(
                str(WEB),
                extensions=(SIGNS, x509.BasicConstraints(ca=True, path_length=None)),
            ),
            "signs others",
        ),
        (
            mk_certificate(
                str(WEB),
                extensions=(SIGNS, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
            ),
            "not for clients",
        ),
        (mk_certificate(names=False), "names no SPIFFE id"),
        (mk_certificate(), "exactly one URI"),
        (mk_certificate(str(WEB), str(WEB)), "exactly one URI"),
        (mk_certificate("https://example.org/web"), "names no SPIFFE id"),
        (mk_certificate("spiffe://cluster.local/../web"), "names no SPIFFE id"),
        (AUTHORITY.trust_bundle, "signs others"),
        (mk_authority().issue(WEB, now=NOW).certificate_chain, "does not lead to a root"),
    ],
)
async def test_a_certificate_that_is_no_workloads(pem: bytes, said: str) -> None:
    """One line says why; the handshake would have let it in."""
    judge = judging("cluster.local")

    refused = await judge(Credentials(certificate=pem or b"x"))

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_CERTIFICATE
    assert refused.close.code is Refusal.UNAUTHENTICATED
    assert said in refused.close.text


async def test_the_certificate_of_a_server_of_ours_is_no_workloads() -> None:
    """It names no SPIFFE id, and is for servers."""
    serving = issue_serving(AUTHORITY, ["smi-xds.smi-xds.svc"], now=NOW)

    refused = await judging("cluster.local")(Credentials(certificate=serving.certificate_chain))

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_CERTIFICATE


async def test_without_a_certificate_nobody_comes_in() -> None:
    """The handshake asks for one; this is for the day when it does not."""
    refused = await judging()(Credentials())

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.NO_CREDENTIAL


async def test_only_workloads_of_our_trust_domains_come_in() -> None:
    """Those of this moment: they change when the trust domain does."""
    domains = ["cluster.local"]
    judge = ClientCertificates(lambda: domains, lambda: ROOTS, lambda: NOW)
    mine = Credentials(certificate=AUTHORITY.issue(WEB, now=NOW).certificate_chain)

    assert isinstance(await judge(mine), CertificateProof)
    domains[:] = ["mesh.example"]
    refused = await judge(mine)

    assert isinstance(refused, Refused)
    assert refused.reason is Reason.WRONG_TRUST_DOMAIN
