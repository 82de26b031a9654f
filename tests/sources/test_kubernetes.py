"""An API server as a source: listed, watched, and gone on with through whatever happens to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from smi_xds.config import KubernetesConfig
from smi_xds.problems import ProblemCode, SourceError
from smi_xds.sources import kube_watch
from smi_xds.sources.kube_kinds import KINDS
from smi_xds.sources.kubernetes import KubernetesSource
from smi_xds.values import ServiceAccountRef
from tests.sources.fake_api import (
    ACCOUNTS,
    CUT,
    END,
    SLICES,
    SPLITS,
    VERSIONS_OF_SPLITS,
    FakeApi,
    quicken,
    watching,
)
from tests.support.wait import eventually_async


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait but a moment where people are waited for."""
    quicken(monkeypatch)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """Give a fake API server that runs, with one service account in it."""
    fake = FakeApi()
    fake.put(ACCOUNTS, "a")
    async with fake.running():
        yield fake


async def test_lists_and_watches(api: FakeApi, tmp_path: Path) -> None:
    """Everything is listed, then synced; each change follows."""
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(sink.is_synced)
        assert sink.accounts == {"a"}
        assert {path for path, _ in api.requests} == {kind.path(namespace="") for kind in KINDS}

        await api.watched(ACCOUNTS)
        api.put(ACCOUNTS, "b")
        await eventually_async(lambda: sink.accounts == {"a", "b"})
        api.remove(ACCOUNTS, "a")
        await eventually_async(lambda: sink.accounts == {"b"})

    assert sink.codes == []


@pytest.mark.parametrize("name", ["s", "a-name-of-which-not-all-is-shown-" * 7 + "x"])
async def test_an_object_that_becomes_invalid(api: FakeApi, tmp_path: Path, name: str) -> None:
    """It keeps its last good version, with a problem, until it is mended or deleted."""
    spec = {"service": "web", "backends": [{"service": "v1", "weight": 1}]}
    api.put(SPLITS, name, spec=spec)
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(sink.is_synced)
        (good,) = sink.objects.splits.values()
        await api.watched(SPLITS)

        api.put(SPLITS, name, spec=spec | {"mirror": True})
        await eventually_async(lambda: sink.codes == [ProblemCode.UNKNOWN_FIELD])
        assert list(sink.objects.splits.values()) == [good]
        # Nor is it lost where all is listed anew.
        lists = len(api.asked(SPLITS, watch=False))
        gone = {"kind": "Status", "code": 410, "reason": "Expired"}
        api.send(SPLITS, {"type": "ERROR", "object": gone})
        await eventually_async(lambda: len(api.asked(SPLITS, watch=False)) > lists)
        await api.watched(SPLITS)
        assert list(sink.objects.splits.values()) == [good]

        api.remove(SPLITS, name)
        await eventually_async(lambda: sink.codes == [])
        assert sink.objects.splits == {}


async def test_long_lists(api: FakeApi, tmp_path: Path) -> None:
    """A list comes in parts, and counts when it is whole."""
    api.page = 2
    for i in range(6):
        api.put(ACCOUNTS, f"b{i}")
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(sink.is_synced)

    assert sink.accounts == {"a", *(f"b{i}" for i in range(6))}
    assert [params.get("continue", "")[:2] for params in api.asked(ACCOUNTS, watch=False)] == [
        "",
        "2:",
        "4:",
        "6:",
    ]


async def test_a_list_that_expires_between_its_parts(api: FakeApi, tmp_path: Path) -> None:
    """It begins anew."""
    api.page = 1
    api.put(ACCOUNTS, "b")
    api.refusals[ACCOUNTS] = 410
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(lambda: len(api.asked(ACCOUNTS, watch=False)) > 2)
        assert not sink.is_synced()

        del api.refusals[ACCOUNTS]
        await eventually_async(sink.is_synced)

    assert sink.accounts == {"a", "b"}
    assert sink.codes == []


@pytest.mark.parametrize("how", [CUT, END])
async def test_a_watch_that_ends(api: FakeApi, tmp_path: Path, how: bytes) -> None:
    """A watch that ends or is cut goes on from the last version seen, bookmarks included."""
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        metadata = {"resourceVersion": "70"}
        api.send(ACCOUNTS, {"type": "BOOKMARK", "object": {"metadata": metadata}})
        api.send(ACCOUNTS, how)
        await eventually_async(lambda: len(api.asked(ACCOUNTS, watch=True)) == 2)

        api.version = 70
        api.put(ACCOUNTS, "b")
        await eventually_async(lambda: sink.accounts == {"a", "b"})

    first, second = api.asked(ACCOUNTS, watch=True)
    assert (first["resourceVersion"], second["resourceVersion"]) == ("2", "70")
    assert first["allowWatchBookmarks"] == "true"
    assert len(api.asked(ACCOUNTS, watch=False)) == 1
    assert sink.codes == []


async def test_a_line_that_is_cut(api: FakeApi, tmp_path: Path) -> None:
    """Half a line counts for nothing, also when it ends there."""
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        api.send(ACCOUNTS, b'{"type": "DELETED", "object": {"metadata": {"name": "a"')
        api.send(ACCOUNTS, END)
        await eventually_async(lambda: len(api.asked(ACCOUNTS, watch=True)) == 2)

    assert sink.accounts == {"a"}


@pytest.mark.parametrize("in_stream", [True, False])
async def test_a_version_that_is_gone(api: FakeApi, tmp_path: Path, in_stream: bool) -> None:
    """After 410 all is listed again, and what was deleted meanwhile is found missing."""
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        del api.objects[ACCOUNTS]["a"]
        api.version, api.oldest = 100, 100
        status = {"kind": "Status", "code": 410}
        api.send(ACCOUNTS, {"type": "ERROR", "object": status} if in_stream else END)

        await eventually_async(lambda: sink.accounts == set())
        assert len(api.asked(ACCOUNTS, watch=False)) == 2
        api.put(ACCOUNTS, "b")
        await eventually_async(lambda: sink.accounts == {"b"})

    assert sink.codes == []


async def test_lines_that_cannot_be_understood(api: FakeApi, tmp_path: Path) -> None:
    """All is listed again, and what was there stays meanwhile."""
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        api.refusals[ACCOUNTS] = 500
        api.send(ACCOUNTS, b"<html>\n")
        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
        assert sink.accounts == {"a"}

        del api.refusals[ACCOUNTS]
        await eventually_async(lambda: sink.codes == [])

    assert all(picture == {"a"} for picture in sink.pictures[-3:])


async def test_a_silent_connection(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch on which nothing comes, not even a bookmark, is given up, and all is listed."""
    monkeypatch.setattr(kube_watch, "SILENCE", 0.05)
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        del api.objects[ACCOUNTS]["a"]  # which no watch is told
        await eventually_async(lambda: sink.accounts == set())
        await eventually_async(lambda: len(api.asked(ACCOUNTS, watch=True)) > 2)

    assert sink.codes == []


async def test_a_forbidden_kind(api: FakeApi, tmp_path: Path) -> None:
    """It is a problem that names the right; the others go on, and so does it once allowed."""
    api.put(SPLITS, "s", spec={"service": "web"})
    api.refusals[SPLITS] = 403
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(sink.is_synced)
        (problem,) = sink.objects.problems
        assert problem.code is ProblemCode.SOURCE_FORBIDDEN
        assert problem.message == (
            "may not list and watch trafficsplits.split.smi-spec.io in all namespaces: "
            "refused by the test"
        )

        del api.refusals[SPLITS]
        await eventually_async(lambda: sink.codes == [])
        assert sink.objects.splits


async def test_a_forbidden_kind_without_which_there_is_no_mesh(
    api: FakeApi, tmp_path: Path
) -> None:
    """It is waited for at the start: an empty mesh would empty the sidecars that run."""
    api.refusals[SLICES] = 403
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        await eventually_async(lambda: len(api.asked(SLICES, watch=False)) > 2)
        assert sink.codes == [ProblemCode.SOURCE_FORBIDDEN]
        assert not sink.is_synced()

        del api.refusals[SLICES]
        await eventually_async(sink.is_synced)
        assert sink.codes == []


async def test_a_right_that_is_taken_away(api: FakeApi, tmp_path: Path) -> None:
    """What was read stays, with a problem."""
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(ACCOUNTS)
        api.refusals |= {ACCOUNTS: 403, f"{ACCOUNTS}?watch": 403}
        api.send(ACCOUNTS, END)

        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_FORBIDDEN])
        assert sink.accounts == {"a"}

        api.refusals.clear()
        await eventually_async(lambda: sink.codes == [])


async def test_a_missing_crd(api: FakeApi, tmp_path: Path) -> None:
    """It is a problem that says what to apply; the others go on, and it is waited for."""
    api.refusals |= dict.fromkeys(VERSIONS_OF_SPLITS, 404)
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(sink.is_synced)
        assert [str(problem) for problem in sink.objects.problems] == [
            "error: CustomResourceDefinition trafficsplits.split.smi-spec.io: is not installed in "
            "version v1alpha4 [MissingCRD] Run smi-xds install; without our webhooks, kubectl "
            "apply -k deploy/crds."
        ]

        api.put(SPLITS, "s", spec={"service": "web"})
        del api.refusals[SPLITS]  # who is just asking for an older one would stay with it
        await eventually_async(lambda: sink.objects.splits)
        assert sink.codes == []


async def test_the_crds_of_another_mesh(api: FakeApi, tmp_path: Path) -> None:
    """Where the version that we prefer is not served, an older one is read; ours as it comes."""
    newer, older, oldest = VERSIONS_OF_SPLITS[1:]
    api.refusals |= {SPLITS: 404, newer: 404, oldest: 404}
    backends = [{"service": "v1", "weight": 1}]
    api.put(older, "s", spec={"service": "web", "backends": backends})
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(lambda: sink.objects.splits)
        await api.watched(older)
        api.put(older, "t", spec={"service": "db", "backends": backends})
        await eventually_async(lambda: len(sink.objects.splits) == 2)
        assert sink.codes == []
        assert {it.version for (it,) in sink.objects.splits.values()} == {"v1alpha2"}

        # Another mesh's CRD is replaced by ours: what is watched ends, and is listed anew.
        api.put(SPLITS, "s", spec={"service": "web", "backends": backends})
        api.refusals = {f"{older}?watch": 410}
        api.send(older, END)
        await eventually_async(
            lambda: {it.version for (it,) in sink.objects.splits.values()} == {"v1alpha4"}
        )


async def test_a_crd_that_is_removed(api: FakeApi, tmp_path: Path) -> None:
    """Without its CRD there is no object; but a single answer does not settle that."""
    api.put(SPLITS, "s", spec={"service": "web"})
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(SPLITS)
        api.refusals |= dict.fromkeys([*VERSIONS_OF_SPLITS, f"{SPLITS}?watch"], 404)
        api.send(SPLITS, END)

        await eventually_async(lambda: sink.codes == [ProblemCode.MISSING_CRD])
        await eventually_async(lambda: sink.objects.splits == {})


async def test_an_outage(api: FakeApi, tmp_path: Path) -> None:
    """An API server that is away is one problem; everything stays, and goes on when it is back."""
    down = FakeApi()
    down.put(ACCOUNTS, "a")
    async with down.running():
        config = down.config(tmp_path)
    async with watching(config) as sink:
        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
        assert not sink.is_synced()

        for i in range(3):
            async with down.running():
                await eventually_async(lambda: sink.is_synced() and not sink.codes)
                down.put(ACCOUNTS, f"b{i}")
                await eventually_async(partial(sink.has, f"b{i}"))
            await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
            assert "a" in sink.accounts

    (problem,) = sink.objects.problems
    assert problem.message.startswith(f"the API server at http://127.0.0.1:{down.port} cannot be")
    assert len(down.asked(ACCOUNTS, watch=False)) == 1  # watches went on, nothing was listed anew


async def test_an_api_server_that_only_errs(api: FakeApi, tmp_path: Path) -> None:
    """Errors of its own are an outage like any other."""
    api.refusals["*"] = 503
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
        assert not sink.is_synced()

        api.refusals.clear()
        await eventually_async(lambda: sink.is_synced() and not sink.codes)


async def test_a_kind_that_is_not_ready_yet(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CRD whose storage is being made says "not now, in a second": that is waited out quietly."""
    pauses: list[float] = []

    async def pause(_self: object, seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0.001)

    monkeypatch.setattr(kube_watch.Availability, "pause", pause)
    monkeypatch.setattr(kube_watch, "LONGEST_PAUSE", 5.0)
    api.put(SPLITS, "s", spec={"service": "web"})
    api.refusals[SPLITS] = 429
    async with watching(api.config(tmp_path)) as sink:
        await eventually_async(lambda: len(api.asked(SPLITS, watch=False)) > 3)
        assert sink.codes == []
        assert not sink.is_synced()
        assert pauses[:4] == [1.0] * 4  # what Retry-After says

        api.refusals.clear()
        await eventually_async(sink.is_synced)
        assert len(sink.objects.splits) == 1
        assert sink.codes == []


async def test_a_kind_that_is_not_ready_for_long(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience has an end: then it is an outage like any other, and each time anew."""
    monkeypatch.setattr(kube_watch, "PATIENCE", 0.2)
    async with watching(api.config(tmp_path)) as sink:
        await api.watched(SPLITS)
        for _ in range(2):
            api.refusals[f"{SPLITS}?watch"] = 429
            api.send(SPLITS, END)
            await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
            api.refusals.clear()
            await eventually_async(lambda: not sink.codes)
            await api.watched(SPLITS)


async def test_credentials_that_expire(api: FakeApi, tmp_path: Path) -> None:
    """When they are refused the kubeconfig is read again: it may have new ones."""
    api.tokens = {"old"}
    async with watching(api.config(tmp_path, token="old")) as sink:
        await api.watched(ACCOUNTS)
        api.tokens = {"new"}
        api.send(ACCOUNTS, END)
        await eventually_async(lambda: sink.codes == [ProblemCode.SOURCE_UNAVAILABLE])
        (tmp_path / "kubeconfig").write_text("{")
        await asyncio.sleep(0.05)  # some tries with a kubeconfig that is just being written

        api.config(tmp_path, token="new")
        await eventually_async(lambda: sink.codes == [])
        api.put(ACCOUNTS, "b")
        await eventually_async(lambda: sink.accounts == {"a", "b"})


async def test_some_namespaces(api: FakeApi, tmp_path: Path) -> None:
    """With namespaces chosen nothing else is asked for."""
    api.put("/api/v1/namespaces/shop/serviceaccounts", "b")
    config = api.config(tmp_path, namespaces=("shop", "bank"))
    async with watching(config) as sink:
        await eventually_async(sink.is_synced)

    assert list(sink.objects.accounts) == [ServiceAccountRef("shop", "b")]
    asked = {(path, params.get("fieldSelector")) for path, params in api.requests}
    assert ("/api/v1/namespaces", "metadata.name=bank") in asked
    assert all("/namespaces/" in path for path, picked in asked if not picked)


@pytest.mark.parametrize(
    "content, context, message",
    [
        (None, None, "does not exist: give --kubeconfig FILE"),
        ("{", None, "cannot be used"),
        ("", None, "cannot be used: it is no kubeconfig"),
        ("[]", None, "cannot be used"),
        ("{}", None, "cannot be used"),
        ("GOOD", "elsewhere", "context elsewhere cannot be used"),
        ("CA", None, "cannot be"),
    ],
)
async def test_bad_kubeconfigs(
    tmp_path: Path, content: str | None, context: str | None, message: str
) -> None:
    """A kubeconfig that leads nowhere is an error of one line, before anything is served."""
    fake = FakeApi()
    config = fake.config(tmp_path)
    path = tmp_path / "kubeconfig"
    match content:
        case None:
            path.unlink()
        case "GOOD":
            pass
        case "CA":
            good = json.loads(path.read_text())
            good["clusters"][0]["cluster"] = {
                "server": "https://127.0.0.1:1",
                "certificate-authority-data": "bm9uZQ==",
            }
            path.write_text(json.dumps(good))
        case text:
            path.write_text(text)
    source = KubernetesSource(KubernetesConfig(kubeconfig=config.kubeconfig, context=context))

    with pytest.raises(SourceError, match=message) as caught:
        await source.open()

    assert "\n" not in str(caught.value)


async def test_in_cluster_outside_of_one() -> None:
    """Without a service account there is no in-cluster configuration."""
    source = KubernetesSource(KubernetesConfig(kubeconfig=None, in_cluster=True))

    with pytest.raises(SourceError, match="this is no pod with a service account"):
        await source.open()
