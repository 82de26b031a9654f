"""An authority that an operator brings: what is taken, and one line for what is not."""

import errno
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.identity.brought import read_brought
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.signer import Signer
from smi_xds.identity.state import state_of
from smi_xds.problems import IdentityError
from smi_xds.values import SpiffeId
from tests.identity.test_ca import openssl
from tests.support.authorities import BroughtFiles, brought_files, key_pem, mk_ca, pem
from tests.support.certificates import der_to_pem, to_der
from tests.support.identity import NOW

WEB = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/web")


@pytest.fixture
def files(tmp_path: Path) -> BroughtFiles:
    return brought_files(tmp_path / "pki")


def read(files: BroughtFiles, *, age: timedelta = timedelta()) -> Signer:
    return read_brought(files.config, trust_domain="cluster.local", now=NOW + age).signer


def refusal(files: BroughtFiles, *, age: timedelta = timedelta()) -> str:
    with pytest.raises(IdentityError) as caught:
        read(files, age=age)
    assert "\n" not in str(caught.value)
    assert "PRIVATE KEY" not in str(caught.value)
    return str(caught.value)


def verified(folder: Path, signer: Signer) -> bool:
    """Whether openssl follows a leaf to the root alone, by the strict rules."""
    authority = state_of(signer, now=NOW).authority()
    (folder / "root.pem").write_bytes(authority.trust_bundle)
    (folder / "leaf.pem").write_bytes(authority.issue(WEB, now=NOW).certificate_chain)
    strict = ("-x509_strict", "-attime", str(int(NOW.timestamp())))
    chain = ("-CAfile", folder / "root.pem", "-untrusted", folder / "leaf.pem")
    return openssl("verify", *strict, *chain, folder / "leaf.pem").returncode == 0


def test_an_intermediate_is_taken_and_carried_by_leaves(
    files: BroughtFiles, tmp_path: Path
) -> None:
    """Whoever trusts the root believes them, and the root is not sent along."""
    signer = read(files)

    assert signer.brought
    assert signer.root == files.root
    assert verified(tmp_path, signer)
    leaf = state_of(signer, now=NOW).authority().issue(WEB, now=NOW)
    assert leaf.certificate_chain.count(b"BEGIN CERTIFICATE") == 2


def test_the_root_may_stand_at_the_end_of_the_chain(files: BroughtFiles, tmp_path: Path) -> None:
    """Then there is no other file for it."""
    files.config.chain.write_bytes(files.config.chain.read_bytes() + pem(files.root))

    signer = read(replace(files, config=replace(files.config, root=None)))

    assert signer.root == files.root
    assert read(files).is_same(signer), "or in both"
    assert verified(tmp_path, signer)


def test_a_chain_of_two_intermediates(files: BroughtFiles, tmp_path: Path) -> None:
    """As long as each admits those below it."""
    upper, lower = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    first = mk_ca("upper", upper, issuer=(files.root, files.root_key), path_length=1)
    second = mk_ca("lower", lower, issuer=(first, upper), path_length=0)
    files.config.chain.write_bytes(pem(second, first))
    files.config.key.write_bytes(key_pem(lower))

    assert verified(tmp_path, read(files))


@pytest.mark.parametrize("kind", ["rsa:2048", "ec:P-384"])
def test_keys_of_other_kinds(files: BroughtFiles, tmp_path: Path, kind: str) -> None:
    """Operators' own authorities are often RSA."""
    algorithm, _, size = kind.partition(":")
    option = f"rsa_keygen_bits:{size}" if algorithm == "rsa" else f"ec_paramgen_curve:{size}"
    make = ["openssl", "genpkey", "-algorithm", algorithm.upper(), "-pkeyopt", option]
    made = ["openssl", "req", "-x509", "-days", "3650", "-subj", "/CN=root", "-copy_extensions"]
    extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    flags = [word for it in extensions for word in ("-addext", it)]
    key, chain = str(files.config.key), str(files.config.chain)
    subprocess.run([*make, "-out", key], check=True, capture_output=True, timeout=60)
    subprocess.run(
        [*made, "none", "-key", key, "-out", chain, *flags],
        check=True,
        capture_output=True,
        timeout=60,
    )
    config = replace(files.config, root=None)
    signer = read_brought(config, trust_domain="cluster.local", now=wall_clock()).signer

    authority = state_of(signer, now=wall_clock()).authority()
    (tmp_path / "root.pem").write_bytes(authority.trust_bundle)
    (tmp_path / "leaf.pem").write_bytes(authority.issue(WEB, now=wall_clock()).certificate_chain)
    done = openssl("verify", "-CAfile", tmp_path / "root.pem", tmp_path / "leaf.pem")
    assert done.returncode == 0, done.stderr


def test_files_that_stay_are_not_read_anew(files: BroughtFiles) -> None:
    """What they said is the very same."""
    first = read_brought(files.config, trust_domain="cluster.local", now=NOW)

    again = read_brought(files.config, trust_domain="cluster.local", now=NOW, last=first)
    assert again is first

    files.renew()
    other = read_brought(files.config, trust_domain="cluster.local", now=NOW, last=first)
    assert not other.signer.is_same(first.signer)


Damage = Callable[[BroughtFiles], None]


def _other_key(files: BroughtFiles) -> None:
    files.config.key.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1())))


def _chain(**how: object) -> Damage:
    def damage(files: BroughtFiles) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        made = mk_ca("odd", key, issuer=(files.root, files.root_key), **how)  # type: ignore[arg-type]  # drawn
        files.config.chain.write_bytes(pem(made))
        files.config.key.write_bytes(key_pem(key))

    return damage


def _other_root(files: BroughtFiles) -> None:
    assert files.config.root is not None
    files.config.root.write_bytes(pem(mk_ca("other", ec.generate_private_key(ec.SECP256R1()))))


def _far_below(files: BroughtFiles) -> None:
    """Four authorities below the root, each of which may sign."""
    chain, above = [files.root], files.root_key
    for number in range(4):
        key = ec.generate_private_key(ec.SECP256R1())
        chain.insert(0, mk_ca(f"number {number}", key, issuer=(chain[0], above)))
        above = key
    files.config.chain.write_bytes(pem(*chain))
    files.config.key.write_bytes(key_pem(above))


def _unknown_curve(files: BroughtFiles) -> None:
    """Its key is on a curve that nobody has heard of; P-256 has another last byte."""
    p256 = bytes.fromhex("06082a8648ce3d030107")
    odd = to_der(pem(mk_ca("odd", files.root_key))).replace(p256, p256[:-1] + b"\x7f")
    files.config.chain.write_bytes(der_to_pem(odd))


def _name_of_bits(files: BroughtFiles) -> None:
    odd = to_der(pem(mk_ca("odd", files.root_key))).replace(b"\x0c\x03odd", b"\x03\x03\x00dd")
    files.config.chain.write_bytes(der_to_pem(odd))


def _thirteenth_month(files: BroughtFiles) -> None:
    odd = to_der(pem(mk_ca("odd", files.root_key))).replace(b"310101", b"311301")
    files.config.chain.write_bytes(der_to_pem(odd))


_LIMITS = x509.NameConstraints([x509.UniformResourceIdentifier("example.org")], None)
_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
# A name of X.400, of which the library knows that it does not know it.
_X400 = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), b"\x30\x02\xa3\x00")
_RIDDLE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def _too_long(files: BroughtFiles) -> None:
    upper, lower = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    first = mk_ca("upper", upper, issuer=(files.root, files.root_key), path_length=0)
    files.config.chain.write_bytes(pem(mk_ca("lower", lower, issuer=(first, upper)), first))
    files.config.key.write_bytes(key_pem(lower))


@pytest.mark.parametrize(
    "damage, said",
    [
        (_other_key, "does not belong to --ca-key"),
        (_chain(is_ca=False), "has a certificate that may not sign others: CN=odd"),
        (_chain(uri="spiffe://elsewhere"), "is of trust domain 'elsewhere', not 'cluster.local'"),
        (_other_root, "is no chain: CN=intermediate is not signed by CN=other"),
        (_too_long, "is too long: CN=upper admits 0 authorities below"),
        (_far_below, "has 4 authorities below its root, and sidecars follow 3 at most: bring an"),
        (_unknown_curve, "has no readable certificates in PEM"),
        (_name_of_bits, "has no readable certificates in PEM"),
        (_thirteenth_month, "has no readable certificates in PEM"),
        (_chain(more=[(_X400, False)]), "has no readable certificates in PEM"),
        (_chain(more=[(_LIMITS, True)]), "signs what is not believed: permitted subtree violation"),
        (_chain(more=[(_SERVERS, False)]), "signs what is not believed: unsuitable certificate"),
        (_chain(more=[(_RIDDLE, True)]), "signs what is not believed: unhandled critical exten"),
        (lambda it: it.config.chain.write_text("x"), "has no readable certificates in PEM"),
        (lambda it: it.config.key.write_text("x"), "is not a readable private key in PEM"),
        (lambda it: it.config.key.unlink(), "cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_one_line(files: BroughtFiles, damage: Damage, said: str) -> None:
    """It names the flag, the file, and what is wrong."""
    damage(files)

    message = refusal(files)

    assert said in message
    assert message.startswith(("--ca-cert ", "--ca-key "))


def test_a_chain_without_its_root_is_told_what_to_add(files: BroughtFiles) -> None:
    """As cert-manager's `tls.crt` is."""
    message = refusal(replace(files, config=replace(files.config, root=None)))

    assert "does not end with a root: nobody signed CN=root itself" in message
    assert "add the root's certificate at its end, or give --ca-root" in message


@pytest.mark.parametrize("age", [timedelta(days=-2), timedelta(days=366)])
def test_what_is_not_valid_now_is_refused(files: BroughtFiles, age: timedelta) -> None:
    """With its dates."""
    message = refusal(files, age=age)

    assert "is valid from 2030-01-01 11:00:00 to 2031-01-01 12:00:00 UTC, and not now" in message


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")
def test_a_process_without_descriptors_tries_later(
    files: BroughtFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That says nothing against the files, and ends nothing."""

    def none_left(name: str) -> int:
        raise OSError(errno.EMFILE, "Too many open files", name)

    monkeypatch.setattr("os.memfd_create", none_left)

    assert "--ca-cert cannot be tried: Too many open files: see how many" in refusal(files)
