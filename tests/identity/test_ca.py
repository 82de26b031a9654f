"""What the authority signs, judged by the openssl binary and by laws."""

import base64
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from smi_xds.identity import ca
from smi_xds.problems import IdentityError
from smi_xds.values import Secret, ServiceAccountRef, SpiffeId
from tests.support.identity import NOW, mk_authority

IDENTITY = SpiffeId.of("cluster.local", ServiceAccountRef("bookstore", "bookbuyer"))

_names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
identities = st.builds(
    SpiffeId.of, st.just("cluster.local"), st.builds(ServiceAccountRef, _names, _names)
)


def openssl(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30
    )


def verify(
    folder: Path, authority: ca.Authority, leaf: ca.Leaf, *, purpose: str, at: datetime
) -> "subprocess.CompletedProcess[str]":
    (folder / "root.pem").write_bytes(authority.trust_bundle)
    (folder / "leaf.pem").write_bytes(leaf.certificate_chain)
    when = str(int(at.timestamp()))
    return openssl(
        *("verify", "-x509_strict", "-attime", when, "-purpose", purpose),
        *("-CAfile", folder / "root.pem", folder / "leaf.pem"),
    )


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_accepts_a_leaf_as_server_and_as_client(tmp_path: Path, purpose: str) -> None:
    """A leaf chains to its root under the strict rules, for both ends of a connection."""
    authority = mk_authority()
    leaf = authority.issue(IDENTITY, now=NOW)

    result = verify(tmp_path, authority, leaf, purpose=purpose, at=NOW)

    assert result.stdout.endswith("leaf.pem: OK\n"), result.stderr


def test_openssl_refuses_a_leaf_of_another_root(tmp_path: Path) -> None:
    """Two authorities of one trust domain do not vouch for each other."""
    leaf = mk_authority().issue(IDENTITY, now=NOW)

    result = verify(tmp_path, mk_authority(), leaf, purpose="sslserver", at=NOW)

    assert result.returncode != 0
    assert "unable to get local issuer certificate" in result.stderr


@pytest.mark.parametrize(
    "offset, accepted",
    [
        pytest.param(timedelta(minutes=-6), False, id="long-before"),
        pytest.param(timedelta(minutes=-4), True, id="clock-behind"),
        pytest.param(timedelta(hours=23, minutes=59), True, id="last-minute"),
        pytest.param(timedelta(hours=24, seconds=1), False, id="after"),
    ],
)
def test_a_leaf_holds_from_the_allowed_skew_to_its_end(
    tmp_path: Path, offset: timedelta, accepted: bool
) -> None:
    """A clock that is behind by less than the skew accepts a new leaf; nobody does after 24 h."""
    authority = mk_authority(now=NOW - timedelta(days=1))
    leaf = authority.issue(IDENTITY, now=NOW)

    result = verify(tmp_path, authority, leaf, purpose="sslserver", at=NOW + offset)

    assert (result.returncode == 0) == accepted


def test_a_leaf_cannot_sign_another_one(tmp_path: Path) -> None:
    """A workload's key makes no identities: openssl refuses what it signed."""
    authority = mk_authority()
    stolen = authority.issue(IDENTITY, now=NOW)
    forger = ca.Authority(
        trust_domain="cluster.local",
        certificate=x509.load_pem_x509_certificate(stolen.certificate_chain),
        key=ca.parse_key(stolen.private_key.value),
    )
    forged = forger.issue(SpiffeId.parse("spiffe://cluster.local/ns/a/sa/admin"), now=NOW)
    (tmp_path / "between.pem").write_bytes(stolen.certificate_chain)
    (tmp_path / "root.pem").write_bytes(authority.trust_bundle)
    (tmp_path / "leaf.pem").write_bytes(forged.certificate_chain)

    result = openssl(
        *("verify", "-attime", str(int(NOW.timestamp())), "-CAfile", tmp_path / "root.pem"),
        *("-untrusted", tmp_path / "between.pem", tmp_path / "leaf.pem"),
    )

    assert result.returncode != 0
    assert "invalid CA certificate" in result.stderr


def test_a_leaf_reads_as_an_x509_svid(tmp_path: Path) -> None:
    """One URI SAN, no CA, digital signature only, both extended usages, P-256 throughout."""
    leaf = mk_authority().issue(IDENTITY, now=NOW)
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate_chain)

    text = openssl("x509", "-in", tmp_path / "leaf.pem", "-noout", "-text").stdout
    lines = [line.strip() for line in text.splitlines()]

    def after(title: str) -> str:
        return lines[lines.index(title) + 1]

    san = "X509v3 Subject Alternative Name: critical"
    assert after(san) == "URI:spiffe://cluster.local/ns/bookstore/sa/bookbuyer"
    assert after("X509v3 Basic Constraints: critical") == "CA:FALSE"
    assert after("X509v3 Key Usage: critical") == "Digital Signature"
    usages = "TLS Web Server Authentication, TLS Web Client Authentication"
    assert after("X509v3 Extended Key Usage:") == usages
    assert "Subject:" in lines
    assert "ASN1 OID: prime256v1" in lines
    assert "Signature Algorithm: ecdsa-with-SHA256" in lines


def test_the_root_reads_as_a_spiffe_signing_certificate(tmp_path: Path) -> None:
    """It signs certificates and nothing else, leaves only, and names its trust domain."""
    (tmp_path / "root.pem").write_bytes(mk_authority().trust_bundle)

    text = openssl("x509", "-in", tmp_path / "root.pem", "-noout", "-text").stdout
    lines = [line.strip() for line in text.splitlines()]

    def after(title: str) -> str:
        return lines[lines.index(title) + 1]

    assert after("X509v3 Subject Alternative Name:") == "URI:spiffe://cluster.local"
    assert after("X509v3 Basic Constraints: critical") == "CA:TRUE, pathlen:0"
    assert after("X509v3 Key Usage: critical") == "Certificate Sign, CRL Sign"


def test_the_private_key_is_the_leafs_own_in_pkcs8(tmp_path: Path) -> None:
    """The key has the form that Envoy reads, and fits its certificate."""
    leaf = mk_authority().issue(IDENTITY, now=NOW)
    (tmp_path / "leaf.pem").write_bytes(leaf.certificate_chain)
    (tmp_path / "leaf.key").write_bytes(leaf.private_key.value)

    of_key = openssl("pkey", "-in", tmp_path / "leaf.key", "-pubout").stdout
    of_certificate = openssl("x509", "-in", tmp_path / "leaf.pem", "-noout", "-pubkey").stdout

    assert leaf.private_key.value.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert of_key == of_certificate


def test_two_leaves_share_neither_serial_nor_key() -> None:
    """Every issue makes a fresh key and an own serial number."""
    authority = mk_authority()
    first, second = (authority.issue(IDENTITY, now=NOW) for _ in range(2))

    serials = {
        x509.load_pem_x509_certificate(leaf.certificate_chain).serial_number
        for leaf in (first, second)
    }

    assert len(serials) == 2
    assert first.private_key != second.private_key


def test_no_key_is_ever_printed() -> None:
    """Neither an authority nor a leaf shows key material when it is logged."""
    authority = mk_authority()
    leaf = authority.issue(IDENTITY, now=NOW)

    printed = f"{authority!r} {authority} {leaf!r} {leaf} {leaf.private_key}"

    assert "PRIVATE KEY" not in printed
    assert "EllipticCurve" not in printed


@pytest.mark.parametrize(
    "identity, reason",
    [
        (SpiffeId("elsewhere", "/ns/a/sa/b"), "is not of trust domain 'cluster.local'"),
        (SpiffeId("cluster.local", "/ns/a/sa/b c"), "bad path"),
        (SpiffeId("cluster.local", "/ns/../sa/b"), "bad path"),
        (SpiffeId("cluster.local", ""), "bad path"),
    ],
)
def test_what_is_no_identity_of_this_trust_domain_is_not_signed(
    identity: SpiffeId, reason: str
) -> None:
    """A foreign trust domain, and a path that a URI must not have, are refused by name."""
    with pytest.raises(IdentityError, match=reason) as caught:
        mk_authority().issue(identity, now=NOW)

    assert str(identity) in str(caught.value)


def test_an_expired_root_signs_nothing() -> None:
    """After its end the authority refuses, and says what to do."""
    authority = mk_authority()

    with pytest.raises(IdentityError, match=r"root certificate expired at .* move the state"):
        authority.issue(IDENTITY, now=authority.not_after)


def test_the_time_may_be_given_in_any_zone() -> None:
    """The zone of `now` changes nothing in the certificate."""
    authority = mk_authority()
    there = NOW.astimezone(timezone(timedelta(hours=9)))

    leaf = authority.issue(IDENTITY, now=there)

    certificate = x509.load_pem_x509_certificate(leaf.certificate_chain)
    assert certificate.not_valid_after_utc == leaf.not_after == NOW + ca.LEAF_LIFETIME


@settings(max_examples=200, deadline=None)
@given(
    identity=identities,
    age=st.timedeltas(timedelta(0), ca.ROOT_LIFETIME - timedelta(seconds=1)),
    lifetime=st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
)
def test_renewal_never_comes_after_expiry(
    identity: SpiffeId, age: timedelta, lifetime: timedelta
) -> None:
    """Whatever is left of the root: valid now, renewed later, in time, within the root's life."""
    authority = mk_authority()
    now = NOW + age

    leaf = authority.issue(identity, now=now, lifetime=lifetime)

    assert leaf.not_before < now
    assert leaf.not_before < leaf.renew_at <= leaf.not_after <= authority.not_after
    assert leaf.not_after <= now + lifetime
    certificate = x509.load_pem_x509_certificate(leaf.certificate_chain)
    assert certificate.not_valid_before_utc == leaf.not_before
    assert certificate.not_valid_after_utc == leaf.not_after


@given(identity=identities)
def test_jitter_stays_within_its_bounds_and_is_the_identitys_own(identity: SpiffeId) -> None:
    """A leaf is renewed between 60 % and two thirds of its life, at every renewal the same."""
    authority = mk_authority()

    leaf = authority.issue(identity, now=NOW)

    waited = leaf.renew_at - NOW
    assert ca.LEAF_LIFETIME * 0.6 <= waited <= ca.LEAF_LIFETIME * 2 / 3
    later = NOW + timedelta(days=1)
    assert authority.issue(identity, now=later).renew_at - later == waited


def test_jitter_spreads_many_identities() -> None:
    """Of a thousand leaves issued in one second no tenth of the window renews over 15 %."""
    authority = mk_authority()
    window = ca.LEAF_LIFETIME / 15
    earliest = NOW + ca.LEAF_LIFETIME * 0.6
    tenths = [0] * 10

    for number in range(1000):
        identity = SpiffeId.of("cluster.local", ServiceAccountRef("bench", f"sa-{number}"))
        leaf = authority.issue(identity, now=NOW)
        tenths[min(int((leaf.renew_at - earliest) / window * 10), 9)] += 1

    assert max(tenths) <= 150


# Some of the damage makes the library warn before it is refused.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_root_with_any_bit_flipped_is_refused() -> None:
    """A certificate that is damaged anywhere is an error of one line, never used."""
    authority = mk_authority()
    encoded = authority.certificate.public_bytes(serialization.Encoding.DER)
    # The last element is the signature, a BIT STRING. Its first byte counts the unused bits of
    # its last one, which decoders ignore where these are zero: the signature is then the same.
    unused = len(encoded) - len(authority.certificate.signature) - 1

    for position in range(len(encoded) * 8):
        if position // 8 == unused:
            continue
        damaged = bytearray(encoded)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(ValueError, match=r"^(is|does) [^\n]+$"):
            ca.parse_root(mk_pem(bytes(damaged)), key=authority.key)


def mk_pem(encoded: bytes) -> bytes:
    return (
        b"-----BEGIN CERTIFICATE-----\n"
        + base64.encodebytes(encoded)
        + b"-----END CERTIFICATE-----\n"
    )


@settings(max_examples=200, deadline=None)
@given(junk=st.binary(max_size=200))
def test_junk_is_neither_key_nor_root(junk: bytes) -> None:
    """Arbitrary bytes, also between PEM markers, are refused with a reason."""
    framed = b"-----BEGIN PRIVATE KEY-----\n" + junk + b"\n-----END PRIVATE KEY-----\n"

    for text in (junk, framed):
        with pytest.raises(ValueError, match="is not a readable private key"):
            ca.parse_key(text)
        with pytest.raises(ValueError, match="is not exactly one readable certificate"):
            ca.parse_root(text, key=mk_authority().key)


def test_a_secret_is_what_holds_a_key() -> None:
    """Keys leave the room only in the type that never prints them."""
    assert isinstance(ca.encode_key(ca.create_key()), Secret)
    assert isinstance(mk_authority().issue(IDENTITY, now=NOW).private_key, Secret)
