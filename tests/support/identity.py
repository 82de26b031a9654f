"""An authority, at a fixed time or in a folder."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from smi_xds.identity import ca
from smi_xds.identity.state import ConflictError, FolderStore, files_of, new_state, read_state

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def mk_authority(*, trust_domain: str = "cluster.local", now: datetime = NOW) -> ca.Authority:
    """A new root, and its key."""
    key = ca.create_key()
    root = ca.create_root(key, trust_domain=trust_domain, now=now)
    return ca.Authority(trust_domain=trust_domain, certificate=root, key=key)


def load_or_create(folder: Path, *, trust_domain: str, now: datetime) -> ca.Authority:
    """The authority of this folder, made there if need be; IdentityError says what hinders it."""
    store = FolderStore(folder)
    while True:
        stored = store.load()
        state = read_state(stored, store, now=now, trust_domain=trust_domain)
        if state is not None:
            return state.authority()
        state = new_state(stored, store, trust_domain=trust_domain, now=now)
        # Who comes second takes what the first one made.
        with suppress(ConflictError):
            store.save(files_of(state), over=stored)
            return state.authority(created=True)
