"""The state folder: where the certificate authority outlives the process.

`ca.key` and `ca.crt`, readable by their owner only, made at the first start and loaded at every
later one. Whatever is wrong with them is one line; nothing that exists is ever overwritten.
"""

import os
import stat
import tempfile
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from smi_xds.identity import ca
from smi_xds.problems import IdentityError

KEY_FILE = "ca.key"
CERTIFICATE_FILE = "ca.crt"

_CURE = "restore it from a backup, or move the state folder away, so that a new authority is made"


def load_or_create(folder: Path, *, trust_domain: str, now: datetime) -> ca.Authority:
    """Load the authority of this folder, or make one there; IdentityError says what hinders it.

    Safe at any crash and for several processes at once: the key comes first, a certificate that
    is missing is made anew from it, and who comes second takes what the first one made.
    """
    _make_folder(folder)
    key_file, certificate_file = folder / KEY_FILE, folder / CERTIFICATE_FILE
    # Read in the opposite order of writing: a certificate without a key is never a race.
    certificate_pem = _read(certificate_file)
    key_pem = _read(key_file, forbidden=0o077)
    created = certificate_pem is None
    if key_pem is None:
        if certificate_pem is not None:
            raise IdentityError(f"{key_file} is missing beside {CERTIFICATE_FILE}: {_CURE}")
        key_pem = _publish(key_file, ca.encode_key(ca.create_key()).value)
    try:
        key = ca.parse_key(key_pem)
    except ValueError as error:
        raise IdentityError(f"{key_file} {error}: {_CURE}") from None
    if certificate_pem is None:
        root = ca.create_root(key, trust_domain=trust_domain, now=now)
        certificate_pem = _publish(certificate_file, root.public_bytes(serialization.Encoding.PEM))
    try:
        certificate, found_domain = ca.parse_root(certificate_pem, key=key)
    except ValueError as error:
        raise IdentityError(f"{certificate_file} {error}: {_CURE}") from None
    authority = ca.Authority(
        trust_domain=found_domain, certificate=certificate, key=key, created=created
    )
    _check(authority, certificate_file, trust_domain=trust_domain, now=now)
    return authority


def _check(authority: ca.Authority, file: Path, *, trust_domain: str, now: datetime) -> None:
    if authority.trust_domain != trust_domain:
        raise IdentityError(
            f"{file} is of trust domain {authority.trust_domain!r}, not {trust_domain!r}: "
            f"give --trust-domain {authority.trust_domain} or another --state-folder"
        )
    not_before = authority.certificate.not_valid_before_utc
    if now < not_before:
        raise IdentityError(
            f"{file} is not valid before {not_before:%Y-%m-%d %H:%M:%S} UTC: set the clock, "
            f"which says {now:%Y-%m-%d %H:%M:%S}"
        )
    if now >= authority.not_after:
        raise IdentityError(
            f"{file} expired at {authority.not_after:%Y-%m-%d %H:%M:%S} UTC: "
            "move the state folder away, so that a new authority is made"
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise IdentityError(
            f"{folder} cannot be the state folder: {error.strerror}: "
            "choose another one with --state-folder"
        ) from error
    if mode & 0o022:
        # Who may write the folder can put another root there.
        raise IdentityError(f"{folder} can be written by others: chmod go-w {folder}")


def _read(file: Path, *, forbidden: int = 0) -> bytes | None:
    """Its content, or None without such a file; the mode is that of what is read, not of a name."""
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if mode & forbidden:
                raise IdentityError(
                    f"{file} can be read by others (mode {mode:04o}): chmod 600 {file}, "
                    "and make a new authority if others did read it"
                )
            return opened.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityError(
            f"{file} cannot be read: {error.strerror}: make it readable for the user who serves, "
            "or choose another --state-folder"
        ) from error


def _publish(file: Path, content: bytes) -> bytes:
    """Put a complete file in place; where another process was faster, its content counts."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(descriptor)
            os.link(temporary, file)  # as rename, except that it does not overwrite
        finally:
            Path(temporary).unlink()
        _sync_folder(file.parent)
    except FileExistsError:
        return _read(file) or b""
    except OSError as error:
        raise IdentityError(
            f"{file} cannot be written: {error.strerror}: make the folder writable for the user "
            "who serves, or choose another --state-folder"
        ) from error
    return content


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, not only the content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
