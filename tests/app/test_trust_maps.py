"""The roots in pods: where they are written, by whom, and what a rotation waits for."""

from http import HTTPStatus

import pytest
from structlog.testing import capture_logs

from smi_xds.app.trust_maps import TrustMaps
from smi_xds.sources.kube_api import RefusedError, UnreachableError
from tests.writeback.fakes import FakeApi


class Surroundings:
    """What the maps look at."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.bundle = b"old root"
        self.namespaces = {"shop", "bank"}
        self.leads = True
        self.maps = TrustMaps(
            self.api,
            bundle=lambda: self.bundle,
            namespaces=lambda: self.namespaces,
            is_leader=lambda: self.leads,
        )

    def written(self, namespace: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/configmaps/smi-xds-trust"
        found: str = self.api.objects[path]["data"]["ca.crt"]
        return found


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


async def test_every_namespace_of_the_mesh_has_the_roots(around: Surroundings) -> None:
    """And once they are there, nobody is asked again."""
    assert around.maps.lacking() == [
        "ConfigMap bank/smi-xds-trust",
        "ConfigMap shop/smi-xds-trust",
    ]

    await around.maps.step()

    assert around.written("shop") == around.written("bank") == "old root"
    assert around.maps.lacking() == []
    calls = len(around.api.calls)
    await around.maps.step()
    assert len(around.api.calls) == calls


async def test_other_roots_are_written_over_the_old(around: Surroundings) -> None:
    """What somebody else put beside them stays."""
    await around.maps.step()
    path = "/api/v1/namespaces/shop/configmaps/smi-xds-trust"
    around.api.objects[path]["data"]["note"] = "mine"
    around.bundle = b"both roots"
    assert len(around.maps.lacking()) == 2

    await around.maps.step()

    assert around.api.objects[path]["data"] == {"ca.crt": "both roots", "note": "mine"}
    assert around.maps.lacking() == []


async def test_the_leader_alone_writes(around: Surroundings) -> None:
    """And it alone waits for what it writes."""
    around.leads = False

    await around.maps.step()

    assert around.api.calls == []
    assert around.maps.lacking() == []


async def test_one_namespace_that_refuses_keeps_no_other_waiting(around: Surroundings) -> None:
    """It is told, and a rotation waits for it."""
    around.api.fail = lambda _, path: (
        RefusedError(HTTPStatus.FORBIDDEN, "no") if "/bank/" in path else None
    )

    await around.maps.step()

    assert around.written("shop") == "old root"
    assert around.maps.lacking() == ["ConfigMap bank/smi-xds-trust"]


async def test_old_credentials_are_renewed(around: Surroundings) -> None:
    """The next look succeeds."""
    around.api.fail = lambda *_: (
        None if around.api.renewals else RefusedError(HTTPStatus.UNAUTHORIZED, "old")
    )

    await around.maps.step()
    await around.maps.step()

    assert around.maps.lacking() == []


@pytest.mark.parametrize(
    "error", [UnreachableError("away"), RefusedError(HTTPStatus.CONFLICT, "changed")]
)
async def test_what_passes_is_tried_again(around: Surroundings, error: Exception) -> None:
    """An API server that is away, or somebody who was faster."""
    around.api.fail = lambda *_: error
    await around.maps.step()
    assert len(around.maps.lacking()) == 2

    around.api.fail = lambda *_: None
    await around.maps.step()

    assert around.maps.lacking() == []


@pytest.mark.parametrize("answer", [b"", b"[]", b"a page", b'{"data": {}}'])
async def test_what_is_no_config_map_is_tried_again(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """A proxy on the way may say anything with 200; it ends nothing."""

    async def other(_: str) -> bytes:
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(around.api, "read", other)
        await around.maps.step()
    assert len(around.maps.lacking()) == 2

    await around.maps.step()

    assert around.maps.lacking() == []


async def test_a_namespace_that_is_going_is_not_waited_for(around: Surroundings) -> None:
    """Some are for weeks, and a rotation would be; it is looked at again with other roots."""
    going = "unable to create new content in namespace bank because it is being terminated"
    around.api.fail = lambda method, path: (
        RefusedError(HTTPStatus.FORBIDDEN, f"configmaps is forbidden: {going}")
        if "/bank/" in path and method == "POST"
        else None
    )

    with capture_logs() as events:
        await around.maps.step()

    assert around.maps.lacking() == []
    assert events == []
    around.bundle = b"both roots"
    assert len(around.maps.lacking()) == 2
