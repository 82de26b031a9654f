"""Leaves that are not there yet: who waits for one, and who goes on meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from smi_xds import app
from smi_xds.app.issuers import opened_issuer
from smi_xds.config import ServeConfig
from smi_xds.identity.ca import Authority
from smi_xds.identity.current import CurrentAuthority
from smi_xds.identity.issuer import Issuer, Standing
from smi_xds.values import SpiffeId
from tests.live.test_attempts import WORLD
from tests.support.live import live_mesh
from tests.support.wait import eventually_async

pytestmark = pytest.mark.envoy


class Withholding:
    """An issuer that takes its time with some identities."""

    def __init__(self, issuer: Issuer, held: Callable[[SpiffeId], bool]) -> None:
        self._issuer = issuer
        self._held = held
        self._more = 0
        self._changed: Callable[[], object] = lambda: None

    @property
    def trust_bundle(self) -> bytes:
        return self._issuer.trust_bundle

    @property
    def changes(self) -> int:
        return self._issuer.changes + self._more

    def ask(self, identities: Collection[SpiffeId], /) -> Standing:
        found = self._issuer.ask(identities)
        leaves = {it: leaf for it, leaf in found.leaves.items() if not self._held(it)}
        return Standing(leaves=leaves, refused=found.refused)

    async def run(self, changed: Callable[[], object], /) -> NoReturn:
        self._changed = changed
        await self._issuer.run(changed)

    def hold(self, held: Callable[[SpiffeId], bool]) -> None:
        self._held = held
        self._more += 1
        self._changed()


def nobody(_: SpiffeId) -> bool:
    return False


def callers(identity: SpiffeId) -> bool:
    return identity.path.endswith("/caller")


async def test_who_waits_for_a_leaf_gets_it_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a sidecar has goes on where its leaf is withheld, as by a replica that has just begun;
    a leaf that comes late is taken without a restart."""
    made: list[Withholding] = []

    async def opened(config: ServeConfig, authority: Authority | CurrentAuthority) -> Issuer:
        made.append(Withholding(await opened_issuer(config, authority), nobody))
        return made[0]

    monkeypatch.setattr(app, "opened_issuer", opened)
    async with live_mesh(WORLD, tmp_path) as mesh:

        async def is_served(source: str = "test/caller") -> bool:
            return (await mesh.get(source, "server.test:8080")).status == 200

        assert await is_served()

        # Its leaf is gone from what it is to have: connections are made anew, and go on.
        before = mesh.server.round
        made[0].hold(callers)
        await mesh.server.next_round(before)
        await mesh.converged()
        mesh.connections.pop("test/caller").close()
        assert await is_served()

        made[0].hold(nobody)
        await mesh.converged()
        assert await is_served()


async def test_a_sidecar_that_starts_before_its_leaf_is_there_gets_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot call before, and then it can; nobody else waits for it."""
    made: list[Withholding] = []

    async def opened(config: ServeConfig, authority: Authority | CurrentAuthority) -> Issuer:
        made.append(Withholding(await opened_issuer(config, authority), callers))
        return made[0]

    servers: list[app.Running] = []
    running = app.running

    @asynccontextmanager
    async def known(config: ServeConfig) -> AsyncIterator[app.Running]:
        async with running(config) as server:
            servers.append(server)
            yield server

    async def released() -> None:
        """Once the sidecar has asked, and been told of all the rest."""
        await eventually_async(lambda: servers)
        await servers[0].converged(["test/caller"])
        made[0].hold(nobody)

    monkeypatch.setattr(app, "opened_issuer", opened)
    monkeypatch.setattr(app, "running", known)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(released())
        async with live_mesh(WORLD, tmp_path) as mesh:

            async def is_served() -> bool:
                return (await mesh.get("test/caller", "server.test:8080")).status == 200

            await eventually_async(is_served, deadline=30)
