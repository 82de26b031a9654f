"""Where the state of the authority is kept: a folder here, a Secret of Kubernetes elsewhere.

One document, replaced as a whole by whoever read it last (`version`), and beside it `ca.crt`, the
roots for whoever wants to trust us. Folders and Secrets of former versions, with a root's `ca.key`
and `ca.crt`, are read as well. Whatever is wrong is one line, and nothing is overwritten then.
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from smi_xds.identity import ca
from smi_xds.identity.document import State, parse_state, write_state
from smi_xds.identity.signer import Signer, create_signer
from smi_xds.problems import IdentityError

DOCUMENT: Final = "authority.json"
BUNDLE: Final = "ca.crt"
"""The roots, PEM; of a former version, the root of `LEGACY_KEY`."""
LEGACY_KEY: Final = "ca.key"
NAMES: Final = (DOCUMENT, BUNDLE, LEGACY_KEY)
"""In the order in which they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What is kept at a moment."""

    files: Mapping[str, bytes] = field(repr=False)
    """Those of `NAMES` that there are; with keys."""
    version: str
    """Another one as soon as anything is written; also where there is nothing."""


class ConflictError(Exception):
    """Somebody else wrote meanwhile, or is about to: read again."""


class UnreachableStateError(IdentityError):
    """It cannot be read or written just now; later it may."""


class ExpiredStateError(IdentityError):
    """It can be read, and nobody can sign by it any more."""

    def __init__(self, message: str, state: State) -> None:
        super().__init__(message)
        self.state = state


class StateStore(Protocol):
    """Keeps the state for all who serve by it."""

    def where(self, name: str = "", /) -> str:
        """How errors call it, or one file of it."""

    async def read(self) -> Stored:
        """IdentityError where it cannot be read."""

    async def write(self, files: Mapping[str, bytes], /, *, over: Stored) -> None:
        """Put these in the place of all; ConflictError where it is not as it was read."""


class FolderStore:
    """A folder that its owner alone can write, with files that its owner alone can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def where(self, name: str = "", /) -> str:
        """A path."""
        return str(self._folder / name) if name else str(self._folder)

    async def read(self) -> Stored:
        """Read it, in less time than a thread would take."""
        return self.load()

    async def write(self, files: Mapping[str, bytes], /, *, over: Stored) -> None:
        """Write it in one piece."""
        self.save(files, over=over)

    def load(self) -> Stored:
        """Everything there; the folder is made, where there is none."""
        _make_folder(self._folder)
        return self._load()

    def save(self, files: Mapping[str, bytes], *, over: Stored) -> None:
        """Replace the document, then what follows from it; at any crash the document counts."""
        try:
            with self._locked():
                if self._load().version != over.version:
                    raise ConflictError
                self._remove_unfinished()
                for name in NAMES:
                    if name in files:
                        _replace(self._folder / name, files[name])
                    else:
                        (self._folder / name).unlink(missing_ok=True)
                _sync_folder(self._folder)
        except OSError as error:
            raise IdentityError(
                f"{self._folder} cannot be written: {error.strerror}: make it writable for the "
                "user who serves, or choose another --state-folder"
            ) from error

    def _load(self) -> Stored:
        found = {}
        # In the opposite order of writing: roots without a document are never a race.
        for name in reversed(NAMES):
            # The roots are no secret.
            content = _read(self._folder / name, forbidden=0 if name == BUNDLE else 0o077)
            if content is not None:
                found[name] = content
        digest = hashlib.sha256(repr(sorted(found.items())).encode())
        return Stored(files=found, version=digest.hexdigest())

    def _remove_unfinished(self) -> None:
        """What was killed while it wrote has left keys, which a rotation is to make an end of."""
        for name in NAMES:
            for file in self._folder.glob(f"{_unfinished(name)}*"):
                file.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While a document is replaced; it ends with the process at the latest.

        Not waited for: who has it may have been stopped, and a server would be with him.
        """
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConflictError from None
            yield
        finally:
            os.close(descriptor)


def is_there(*paths: Path) -> bool:
    """Whether one of them is; IdentityError where that is not for this user to see."""
    try:
        return any(path.exists() for path in paths)
    except OSError as error:
        raise IdentityError(
            f"{paths[0]} cannot be read: {error.strerror}: do this as the user who serves, or root"
        ) from error


def files_of(state: State) -> Mapping[str, bytes]:
    """What is kept of a state."""
    return {DOCUMENT: write_state(state), BUNDLE: state.authority().trust_bundle}


def read_state(
    stored: Stored, store: StateStore, *, now: datetime, trust_domain: str = ""
) -> State | None:
    """What is kept there, None where nothing is yet; IdentityError where it cannot be used.

    ExpiredStateError where another signer can take over from it.
    """
    if DOCUMENT in stored.files:
        try:
            state = parse_state(stored.files[DOCUMENT])
        except ValueError as error:
            raise IdentityError(f"{store.where(DOCUMENT)} {error}: {_cure(store)}") from None
        name = DOCUMENT
    elif LEGACY_KEY in stored.files and BUNDLE in stored.files:
        state, name = _legacy(stored, store, now=now), BUNDLE
    elif BUNDLE in stored.files:
        raise IdentityError(f"{store.where(LEGACY_KEY)} is missing beside {BUNDLE}: {_cure(store)}")
    else:
        return None
    if trust_domain:
        check_trust_domain(state, store, trust_domain, name=name)
    _check_time(state, store, name=name, now=now)
    return state


def new_state(stored: Stored, store: StateStore, *, trust_domain: str, now: datetime) -> State:
    """The first state; of a key whose certificate was lost, by which its leaves stay trusted."""
    signer = create_signer(trust_domain, now=now)
    if LEGACY_KEY in stored.files:
        key = _legacy_key(stored, store)
        root = ca.create_root(key, trust_domain=trust_domain, now=now)
        signer = Signer(trust_domain=trust_domain, certificates=(root,), key=key)
    return state_of(signer, now=now)


def state_of(signer: Signer, *, now: datetime) -> State:
    """A signer that nobody knew before."""
    return State(signer=signer, began=now, held_until=now, handed_out_until=now)


def check_trust_domain(
    state: State, store: StateStore, trust_domain: str, *, name: str = DOCUMENT
) -> None:
    """IdentityError where it has nothing to do with this trust domain.

    What it was or will be is as good as what it is: a server's flag is changed before, during or
    after a rotation, and until then a restart must not end in an error.
    """
    authority = state.authority()
    if trust_domain not in {*authority.trust_domains, *state.former}:
        found = authority.trust_domain
        raise IdentityError(
            f"{store.where(name)} is of trust domain {found!r}, not {trust_domain!r}: give "
            f"--trust-domain {found}, another state, or change it by "
            f"`smi-xds ca rotate --trust-domain {trust_domain}`"
        )


def _legacy(stored: Stored, store: StateStore, *, now: datetime) -> State:
    key = _legacy_key(stored, store)
    try:
        certificate, trust_domain = ca.parse_root(stored.files[BUNDLE], key=key)
    except ValueError as error:
        raise IdentityError(f"{store.where(BUNDLE)} {error}: {_cure(store)}") from None
    signer = Signer(trust_domain=trust_domain, certificates=(certificate,), key=key)
    return state_of(signer, now=now)


def _legacy_key(stored: Stored, store: StateStore) -> EllipticCurvePrivateKey:
    try:
        return ca.parse_key(stored.files[LEGACY_KEY])
    except ValueError as error:
        raise IdentityError(f"{store.where(LEGACY_KEY)} {error}: {_cure(store)}") from None


def _check_time(state: State, store: StateStore, *, name: str, now: datetime) -> None:
    signer = state.active
    if now < signer.not_before:
        raise IdentityError(
            f"{store.where(name)} is not valid before {signer.not_before:%Y-%m-%d %H:%M:%S} UTC: "
            f"set the clock, which says {now:%Y-%m-%d %H:%M:%S}"
        )
    if now >= signer.not_after:
        raise ExpiredStateError(
            f"{store.where(name)} expired at {signer.not_after:%Y-%m-%d %H:%M:%S} UTC: "
            f"{_away(store)}",
            state,
        )


def _cure(store: StateStore) -> str:
    return f"restore it from a backup, or {_away(store)}"


def _away(store: StateStore) -> str:
    if isinstance(store, FolderStore):
        return "move the state folder away, so that a new authority is made"
    return f"delete {store.where()}, so that a new authority is made"


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


def _unfinished(name: str) -> str:
    return f".{name}."


def _replace(file: Path, content: bytes) -> None:
    """A complete file in the place of the former one, for its owner only."""
    prefix = _unfinished(file.name)
    descriptor, temporary = tempfile.mkstemp(prefix=prefix, dir=file.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as opened:
            _give_to_owner(descriptor, file.parent)
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _give_to_owner(descriptor: int, folder: Path) -> None:
    """Where root wrote (`sudo smi-xds ca rotate`), whoever serves could not read it any more."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        # A root without CAP_CHOWN serves by it himself.
        with suppress(PermissionError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, not only the content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
