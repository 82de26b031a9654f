"""How API servers come to trust our webhooks."""

import base64
import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from smi_xds.crds import Conversion, definitions
from smi_xds.crds.webhooks import validating_webhook
from smi_xds.problems import SourceError
from smi_xds.sources.kube_watch import RefusedError, UnreachableError
from smi_xds.web.trust import PATHS, Trust, trust_patch

BUNDLE = b"-----BEGIN CERTIFICATE-----\n"
ENCODED = base64.b64encode(BUNDLE).decode()
NAMED: dict[str, str] = {"namespace": "smi-xds", "service": "smi-xds-webhooks"}

SPLITS = next(
    it for it in definitions(Conversion.WEBHOOK) if it["spec"]["names"]["plural"] == "trafficsplits"
)
VALIDATION = validating_webhook()
CRD = "/spec/conversion/webhook/clientConfig"


def patch_of(document: dict[str, Any], bundle: bytes = BUNDLE) -> Any:
    return trust_patch(document, bundle, namespace="smi-xds", service="smi-xds-webhooks")


def patched(document: dict[str, Any], patch: Any) -> dict[str, Any]:
    """RFC 6902, as much of it as is used."""
    document = copy.deepcopy(document)
    for step in patch:
        *way, last = step["path"].strip("/").split("/")
        place: Any = document
        for part in way:
            place = place[int(part)] if part.isdigit() else place[part]
        if step["op"] == "test":
            assert place[last] == step["value"]
        else:
            assert step["op"] == "add"
            place[last] = step["value"]
    return document


def test_our_root_is_put_where_our_service_is_named() -> None:
    """In definitions and in webhook configurations; then there is nothing left to do."""
    crd, validation = (patched(it, patch_of(it)) for it in (SPLITS, VALIDATION))

    assert crd["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] == ENCODED
    assert validation["webhooks"][0]["clientConfig"]["caBundle"] == ENCODED
    assert patch_of(crd) == patch_of(validation) == []
    # Another root takes its place.
    assert patch_of(crd, b"new")[-1] == {
        "op": "add",
        "path": f"{CRD}/caBundle",
        "value": base64.b64encode(b"new").decode(),
    }


def test_what_leads_to_others_is_left_alone() -> None:
    """Another service, a URL, no conversion at all."""
    other = copy.deepcopy(SPLITS)
    other["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["namespace"] = "elsewhere"
    by_url = copy.deepcopy(VALIDATION)
    by_url["webhooks"][0]["clientConfig"] = {"url": "https://example.com"}
    plain = next(iter(definitions(Conversion.NONE)))

    assert [patch_of(it) for it in (other, by_url, plain, {}, {"webhooks": None})] == [[]] * 5


class FakeApi:
    """An API server that has some objects, and refuses as it is told."""

    def __init__(self, **objects: dict[str, Any]) -> None:
        self.objects = {
            path: it for path in PATHS for end, it in objects.items() if f"/{end}" in path
        }
        self.patches: list[str] = []
        self.renewals = 0
        self.fail: Callable[[str], Exception | None] = lambda _: None

    async def read(self, path: str) -> bytes:
        self._maybe_fail("GET")
        if path not in self.objects:
            raise RefusedError(404, "not found")
        return msgspec.json.encode(self.objects[path])

    async def patch(self, path: str, patch: bytes) -> bytes:
        self._maybe_fail("PATCH")
        self.patches.append(path)
        self.objects[path] = patched(self.objects[path], msgspec.json.decode(patch))
        return b"{}"

    async def renew(self) -> None:
        self.renewals += 1
        raise SourceError("the kubeconfig is gone")

    def _maybe_fail(self, method: str) -> None:
        if (error := self.fail(method)) is not None:
            raise error


def mk_trust(api: FakeApi) -> Trust:
    return Trust(api, lambda: BUNDLE, **NAMED)


async def test_objects_are_patched_once_and_again_when_they_were_made_anew() -> None:
    """Those that are not there are waited for, in silence."""
    api = FakeApi(trafficsplits=copy.deepcopy(SPLITS), validatingwebhook=VALIDATION)
    trust = mk_trust(api)
    [path] = [path for path in api.objects if "trafficsplits" in path]

    with capture_logs() as events:
        await trust.step()
        await trust.step()
        assert len(api.patches) == 2
        api.objects[path] = copy.deepcopy(SPLITS)
        await trust.step()

    assert api.patches[2:] == [path]
    assert [event["event"] for event in events] == ["webhook_trusted"] * 3


@pytest.mark.parametrize("status", [403, 500, 401])
async def test_refusals_are_told_once(status: int) -> None:
    """With what to do; each round tries again, and a cure is a new start."""
    api = FakeApi(trafficsplits=copy.deepcopy(SPLITS))
    trust = mk_trust(api)
    api.fail = lambda method: RefusedError(status, "no") if method == "PATCH" else None

    with capture_logs() as events:
        await trust.step()
        await trust.step()
        assert [event["event"] for event in events] == ["webhook_untrusted"]
        assert "kubectl apply -k deploy/kubernetes/webhooks" in events[0]["cure"]
        api.fail = lambda _: None
        await trust.step()
        assert events[-1]["event"] == "webhook_trusted"

    assert api.renewals == (2 if status == 401 else 0)


@pytest.mark.parametrize("status", [409, 422])
async def test_a_change_in_between_is_tried_again(status: int) -> None:
    """Nobody needs to hear of it."""
    api = FakeApi(trafficsplits=copy.deepcopy(SPLITS))
    api.fail = lambda method: RefusedError(status, "moved") if method == "PATCH" else None

    with capture_logs() as events:
        await mk_trust(api).step()

    assert events == []


async def test_an_api_server_that_is_away_is_told_once() -> None:
    """And not asked for each object."""
    api = FakeApi()
    asked: list[str] = []

    def away(method: str) -> Exception:
        asked.append(method)
        return UnreachableError("no route")

    api.fail = away
    trust = mk_trust(api)

    with capture_logs() as events:
        await trust.step()
        await trust.step()

    assert [event["reason"] for event in events] == ["no route"]
    assert asked == ["GET", "GET"]


@pytest.mark.parametrize("answer", [b"", b"[]", b"a page"])
async def test_what_is_no_object_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """A proxy on the way may say anything with 200; it ends nothing."""
    api = FakeApi(trafficsplits=copy.deepcopy(SPLITS))
    trust = mk_trust(api)

    async def other(_: str) -> bytes:
        return answer

    with capture_logs() as events, monkeypatch.context() as patch:
        patch.setattr(api, "read", other)
        await trust.step()
    assert [event["event"] for event in events] == ["webhook_untrusted"]
    assert events[0]["cure"].startswith("It is tried again; where that is refused, let smi-xds get")

    await trust.step()

    assert len(api.patches) == 1
