"""The webhooks of a running server: what it reads is what it warns of."""

import ssl
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from smi_xds import app
from smi_xds.config import ServeConfig, parse_serve, parse_webhooks
from smi_xds.problems import ServeError
from smi_xds.web.foresight import Foresight
from tests.support.wait import eventually_async
from tests.web.reviews import admission, split

OBJECTS = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
"""
BACKEND = OBJECTS.replace("web", "v0")


@pytest.fixture
def config(tmp_path: Path) -> ServeConfig:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "web.yaml").write_text(OBJECTS)
    return parse_serve(
        files=[folder],
        xds_address="127.0.0.1:0",
        webhooks=parse_webhooks("127.0.0.1:0"),
        state_folder=tmp_path / "state",
    )


async def ask(server: app.Running, config: ServeConfig) -> list[str]:
    """The warnings for a split of web to v0, as an API server would hear them."""
    assert server.webhooks is not None
    root = ssl.create_default_context(cafile=str(config.state_folder / "ca.crt"))
    url = f"https://{server.webhooks}/validate"
    name = "smi-xds-webhooks.smi-xds.svc"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=admission(split(1)), ssl=root, server_hostname=name) as answer,
    ):
        warnings: list[str] = (await answer.json())["response"].get("warnings", [])
        return warnings


async def test_warnings_follow_the_mesh(config: ServeConfig) -> None:
    """A backend that is missing is told, and no more when it is there."""
    async with app.running(config) as server:
        [warning] = await ask(server, config)
        assert "[MissingBackend]" in warning
        (config.files[0] / "v0.yaml").write_text(BACKEND)

        async def is_content() -> bool:
            return await ask(server, config) == []

        await eventually_async(is_content, deadline=30)


async def test_the_first_review_need_not_wait_for_a_mesh(
    config: ServeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reviews compare with is built after the first round, before anybody asks."""
    prepared: list[bool] = []

    def prepare(foresee: Foresight) -> None:
        prepared.append(foresee._objects() is not None)

    monkeypatch.setattr(Foresight, "prepare", prepare)
    async with app.running(config):
        await eventually_async(lambda: prepared == [True], deadline=30)


async def test_nothing_is_served_unless_asked_for(config: ServeConfig) -> None:
    """Without an address there is no port."""
    async with app.running(replace(config, webhooks=None)) as server:
        assert server.webhooks is None


async def test_an_occupied_port_is_an_error_of_its_own(config: ServeConfig, tmp_path: Path) -> None:
    """The message names the address and the flag."""
    async with app.running(config) as server:
        taken = parse_webhooks(str(server.webhooks))
        other = replace(config, webhooks=taken, state_folder=tmp_path / "other")
        with pytest.raises(ServeError, match=rf"{server.webhooks}: .*--webhook-address"):
            async with app.running(other):
                pytest.fail("must not listen")
