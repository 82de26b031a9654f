"""What `smi-xds ca` does with a state, wherever it is kept."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from smi_xds.cli.ca_text import in_a_line
from smi_xds.config import KubernetesConfig, SecretName
from smi_xds.identity.document import Phase, State
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.rotation import begin
from smi_xds.identity.signer import check_trust_domain, create_signer
from smi_xds.identity.state import (
    ConflictError,
    FolderStore,
    StateStore,
    Stored,
    UnreachableStateError,
    files_of,
    is_there,
    read_state,
)
from smi_xds.problems import IdentityError

# Seconds between two looks while a rotation is waited for.
_EVERY: Final = 1.0
# Until somebody else has written.
_AGAIN: Final = 0.02


def begun(state: State, *, trust_domain: str | None, embedded: bool, now: datetime) -> State:
    """The first phase of a rotation to a new root, or to another trust domain."""
    signer = state.signer
    if not signer.brought or embedded:
        return begin(state, create_signer(trust_domain or signer.trust_domain, now=now), now=now)
    if trust_domain is None:
        raise IdentityError(
            "the authority was brought by --ca-cert: replace its files and the servers follow, or "
            "give --embedded for a root of our own"
        )
    try:
        check_trust_domain(signer.certificates[0], trust_domain)
    except ValueError as error:
        raise IdentityError(
            f"the certificate of --ca-cert {error}: bring one that is of the new trust domain, or "
            "of none"
        ) from None
    return begin(state, replace(signer, trust_domain=trust_domain), now=now)


class Kept:
    """Where the state is: in a Secret, else in a folder."""

    def __init__(
        self, folder: Path, secret: SecretName | None, api: KubernetesConfig | None
    ) -> None:
        self._folder, self._secret, self._api = folder, secret, api

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[StateStore]:
        """The store, while the block runs."""
        if self._secret is None or self._api is None:
            if not is_there(self._folder):
                raise IdentityError(
                    f"{self._folder} has no certificate authority: give the --state-folder or "
                    "--state-secret of `smi-xds serve`, which makes one when it starts"
                )
            yield FolderStore(self._folder)
            return
        from smi_xds.app.state_secret import SecretStore
        from smi_xds.sources.kube_connection import Connection

        connection = Connection(self._api)
        await connection.open()
        try:
            yield SecretStore(connection, self._secret)
        finally:
            await connection.close()


async def read(kept: Kept) -> State:
    """The state of now."""
    async with kept.opened() as store:
        return (await _loaded(store))[1]


async def _loaded(store: StateStore) -> tuple[Stored, State]:
    stored = await store.read()
    state = read_state(stored, store, now=wall_clock())
    if state is None:
        raise IdentityError(
            f"{store.where()} has no certificate authority: `smi-xds serve` makes one when it "
            "starts"
        )
    return stored, state


async def change(kept: Kept, how: Callable[[State, datetime], State]) -> State:
    """Put another state in its place, made of the one that is there then."""
    async with kept.opened() as store:
        while True:
            stored, state = await _loaded(store)
            changed = how(state, wall_clock())
            try:
                await store.write(files_of(changed), over=stored)
            except ConflictError:  # a server reported meanwhile
                await asyncio.sleep(_AGAIN)
                continue
            return changed


async def wait(kept: Kept, began: State) -> None:
    """Say whatever is new, until it is over."""
    said = in_a_line(began, now=wall_clock())
    async with kept.opened() as store:
        while True:
            try:
                _, state = await _loaded(store)
                line, is_over = in_a_line(state, now=wall_clock()), state.phase is Phase.STEADY
            except UnreachableStateError as error:  # for days: API servers are updated meanwhile
                line, is_over = f"{error}: tried again and again", False
            if line != said:
                click.echo(line)
                said = line
            if is_over:
                return
            await asyncio.sleep(_EVERY)
