"""Writing back, as it is wired."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from smi_xds.ads.cache import Cache
from smi_xds.ads.status import Status
from smi_xds.app.leading import leading
from smi_xds.app.writeback import _Leader, _work, writing_back
from smi_xds.config import KubernetesConfig, LeaseConfig, ServeConfig, parse_serve
from smi_xds.writeback.lease import Leadership
from tests.support.wait import eventually_async

LEASE = LeaseConfig(namespace="smi-xds", name="smi-xds-leader")
NOTHING: Any = None


def mk_config(tmp_path: Path, *, write_back: bool = False, kubernetes: bool = False) -> ServeConfig:
    (tmp_path / "kubeconfig").write_text(
        '{"clusters":[{"name":"c","cluster":{"server":"http://127.0.0.1:1"}}],'
        '"users":[{"name":"u","user":{"token":"t"}}],'
        '"contexts":[{"name":"h","context":{"cluster":"c","user":"u"}}],"current-context":"h"}'
    )
    api_server = KubernetesConfig(kubeconfig=str(tmp_path / "kubeconfig"))
    return parse_serve(
        files=[tmp_path],
        kubernetes=api_server if kubernetes else None,
        lease=LEASE if kubernetes else None,
        write_back=write_back,
        state_folder=tmp_path,
    )


class Rounds:
    """There was a first one."""

    async def newer_than(self, _number: int) -> None:
        return


class FakePipeline:
    rounds = Rounds()


async def test_files_are_not_written_to(tmp_path: Path) -> None:
    """No lease, nothing that is counted."""
    config = mk_config(tmp_path)
    async with (
        leading(config) as leadership,
        writing_back(
            config, leadership, cache=Cache(), status=Status(), pipeline=NOTHING
        ) as metrics,
    ):
        assert leadership is None
        assert metrics == ()


async def test_without_write_back_nobody_asks_for_the_lease(tmp_path: Path) -> None:
    """Unless something else needs a leader, who is then shown."""
    config = mk_config(tmp_path, kubernetes=True)
    async with leading(config) as leadership:
        assert leadership is None
    async with writing_back(
        config, Leadership("a"), cache=Cache(), status=Status(), pipeline=NOTHING
    ) as metrics:
        assert [it.name for it in metrics] == ["smi_xds_is_leader"]


async def test_with_write_back_it_tries_to_lead(tmp_path: Path) -> None:
    """An API server that is not there keeps nobody from serving."""
    config = mk_config(tmp_path, kubernetes=True, write_back=True)
    pipeline: Any = FakePipeline()
    with capture_logs() as logs:
        async with (
            leading(config) as leadership,
            writing_back(
                config, leadership, cache=Cache(), status=Status(), pipeline=pipeline
            ) as metrics,
        ):
            assert leadership is not None
            assert not leadership.is_leader
            assert {it.name for it in metrics} == {
                *("smi_xds_is_leader", "smi_xds_status_writes"),
                *("smi_xds_events", "smi_xds_status_queue"),
            }
            await eventually_async(
                lambda: [it for it in logs if it["event"] == "lease_unavailable"]
            )


class FakeWriter:
    """Has a bug at first."""

    desk: Any = None

    def __init__(self) -> None:
        self.begins = 0
        self.ends = 0
        self.steps = 0

    def begin(self) -> None:
        self.begins += 1

    async def step(self) -> None:
        self.steps += 1

    async def withdraw(self) -> None:
        self.steps = 0

    async def run(self, *_: object) -> None:
        if self.begins == 1:
            raise RuntimeError("a bug")
        try:
            await asyncio.Event().wait()
        finally:
            self.ends += 1


async def test_a_bug_is_told_and_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew after a while, and whenever it leads again."""
    monkeypatch.setattr("smi_xds.app.writeback._PAUSE", 0.0)
    leadership = Leadership("a")
    writer: Any = FakeWriter()
    recorder: Any = FakeWriter()
    recorder.begins = 1
    replicas: Any = FakeWriter()
    announcer: Any = FakeWriter()
    pipeline: Any = FakePipeline()
    monkeypatch.setattr("smi_xds.writeback.replicas.TICK", 0.01)
    work = _work(pipeline, leadership, announcer, _Leader(writer, recorder, replicas))
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            await eventually_async(lambda: announcer.steps > 2)
            leadership.extend(1e12)
            await eventually_async(lambda: writer.begins == 2)
            await eventually_async(lambda: replicas.steps > 4)
            assert announcer.steps == 0
            leadership.end("b")
            await eventually_async(lambda: writer.ends == 1 and announcer.steps)
            leadership.extend(1e12)
            await eventually_async(lambda: writer.begins == 3)
            task.cancel()

    assert [it["event"] for it in logs] == ["write_back_failed"]
