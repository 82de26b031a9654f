"""Certificates for a process that cannot ask for them over xDS: files in a folder.

A gRPC client without a proxy reads its certificate, its key and the roots from files that its
bootstrap names, and looks at them again and again. They are signed by the authority of a state
folder, and are renewed by handing them out again.
"""

import os
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from smi_xds.identity.ca import Authority, Leaf
from smi_xds.identity.state import (
    DOCUMENT,
    LEGACY_KEY,
    ConflictError,
    FolderStore,
    files_of,
    is_there,
    read_state,
)
from smi_xds.problems import IdentityError
from smi_xds.values import SpiffeId

# As in Secrets of Kubernetes (kubernetes.io/tls), which other issuers write as well.
CERTIFICATE_CHAIN, PRIVATE_KEY, TRUST_BUNDLE = "tls.crt", "tls.key", "ca.crt"

# Until somebody else has written.
_AGAIN: Final = 0.02


def hand_out(identity: SpiffeId, *, state_folder: Path, folder: Path, now: datetime) -> Leaf:
    """Sign a leaf for an identity and write it to a folder; IdentityError says what hinders it.

    The authority must be there: one made on the spot would be trusted by nobody.
    """
    if not is_there(*(state_folder / name for name in (DOCUMENT, LEGACY_KEY))):
        raise IdentityError(
            f"{state_folder} has no certificate authority: give the --state-folder of "
            "`smi-xds serve`, which makes one when it starts"
        )
    authority, leaf = _signed(identity, FolderStore(state_folder), now)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(folder / TRUST_BUNDLE, authority.trust_bundle, mode=0o644)
        # A reader that comes between the two finds that they do not fit, and looks again.
        replace_file(folder / PRIVATE_KEY, leaf.private_key.value, mode=0o600)
        replace_file(folder / CERTIFICATE_CHAIN, leaf.certificate_chain, mode=0o644)
    except OSError as error:
        raise IdentityError(
            f"certificates cannot be written to {folder}: {error.strerror}: "
            "choose another folder for --certificates"
        ) from error
    return leaf


def _signed(identity: SpiffeId, store: FolderStore, now: datetime) -> tuple[Authority, Leaf]:
    """Sign a leaf by the authority of now, in its trust domain.

    First it is written down how long it lives: nobody will renew it, and a rotation waits for it.
    """
    while True:
        stored = store.load()
        state = read_state(stored, store, now=now, trust_domain=identity.trust_domain)
        assert state is not None, "there is one"
        authority = state.authority()
        leaf = authority.issue(SpiffeId(authority.trust_domain, identity.path), now=now)
        until = max(state.handed_out_until, leaf.not_after)
        with suppress(ConflictError):  # by a server: it may have gone on to another signer
            store.save(files_of(replace(state, handed_out_until=until)), over=stored)
            return authority, leaf
        time.sleep(_AGAIN)  # noqa: TID251 - nobody says when he has written


def replace_file(file: Path, content: bytes, *, mode: int) -> None:
    """A complete file in the place of the former one; OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            os.fchmod(descriptor, mode)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
