"""The authority's state in a Secret: made by whoever is first, shared by all."""

import base64
from collections.abc import Callable
from http import HTTPStatus

import pytest

from smi_xds.app.state_secret import SecretStore
from smi_xds.config import SecretName
from smi_xds.identity.signer import create_signer
from smi_xds.identity.state import (
    ConflictError,
    UnreachableStateError,
    files_of,
    read_state,
    state_of,
)
from smi_xds.problems import IdentityError
from smi_xds.sources.kube_api import RefusedError, UnreachableError
from tests.support.identity import NOW
from tests.writeback.fakes import FakeApi

PATH = "/api/v1/namespaces/smi-xds/secrets/smi-xds-ca"
FILES = files_of(state_of(create_signer("cluster.local", now=NOW), now=NOW))


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def mk_store(api: FakeApi) -> SecretStore:
    return SecretStore(api, SecretName("smi-xds", "smi-xds-ca"))


async def test_the_first_creates_it_and_others_read_it(api: FakeApi) -> None:
    """As an opaque Secret, which says whose it is."""
    store = mk_store(api)
    nothing = await store.read()
    assert nothing.files == {}

    await store.write(FILES, over=nothing)

    made = api.objects[PATH]
    assert made["type"] == "Opaque"
    assert made["metadata"]["labels"] == {"app.kubernetes.io/name": "smi-xds"}
    other = mk_store(api)
    stored = await other.read()
    assert stored.files == FILES
    assert read_state(stored, other, now=NOW) is not None


async def test_who_comes_second_takes_what_the_first_one_made(api: FakeApi) -> None:
    """Neither a creation nor a change is overwritten."""
    first, second = mk_store(api), mk_store(api)
    nothing = await first.read()
    assert (await second.read()).version == nothing.version
    await first.write(FILES, over=nothing)

    with pytest.raises(ConflictError):
        await second.write({"authority.json": b"other"}, over=nothing)

    stored, known = await first.read(), await second.read()
    await first.write({**FILES, "ca.crt": b"changed"}, over=stored)
    with pytest.raises(ConflictError):
        await second.write(FILES, over=known)
    with pytest.raises(ConflictError):
        await second.write(FILES, over=nothing)
    assert (await second.read()).files["ca.crt"] == b"changed"


async def test_what_an_installer_made_is_filled_and_kept(api: FakeApi) -> None:
    """An empty Secret will do; labels and keys of others stay, a former root's key goes."""
    encoded = base64.b64encode(b"old").decode()
    metadata = {"namespace": "smi-xds", "name": "smi-xds-ca", "labels": {"team": "mesh"}}
    api.put(PATH, {"metadata": metadata, "data": {"ca.key": encoded, "note": encoded}})
    store = mk_store(api)
    stored = await store.read()
    assert stored.files == {"ca.key": b"old"}

    await store.write(FILES, over=stored)

    made = api.objects[PATH]
    assert sorted(made["data"]) == ["authority.json", "ca.crt", "note"]
    assert made["metadata"]["labels"] == {"team": "mesh"}


async def test_an_api_server_that_is_away_may_come_back(api: FakeApi) -> None:
    """That is another error than one that stays."""
    api.fail = lambda *_: UnreachableError("no route")

    with pytest.raises(UnreachableStateError, match="Secret smi-xds/smi-xds-ca cannot be reached"):
        await mk_store(api).read()


@pytest.mark.parametrize(
    "method, ask", [("GET", mk_store), ("POST", mk_store)], ids=["read", "create"]
)
async def test_what_is_refused_is_one_line(
    api: FakeApi, method: str, ask: Callable[[FakeApi], SecretStore]
) -> None:
    """Which Secret, what the API server said, and where to look."""
    store = ask(api)
    nothing = await store.read()
    api.fail = lambda asked, _: (
        RefusedError(HTTPStatus.FORBIDDEN, "not allowed") if asked == method else None
    )

    with pytest.raises(IdentityError) as caught:
        await (store.read() if method == "GET" else store.write(FILES, over=nothing))

    assert str(caught.value).startswith("Secret smi-xds/smi-xds-ca cannot be ")
    assert "not allowed: see what smi-xds may do" in str(caught.value)


async def test_old_credentials_are_renewed_once(api: FakeApi) -> None:
    """A token that was rotated is read again."""
    api.fail = lambda *_: None if api.renewals else RefusedError(HTTPStatus.UNAUTHORIZED, "old")

    assert (await mk_store(api).read()).files == {}
    assert api.renewals == 1

    api.fail = lambda *_: RefusedError(HTTPStatus.UNAUTHORIZED, "still")
    with pytest.raises(IdentityError, match="still"):
        await mk_store(api).read()


async def test_errors_name_the_part(api: FakeApi) -> None:
    """With the cure for a Secret."""
    store = mk_store(api)
    await store.write({"authority.json": b"garbage"}, over=await store.read())

    with pytest.raises(IdentityError) as caught:
        read_state(await store.read(), store, now=NOW)

    assert str(caught.value) == (
        "Secret smi-xds/smi-xds-ca: authority.json is not a readable JSON object: restore it from "
        "a backup, or delete Secret smi-xds/smi-xds-ca, so that a new authority is made"
    )


NO_SECRETS = (
    *(b"", b"\xff", b"[]", b"[" * 5000, b'{"kind": "Status"}', b'{"metadata": {}, "data": {}}'),
    b'{"metadata": {"resourceVersion": "7"}, "data": {"authority.json": 5}}',
)


@pytest.mark.parametrize("answer", NO_SECRETS)
async def test_what_is_no_secret_is_not_believed(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """A proxy on the way may say anything with 200: the next look may see the Secret."""
    store = mk_store(api)
    await store.write(FILES, over=await store.read())
    stored = await store.read()

    async def other(_: str) -> bytes:
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(api, "read", other)
        with pytest.raises(UnreachableStateError, match="Secret smi-xds/smi-xds-ca: what came is"):
            await store.read()
    await store.write({**FILES, "ca.crt": b"changed"}, over=stored)
    assert (await store.read()).files["ca.crt"] == b"changed"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_an_api_server_that_is_busy_is_asked_again(api: FakeApi, status: int) -> None:
    """At the start as well: a server that waits is there sooner than one that is started anew."""
    api.fail = lambda *_: RefusedError(status, "etcdserver: leader changed")

    with pytest.raises(UnreachableStateError, match="cannot be read just now: etcdserver"):
        await mk_store(api).read()
