"""Certificates for processes that read them from files."""

import fcntl
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from smi_xds.identity.handout import hand_out
from smi_xds.problems import IdentityError
from smi_xds.values import ServiceAccountRef, SpiffeId
from tests.support.identity import NOW, load_or_create

JOB = SpiffeId.of("cluster.local", ServiceAccountRef("shop", "job"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    load_or_create(folder, trust_domain="cluster.local", now=NOW)
    return folder


def test_files_fit_together_and_are_signed_by_the_authority(state: Path, tmp_path: Path) -> None:
    """A certificate for the identity, its key, and the roots that prove it."""
    folder = tmp_path / "new" / "job"
    leaf = hand_out(JOB, state_folder=state, folder=folder, now=NOW)

    certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    root = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((folder / "tls.key").read_bytes(), None)
    certificate.verify_directly_issued_by(root)
    assert key.public_key() == certificate.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(JOB)]
    assert certificate.not_valid_after_utc == leaf.not_after
    assert (folder / "ca.crt").read_bytes() == (state / "ca.crt").read_bytes()


def test_the_key_is_for_its_owner_only(state: Path, tmp_path: Path) -> None:
    """The others may be read by anyone, and nothing else is left in the folder."""
    hand_out(JOB, state_folder=state, folder=tmp_path / "job", now=NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "job").iterdir()}
    assert modes == {"tls.key": 0o600, "tls.crt": 0o644, "ca.crt": 0o644}


def test_handing_out_again_renews(state: Path, tmp_path: Path) -> None:
    """The files are replaced, by a new key as well."""
    folder = tmp_path / "job"
    hand_out(JOB, state_folder=state, folder=folder, now=NOW)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    later = hand_out(JOB, state_folder=state, folder=folder, now=NOW + timedelta(hours=12))
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in before if after[name] != before[name]} == {"tls.crt", "tls.key"}
    assert later.not_after == NOW + timedelta(hours=36)


def test_who_writes_the_state_is_not_asked_all_the_time(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He may have been stopped: while he has the lock, no processor is kept busy with it."""
    writer = os.open(state, os.O_RDONLY)
    fcntl.flock(writer, fcntl.LOCK_EX)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            os.close(writer)

    monkeypatch.setattr("smi_xds.identity.handout.time.sleep", pause)

    hand_out(JOB, state_folder=state, folder=tmp_path / "job", now=NOW)

    assert len(pauses) == 3
    assert min(pauses) > 0


def test_no_authority_is_made_on_the_spot(tmp_path: Path) -> None:
    """Nobody would trust it: the message says which folder is meant."""
    with pytest.raises(IdentityError, match="no certificate authority: give the --state-folder"):
        hand_out(JOB, state_folder=tmp_path / "typo", folder=tmp_path / "job", now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(state: Path, tmp_path: Path) -> None:
    """It names the folder and the flag, and leaves nothing behind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="file/job: Not a directory: choose another"):
        hand_out(JOB, state_folder=state, folder=tmp_path / "file" / "job", now=NOW)
    (tmp_path / "job" / "tls.key").mkdir(parents=True)
    with pytest.raises(IdentityError, match="Is a directory"):
        hand_out(JOB, state_folder=state, folder=tmp_path / "job", now=NOW)
    assert {path.name for path in (tmp_path / "job").iterdir()} == {"tls.key", "ca.crt"}


def test_a_state_that_is_not_ours_to_see_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says as whom to try again."""

    def hidden(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", hidden)

    with pytest.raises(IdentityError, match="cannot be read: Permission denied: do this as the"):
        hand_out(JOB, state_folder=tmp_path, folder=tmp_path / "job", now=NOW)
