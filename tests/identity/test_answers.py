"""What another authority sends back is believed once each of its properties was looked at."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.identity.answers import accept, read_certificates, signing_request
from smi_xds.identity.ca import Leaf, create_key
from smi_xds.problems import IdentityError
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.certificates import DAY, Holder, der_to_pem, to_der, to_pem
from tests.support.identity import NOW

WEB = SpiffeId.of("cluster.local", ServiceAccountRef("shop", "web"))
KEY = create_key()
ROOT = Holder.root("root", now=NOW)
INTERMEDIATE = ROOT.intermediate("intermediate", now=NOW)
Make = Callable[[], Holder]


def answered(holder: Holder, *, roots: tuple[x509.Certificate, ...] = (ROOT.certificate,)) -> Leaf:
    return accept(holder.pem, identity=WEB, key=KEY, roots=roots, now=NOW)


def mk_leaf(authority: Holder = ROOT, **changes: object) -> Holder:
    """As asked for, but for the changes."""
    arguments = {"uris": [str(WEB)], "now": NOW, "public_key": KEY.public_key()} | changes
    return authority.leaf(**arguments)  # type: ignore[arg-type]  # a table of keywords


def test_a_request_names_the_identity_and_nothing_else() -> None:
    """One URI, no subject, signed by the key that it is for."""
    csr = x509.load_pem_x509_csr(signing_request(WEB, KEY))

    assert csr.is_signature_valid
    assert csr.public_key() == KEY.public_key()
    assert list(csr.subject) == []
    [extension] = csr.extensions
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    assert [name.value for name in extension.value] == [str(WEB)]


def test_an_identity_that_is_no_uri_is_not_asked_for() -> None:
    """Names in objects are anything."""
    with pytest.raises(IdentityError, match="not a SPIFFE id"):
        signing_request(SpiffeId("cluster.local", "/ns/a b/sa/c"), KEY)


@pytest.mark.parametrize("authority, certificates", [(ROOT, 1), (INTERMEDIATE, 2)])
def test_a_good_answer_is_a_leaf(authority: Holder, certificates: int) -> None:
    """It is presented with its intermediates and without the root, and renewed at two thirds."""
    leaf = answered(mk_leaf(authority))

    assert len(read_certificates(leaf.certificate_chain, what="it")) == certificates
    assert NOW + DAY * 0.59 < leaf.renew_at <= NOW + DAY * 2 / 3
    assert leaf.not_after == NOW + DAY


def test_a_root_that_comes_along_is_left_out() -> None:
    """Peers have it already, and it would be sent in each handshake."""
    good = mk_leaf()
    pem = good.pem + to_pem(ROOT.certificate)
    leaf = accept(pem, identity=WEB, key=KEY, roots=(ROOT.certificate,), now=NOW)

    assert leaf.certificate_chain == good.pem


def test_a_leaf_ends_with_those_above_it() -> None:
    """It is renewed in time for that, too."""
    short = ROOT.intermediate("short", now=NOW, life=timedelta(hours=3))
    leaf = answered(mk_leaf(short))

    assert leaf.not_after == NOW + timedelta(hours=3)
    assert leaf.renew_at < leaf.not_after


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: mk_leaf(public_key=create_key().public_key()), "another key"),
        (lambda: mk_leaf(uris=[str(WEB) + "x"]), "not spiffe://cluster.local/ns/shop/sa/web alone"),
        (lambda: mk_leaf(uris=[str(WEB), "spiffe://cluster.local/ns/a/sa/b"]), "alone"),
        (lambda: mk_leaf(dns=["web.shop"]), "alone"),
        (lambda: mk_leaf(uris=[]), "No .*SubjectAlternativeName"),
        (lambda: mk_leaf(is_ca=True), "an authority's"),
        (lambda: mk_leaf(signs_others=True), "key usages"),
        (
            lambda: mk_leaf(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]),
            "client auth and server auth",
        ),
        (lambda: mk_leaf(purposes=[]), "No .*ExtendedKeyUsage"),
        (lambda: mk_leaf(life=timedelta(seconds=10)), "ends at"),
        (lambda: mk_leaf(now=NOW + DAY), "begins at"),
        (lambda: mk_leaf(Holder.root("root", now=NOW)), "not signed by an authority"),
        (lambda: mk_leaf(Holder.root("other", now=NOW)), "not signed by an authority"),
        (lambda: mk_leaf(ROOT.leaf([str(WEB)], now=NOW)), "not signed by an authority"),
        (lambda: mk_leaf(ROOT.intermediate("x", now=NOW, life=-DAY)), "not signed by an authority"),
        (lambda: mk_leaf(_deep(3)), None),
        (lambda: mk_leaf(_deep(4)), "not signed by an authority"),
    ],
)
def test_a_bad_answer_is_refused(make: Make, reason: str | None) -> None:
    """The reason says which property it is."""
    if reason is None:
        answered(make())
        return
    with pytest.raises(IdentityError, match=reason):
        answered(make())


@pytest.mark.parametrize(
    "damage",
    [
        lambda der: der.replace(b"\x86\x25spiffe", b"\xa3\x25spiffe"),  # a name of X.400
        lambda der: der.replace(b"\x0c\x04root", b"\x03\x04\x00oot"),  # a name that is bits
        lambda der: der.replace(b"300101", b"301301"),  # of a thirteenth month
    ],
)
def test_an_answer_that_the_library_reads_in_part_is_refused(
    damage: Callable[[bytes], bytes],
) -> None:
    """An issuer's mistake ends nothing, in whichever of its words the library raises it."""
    good = to_der(mk_leaf().pem)
    odd = damage(good)
    assert odd != good

    with pytest.raises(IdentityError):
        accept(der_to_pem(odd), identity=WEB, key=KEY, roots=(ROOT.certificate,), now=NOW)


@pytest.mark.parametrize("answer", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_an_answer_without_a_certificate_is_refused(answer: bytes) -> None:
    """Whatever it is instead."""
    with pytest.raises(IdentityError, match="no readable certificates"):
        accept(answer, identity=WEB, key=KEY, roots=(ROOT.certificate,), now=NOW)


def _deep(levels: int) -> Holder:
    """So many intermediates."""
    holder = ROOT
    for number in range(levels):
        holder = holder.intermediate(f"level {number}", now=NOW)
    return holder
