"""The certificate of a TLS server: what it says, when it is renewed, and who notices."""

import asyncio
import errno
import ssl
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from smi_xds.identity.ca import ROOT_LIFETIME, Authority
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.serving import ServerTls, issue_serving, service_names
from smi_xds.problems import IdentityError
from tests.identity.test_ca import openssl
from tests.support.authorities import mk_ca, mk_renewed_chain
from tests.support.identity import NOW, mk_authority
from tests.support.wait import eventually_async

NAMES = service_names("smi-xds", "smi-xds-webhooks")


class Clock:
    """The time, as the test has it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def serial(chain: bytes) -> int:
    return x509.load_pem_x509_certificate(chain).serial_number


def test_the_names_of_a_service() -> None:
    """API servers ask for the first (and verify it); people may write the others."""
    assert NAMES == (
        "smi-xds-webhooks.smi-xds.svc",
        "smi-xds-webhooks.smi-xds.svc.cluster.local",
        "smi-xds-webhooks.smi-xds",
    )


def test_openssl_accepts_it_as_a_server_of_that_name(tmp_path: Path) -> None:
    """It chains to the root under the strict rules, for servers only, and holds every name."""
    authority = mk_authority()
    issued = issue_serving(authority, NAMES, now=NOW)
    (tmp_path / "root.pem").write_bytes(authority.trust_bundle)
    (tmp_path / "leaf.pem").write_bytes(issued.certificate_chain)
    given = ("-x509_strict", "-attime", str(int(NOW.timestamp())), "-CAfile", tmp_path / "root.pem")

    for name in NAMES:
        flags = ("-purpose", "sslserver", "-verify_hostname", name)
        done = openssl("verify", *given, *flags, tmp_path / "leaf.pem")
        assert done.returncode == 0, done.stderr
    other = ("-purpose", "sslserver", "-verify_hostname", "other.smi-xds.svc")
    assert openssl("verify", *given, *other, tmp_path / "leaf.pem").returncode != 0
    assert openssl("verify", *given, "-purpose", "sslclient", tmp_path / "leaf.pem").returncode != 0


def test_it_is_nobody_in_the_mesh() -> None:
    """It holds no SPIFFE id, and may not be used as a client."""
    issued = issue_serving(mk_authority(), NAMES, now=NOW)

    extensions = x509.load_pem_x509_certificate(issued.certificate_chain).extensions

    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names.get_values_for_type(x509.DNSName) == list(NAMES)
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == []
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_it_ends_with_the_root() -> None:
    """No certificate outlives its root, and none is signed by a root that ended."""
    authority = mk_authority()

    last = issue_serving(authority, NAMES, now=authority.not_after - timedelta(hours=1))

    assert last.not_after == authority.not_after
    with pytest.raises(IdentityError, match="the root certificate expired at"):
        issue_serving(authority, NAMES, now=NOW + ROOT_LIFETIME)


def test_it_is_renewed_in_time() -> None:
    """Well before its end, and where the clock went back to before it was valid; not otherwise."""
    clock = Clock(NOW)
    tls = ServerTls(mk_authority(now=NOW - timedelta(days=9)), NAMES, clock=clock)
    first = tls.certificate

    clock.now = first.renew_at - timedelta(seconds=1)
    assert (tls.step(), tls.certificate) == (False, first)
    clock.now = first.renew_at
    assert tls.step()
    second = tls.certificate
    assert second.not_after > first.not_after > first.renew_at
    clock.now = second.not_before - timedelta(seconds=1)
    assert tls.step()
    assert tls.certificate.not_before < second.not_before


def test_naps_are_never_long_nor_without_end() -> None:
    """The clock is looked at every half minute, and once a second where it is urgent."""
    clock = Clock(NOW)
    tls = ServerTls(mk_authority(), NAMES, clock=clock)

    assert tls.nap() == timedelta(seconds=30)
    clock.now = tls.certificate.renew_at - timedelta(seconds=7)
    assert tls.nap() == timedelta(seconds=7)
    clock.now = tls.certificate.not_after
    assert tls.nap() == timedelta(seconds=1)


async def test_an_authority_that_cannot_sign_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is served goes on; signing is tried again."""
    clock = Clock(NOW)
    tls = ServerTls(mk_authority(), NAMES, clock=clock)
    first, looked = tls.certificate, asyncio.Event()
    clock.now = NOW + ROOT_LIFETIME
    tries = 0

    def nap() -> timedelta:
        nonlocal tries
        tries += 1
        if tries > 2:
            looked.set()
        return timedelta(0)

    monkeypatch.setattr(tls, "nap", nap)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tls.run())
        await looked.wait()
        running.cancel()

    assert tls.certificate is first


def test_old_protocols_are_refused() -> None:
    """TLS 1.2 is the oldest that is spoken."""
    tls = ServerTls(mk_authority(), NAMES, clock=Clock(NOW))

    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")
def test_no_key_is_ever_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL gets it without one that can be written, of which the Deployment's pods have none."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "is-not-there"))

    tls = ServerTls(mk_authority(), NAMES, clock=Clock(NOW))

    assert not tls.step()


def _forbidden(name: str) -> int:
    raise PermissionError(errno.EACCES, "Permission denied", name)


@pytest.mark.parametrize("instead", [None, _forbidden])
def test_where_there_are_no_files_in_memory_one_is_gone_at_once(
    instead: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pythons of uv and conda have none, and some machines forbid them: serve starts there, too."""
    if instead is None:
        monkeypatch.delattr("os.memfd_create", raising=False)
    else:
        monkeypatch.setattr("os.memfd_create", instead, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    tls = ServerTls(mk_authority(), NAMES, clock=Clock(NOW))

    assert not tls.step()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")
def test_a_process_without_descriptors_keeps_its_certificate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That it cannot be renewed just now is an error in one line, and ends nothing."""
    clock = Clock(NOW)
    tls = ServerTls(mk_authority(), NAMES, clock=clock)
    first = tls.certificate
    clock.now = first.renew_at

    def none_left(name: str) -> int:
        raise OSError(errno.EMFILE, "Too many open files", name)

    with monkeypatch.context() as patch:
        patch.setattr("os.memfd_create", none_left)
        with pytest.raises(IdentityError, match="OpenSSL: Too many open files: see how many"):
            tls.step()
    assert tls.certificate is first
    assert tls.step()


async def test_another_authority_signs_at_once() -> None:
    """What it presents is of the signer of now, before its renewal and without a restart."""
    current = CurrentAuthority(mk_authority())
    tls = ServerTls(current, NAMES, clock=lambda: NOW)
    first = tls.certificate
    assert not tls.step()

    async with asyncio.TaskGroup() as tasks:
        renewing = tasks.create_task(tls.run())
        await asyncio.sleep(0)
        current.replace(mk_authority())
        await eventually_async(lambda: tls.certificate is not first)
        renewing.cancel()

    assert serial(tls.certificate.certificate_chain) != serial(first.certificate_chain)
    leaf = x509.load_pem_x509_certificate(tls.certificate.certificate_chain)
    leaf.verify_directly_issued_by(current.now.certificate)


def test_a_server_of_an_intermediate_presents_the_chain() -> None:
    """Whoever trusts the root alone believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = mk_ca("root", root_key)
    intermediate = mk_ca("intermediate", key, issuer=(root, root_key))
    authority = Authority(
        trust_domain="cluster.local",
        certificate=intermediate,
        key=key,
        intermediates=(intermediate,),
        roots=(root,),
    )

    issued = issue_serving(authority, NAMES, now=NOW)

    leaf, above = x509.load_pem_x509_certificates(issued.certificate_chain)
    leaf.verify_directly_issued_by(above)
    above.verify_directly_issued_by(root)
    with pytest.raises(IdentityError, match="the intermediate certificate expired"):
        issue_serving(authority, NAMES, now=NOW + timedelta(days=400))


def test_a_chain_that_was_renewed_is_presented_at_once() -> None:
    """A server shows what leads to the root now, though the same authority signs."""
    before, after = mk_renewed_chain()
    current = CurrentAuthority(before)
    tls = ServerTls(current, NAMES, clock=Clock(NOW))
    current.replace(after)

    assert tls.step()

    _, *above = x509.load_pem_x509_certificates(tls.certificate.certificate_chain)
    assert tuple(above) == after.intermediates
