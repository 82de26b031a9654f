"""The state folder: made once, loaded ever after; each mishap is one line that names the cure."""

import fcntl
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives import serialization

from smi_xds.identity import ca
from smi_xds.identity.rotation import begin
from smi_xds.identity.signer import create_signer
from smi_xds.identity.state import (
    ConflictError,
    FolderStore,
    files_of,
    read_state,
)
from smi_xds.problems import IdentityError
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.identity import NOW, load_or_create, mk_authority

TRUST_DOMAIN = "cluster.local"


def load(folder: Path) -> ca.Authority:
    return load_or_create(folder, trust_domain=TRUST_DOMAIN, now=NOW)


def refusal(folder: Path, *, trust_domain: str = TRUST_DOMAIN, age: timedelta = timedelta()) -> str:
    """The error of a start with this folder, which is one line."""
    with pytest.raises(IdentityError) as caught:
        load_or_create(folder, trust_domain=trust_domain, now=NOW + age)
    message = str(caught.value)
    assert "\n" not in message
    assert "PRIVATE KEY" not in message
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder of a former version: a root and its key, in a file each."""
    authority, folder = mk_authority(), tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "ca.key").touch(mode=0o600)
    (folder / "ca.key").write_bytes(ca.encode_key(authority.key).value)
    (folder / "ca.crt").write_bytes(authority.trust_bundle)
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A state folder in which a server was started before."""
    load(tmp_path / "made")
    return tmp_path / "made"


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that this process, no longer root, may list and enter but not write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)
            Path(name).chmod(0o755)


def test_the_first_start_makes_folder_document_and_roots_for_their_owner_only(
    tmp_path: Path,
) -> None:
    """The folder is 0700, both files are 0600, and nothing else is left in it."""
    folder = tmp_path / "deep" / "state"

    authority = load(folder)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert authority.created
    assert modes == {"authority.json": 0o600, "ca.crt": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "ca.crt").read_bytes() == authority.trust_bundle


def test_the_mode_of_the_key_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    """Even with umask 0 nobody else can read what is made."""
    before = os.umask(0)
    try:
        load(tmp_path / "state")
    finally:
        os.umask(before)

    document = tmp_path / "state" / "authority.json"
    assert stat.S_IMODE(document.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize("kept", ["folder", "made"])
def test_later_starts_load_the_same_authority(request: pytest.FixtureRequest, kept: str) -> None:
    """Certificates issued after a restart are trusted by who trusted those before it."""
    folder: Path = request.getfixturevalue(kept)
    first, second = load(folder), load(folder)

    assert not first.created
    assert first.trust_bundle == second.trust_bundle
    assert ca.encode_key(first.key) == ca.encode_key(second.key)


def test_a_lost_state_folder_makes_a_new_authority_that_says_so(folder: Path) -> None:
    """What was issued before is void; `created` lets the server tell."""
    before = load(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()

    after = load(folder)

    assert after.created
    assert after.trust_bundle != before.trust_bundle


def test_a_loaded_authority_signs_what_openssl_accepts(folder: Path, tmp_path: Path) -> None:
    """The files on disk are all that a verifier needs."""
    identity = SpiffeId.of(TRUST_DOMAIN, ServiceAccountRef("bookstore", "bookbuyer"))
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(load(folder).issue(identity, now=NOW).certificate_chain)

    when = str(int(NOW.timestamp()))
    command = ["openssl", "verify", "-attime", when, "-CAfile", str(folder / "ca.crt"), str(leaf)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    assert result.stdout.endswith("leaf.pem: OK\n"), result.stderr


def test_a_lost_certificate_of_a_former_version_is_made_anew(folder: Path) -> None:
    """A key without a certificate gets a new one, by which its old leaves stay trusted."""
    before = load(folder)
    (folder / "ca.crt").unlink()

    after = load(folder)

    assert after.created
    assert ca.encode_key(after.key) == ca.encode_key(before.key)
    assert after.certificate.subject == before.certificate.subject
    assert sorted(path.name for path in folder.iterdir()) == ["authority.json", "ca.crt"]


def test_servers_that_start_at_the_same_time_agree(tmp_path: Path) -> None:
    """Whoever loses the race takes what the winner made, and nobody sees half a file."""
    racers = 8
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        barrier = Barrier(racers)

        def start(folder: Path = folder, barrier: Barrier = barrier) -> bytes:
            barrier.wait(timeout=30)
            return load(folder).trust_bundle

        with ThreadPoolExecutor(racers) as pool:
            started = [pool.submit(start) for _ in range(racers)]

        assert len({future.result() for future in started}) == 1
        assert sorted(path.name for path in folder.iterdir()) == ["authority.json", "ca.crt"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(folder: Path, made: Path, mode: int) -> None:
    """It may be known already: the user decides, and is told how to close it."""
    for file in (folder / "ca.key", made / "authority.json"):
        file.chmod(mode)

        message = refusal(file.parent)

        assert f"{file} can be read by others (mode {mode:04o}): chmod 600" in message


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_refused(folder: Path, mode: int) -> None:
    """Who may write the folder may replace the root."""
    folder.chmod(mode)

    assert refusal(folder) == f"{folder} can be written by others: chmod go-w {folder}"


def test_a_folder_that_others_can_only_read_is_accepted(folder: Path) -> None:
    """Its key is protected by its own mode."""
    folder.chmod(0o755)

    assert not load(folder).created


def mk_key(folder: Path, *arguments: str) -> bytes:
    """A private key as openssl makes it."""
    path = folder.parent / "made.key"
    command = ["openssl", "genpkey", "-out", str(path), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path.read_bytes()


EC = ("-algorithm", "EC", "-pkeyopt")


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (("-algorithm", "ED25519"), "is not an ECDSA P-256 key"),
        (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"), "is not an ECDSA P-256 key"),
        ((*EC, "ec_paramgen_curve:P-384"), "is not an ECDSA P-256 key"),
        (
            (*EC, "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:secret"),
            "is not a readable private key in PEM",
        ),
    ],
    ids=["ed25519", "rsa", "p384", "encrypted"],
)
def test_a_key_of_another_kind_is_refused(
    folder: Path, arguments: tuple[str, ...], reason: str
) -> None:
    """The error names the file, what is wrong with it, and the two ways out."""
    (folder / "ca.key").write_bytes(mk_key(folder, *arguments))

    assert refusal(folder) == (
        f"{folder / 'ca.key'} {reason}: restore it from a backup, "
        "or move the state folder away, so that a new authority is made"
    )


@pytest.mark.parametrize("file", ["ca.key", "ca.crt"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "other"])
def test_a_corrupt_file_is_named(folder: Path, file: str, damage: str) -> None:
    """Whatever a disk did to the key or the certificate, the error names the file and the cure."""
    path = folder / file
    other = folder / ("ca.crt" if file == "ca.key" else "ca.key")
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "garbage": b"\x00\xff" * 100,
        "other": other.read_bytes(),
    }[damage]
    path.write_bytes(damaged)

    message = refusal(folder)

    assert message.startswith(f"{path} is not ")
    assert message.endswith("move the state folder away, so that a new authority is made")
    assert path.read_bytes() == damaged


def test_a_key_that_does_not_fit_its_certificate_is_refused(folder: Path) -> None:
    """Nothing is signed with a key that nobody trusts."""
    (folder / "ca.key").write_bytes(ca.encode_key(ca.create_key()).value)

    assert f"{folder / 'ca.crt'} does not belong to the key: restore it" in refusal(folder)


def test_a_missing_key_beside_a_certificate_is_refused(folder: Path) -> None:
    """The certificate that proxies may still trust is not replaced in silence."""
    (folder / "ca.key").unlink()

    message = refusal(folder)

    assert message.startswith(f"{folder / 'ca.key'} is missing beside ca.crt: restore it")
    assert not (folder / "ca.key").exists()


def test_a_certificate_that_may_not_sign_is_refused(folder: Path, tmp_path: Path) -> None:
    """A self-signed certificate of the right key is not enough to be a root."""
    made = tmp_path / "plain.crt"
    config = ["-subj", "/CN=plain", "-addext", "basicConstraints=critical,CA:FALSE"]
    command = ["openssl", "req", "-x509", "-key", str(folder / "ca.key"), "-out", str(made)]
    subprocess.run([*command, *config], check=True, capture_output=True, timeout=60)
    (folder / "ca.crt").write_bytes(made.read_bytes())

    assert f"{folder / 'ca.crt'} lacks what makes it a SPIFFE root: restore it" in refusal(folder)


@pytest.mark.parametrize(
    "constraints, usage, name",
    [
        ("CA:FALSE", "keyCertSign", "URI:spiffe://cluster.local"),
        ("CA:TRUE", "digitalSignature", "URI:spiffe://cluster.local"),
        ("CA:TRUE", "keyCertSign", "URI:https://cluster.local/"),
        ("CA:TRUE", "keyCertSign", "DNS:cluster.local"),
        ("CA:TRUE", "keyCertSign", "URI:spiffe://cluster.local,URI:spiffe://elsewhere"),
    ],
    ids=["no-ca", "no-signing", "no-spiffe-id", "no-uri", "two-ids"],
)
def test_a_certificate_that_is_no_spiffe_root_is_refused(
    folder: Path, tmp_path: Path, constraints: str, usage: str, name: str
) -> None:
    """Each of the three properties of a SPIFFE signing certificate is asked for."""
    made = tmp_path / "odd.crt"
    extensions = [f"basicConstraints=critical,{constraints}", f"keyUsage=critical,{usage}"]
    extensions.append(f"subjectAltName={name}")
    command = ["openssl", "req", "-x509", "-key", str(folder / "ca.key"), "-out", str(made)]
    command += ["-subj", "/CN=odd"]
    for extension in extensions:
        command += ["-addext", extension]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (folder / "ca.crt").write_bytes(made.read_bytes())

    assert f"{folder / 'ca.crt'} is not a SPIFFE root: it may not sign" in refusal(folder)


def test_a_root_signed_by_somebody_else_is_refused(folder: Path) -> None:
    """The certificate is of our key, but the signature under it is not."""
    identity = SpiffeId.parse("spiffe://cluster.local/ns/a/sa/b")
    leaf = mk_authority().issue(identity, now=NOW)
    (folder / "ca.key").write_bytes(leaf.private_key.value)
    (folder / "ca.crt").write_bytes(leaf.certificate_chain)

    assert f"{folder / 'ca.crt'} is not signed by its own key" in refusal(folder)


def test_an_expired_root_is_refused(folder: Path) -> None:
    """The error tells when it ended, and the way out."""
    message = refusal(folder, age=ca.ROOT_LIFETIME)

    assert message == (
        f"{folder / 'ca.crt'} expired at 2039-12-30 12:00:00 UTC: "
        "move the state folder away, so that a new authority is made"
    )


def test_a_root_of_the_future_is_blamed_on_the_clock(folder: Path) -> None:
    """The error gives both times."""
    message = refusal(folder, age=-timedelta(days=365))

    assert message == (
        f"{folder / 'ca.crt'} is not valid before 2030-01-01 11:55:00 UTC: "
        "set the clock, which says 2029-01-01 12:00:00"
    )


def test_a_root_of_another_trust_domain_is_refused(folder: Path) -> None:
    """The error names both trust domains and both flags."""
    message = refusal(folder, trust_domain="example.org")

    assert message == (
        f"{folder / 'ca.crt'} is of trust domain 'cluster.local', not 'example.org': "
        "give --trust-domain cluster.local, another state, or change it by "
        "`smi-xds ca rotate --trust-domain example.org`"
    )


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A state folder that is a file, or below one, is named with the flag to change."""
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        message = refusal(path)
        assert message.startswith(f"{path} cannot be the state folder: ")
        assert message.endswith(": choose another one with --state-folder")


def test_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    """A `ca.key` that is a folder cannot be read, and the error says which path."""
    (folder / "ca.key").unlink()
    (folder / "ca.key").mkdir()

    assert f"{folder / 'ca.key'} cannot be read: Is a directory: " in refusal(folder)


def test_a_folder_that_cannot_be_made_is_refused(nobody: Path) -> None:
    """Without the right to make the folder the start fails with the flag to change."""
    message = refusal(nobody / "state")

    assert message == (
        f"{nobody / 'state'} cannot be the state folder: Permission denied: "
        "choose another one with --state-folder"
    )


def test_a_folder_that_cannot_be_written_is_refused(nobody: Path) -> None:
    """Without the right to write into the folder the start fails with both ways out."""
    message = refusal(nobody)

    assert message == (
        f"{nobody} cannot be written: Permission denied: make it writable for the user who "
        "serves, or choose another --state-folder"
    )


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the content cannot be made durable, nothing appears under the final name."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    message = refusal(tmp_path / "state")

    assert f"{tmp_path / 'state'} cannot be written: No space left on device" in message
    assert list((tmp_path / "state").iterdir()) == []


def test_what_root_writes_is_the_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `sudo smi-xds ca rotate` the server that serves by it can still read it."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _, user, group: given.append((user, group)))

    load(folder)

    owner = folder.stat()
    assert owner.st_uid != 0
    assert given == [(owner.st_uid, owner.st_gid)] * 2


def test_a_root_that_may_give_nothing_away_keeps_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CAP_CHOWN it serves from a folder of another user all the same."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)

    def forbidden(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", forbidden)

    first, second = load(folder), load(folder)

    assert first.created
    assert second.trust_bundle == first.trust_bundle


def test_a_crash_while_writing_leaves_no_key_for_long(made: Path) -> None:
    """The file that was not finished is gone with the next one that is."""
    unfinished = made / ".authority.json.x7w2"
    unfinished.write_text("a key")
    store = FolderStore(made)
    stored = store.load()

    store.save(stored.files, over=stored)

    assert sorted(path.name for path in made.iterdir()) == ["authority.json", "ca.crt"]


def test_the_key_on_disk_is_what_other_tools_read(made: Path) -> None:
    """PEM in PKCS8, as operators expect to back it up."""
    pem: bytes = json.loads((made / "authority.json").read_text())["signer"]["key"].encode()

    key = serialization.load_pem_private_key(pem, password=None)

    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert ca.encode_key(load(made).key).value == pem
    assert key.public_key() == load(made).certificate.public_key()


@pytest.mark.parametrize(
    "damage, reason",
    [
        (b"", "is not a readable JSON object"),
        (b"[]", "is not a readable JSON object"),
        (b'{"version": 2}', "was written by another version of smi-xds: use that one"),
        (b'{"version": 1}', "is not complete: fields are missing or have other values"),
    ],
)
def test_a_damaged_document_is_refused(made: Path, damage: bytes, reason: str) -> None:
    """It is named, and left as it is."""
    file = made / "authority.json"
    file.write_bytes(damage)

    assert refusal(made) == (
        f"{file} {reason}: restore it from a backup, or move the state folder away, so that a "
        "new authority is made"
    )
    assert file.read_bytes() == damage


@pytest.mark.parametrize(
    "field, value, reason",
    [
        ("key", "", "is not complete: it does not say who signs"),
        ("key", "garbage", "is not a readable private key in PEM"),
        ("key", ca.encode_key(ca.create_key()).value.decode(), "does not belong to the key"),
        ("certificates", "", "has no readable certificates in PEM"),
        ("trustDomain", "UPPER", "does not name a trust domain"),
        ("trustDomain", "example.org", "is of trust domain 'cluster.local', not 'example.org'"),
    ],
)
def test_a_document_whose_parts_do_not_fit_is_refused(
    made: Path, field: str, value: str, reason: str
) -> None:
    """Nothing is signed that others would refuse."""
    file = made / "authority.json"
    document = json.loads(file.read_text())
    document["signer"][field] = value
    file.write_text(json.dumps(document))

    assert refusal(made).startswith(f"{file} {reason}: restore it")


def test_times_without_a_zone_are_refused(made: Path) -> None:
    """They could mean anything from one day to the next."""
    file = made / "authority.json"
    document = json.loads(file.read_text())
    document["began"] = "2030-01-01T12:00:00"
    file.write_text(json.dumps(document))

    assert "it has a time without a zone" in refusal(made)


def test_whoever_writes_over_what_he_did_not_read_is_refused(made: Path) -> None:
    """Two processes that change the state take turns."""
    store = FolderStore(made)
    before = store.load()
    store.save({**before.files, "authority.json": b"other"}, over=before)

    with pytest.raises(ConflictError):
        store.save(before.files, over=before)

    assert store.load().files["authority.json"] == b"other"


def test_nobody_waits_for_who_is_writing(made: Path) -> None:
    """He may have been stopped in the middle of it: a server that waited would serve nobody."""
    store = FolderStore(made)
    stored = store.load()
    other = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ConflictError):
            store.save(stored.files, over=stored)
    finally:
        os.close(other)

    store.save(stored.files, over=stored)


def test_a_successor_has_to_have_a_key(made: Path) -> None:
    """It is to sign in the next phase."""
    store = FolderStore(made)
    stored = store.load()
    state = read_state(stored, store, now=NOW)
    assert state is not None
    trust = begin(state, create_signer(TRUST_DOMAIN, now=NOW).without_key(), now=NOW)
    store.save(files_of(trust), over=stored)

    assert "is not complete: it does not say who is to sign" in refusal(made)


def test_the_key_of_a_former_version_goes_when_the_state_is_written(folder: Path) -> None:
    """A root that is replaced leaves no key behind."""
    store = FolderStore(folder)
    stored = store.load()
    state = read_state(stored, store, now=NOW)
    assert state is not None

    store.save(files_of(state), over=stored)

    assert sorted(path.name for path in folder.iterdir()) == ["authority.json", "ca.crt"]
    assert read_state(store.load(), store, now=NOW) == state
