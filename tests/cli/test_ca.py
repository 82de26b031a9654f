"""`smi-xds ca`: what it shows of a state, and what it does to one."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from smi_xds.identity.document import Report, State
from smi_xds.identity.issuer import wall_clock
from smi_xds.identity.rotation import advance, reported
from smi_xds.identity.state import (
    FolderStore,
    Stored,
    UnreachableStateError,
    files_of,
    read_state,
)
from tests.support.cli import run_cli
from tests.support.identity import load_or_create


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder in which a server was started."""
    load_or_create(tmp_path / "state", trust_domain="cluster.local", now=wall_clock())
    return tmp_path / "state"


def state_in(folder: Path) -> State:
    store = FolderStore(folder)
    state = read_state(store.load(), store, now=wall_clock())
    assert state is not None
    return state


def put(folder: Path, state: State) -> None:
    store = FolderStore(folder)
    store.save(files_of(state), over=store.load())


def rotate(folder: Path, *arguments: str) -> int:
    return run_cli("ca", "rotate", "--state-folder", folder, *arguments)


def shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = run_cli("ca", "status", "--state-folder", folder, "--output", "json")
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, document


def mk_report(*, waiting: int = 0, refusing: int = 0, floor: float = 60.0) -> Report:
    now = wall_clock()
    return Report(
        since=now,
        at=now,
        floor=timedelta(seconds=floor),
        waiting=waiting,
        refusing=refusing,
        named=("shop/web",) if waiting + refusing else (),
    )


def test_without_a_rotation_there_is_one_root(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It signs, and the exit code is 0."""
    assert run_cli("ca", "status", "--state-folder", folder) == 0
    text = capsys.readouterr().out
    assert text.count("cluster.local  signs  the root itself") == 1
    assert "No rotation is under way" in text

    code, document = shown(folder, capsys)

    assert code == 0
    assert document["phase"] == "steady"
    assert document["next"] is None


def test_a_rotation_begins_with_trust(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is a second root, which does not sign; the exit code of status says so."""
    before = state_in(folder).signer.fingerprint

    assert rotate(folder) == 0

    assert "Phase 1 of 2" in capsys.readouterr().out
    state = state_in(folder)
    assert state.active.fingerprint == before
    assert len(state.authority().roots) == 2
    assert (folder / "ca.crt").read_text().count("BEGIN CERTIFICATE") == 2
    code, document = shown(folder, capsys)
    assert code == 1
    assert [it["role"] for it in document["signers"]] == ["signs", "next"]  # type: ignore[attr-defined]


def test_no_key_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in tables nor in JSON."""
    rotate(folder)
    _, document = shown(folder, capsys)

    run_cli("ca", "status", "--state-folder", folder)

    everything = json.dumps(document) + capsys.readouterr().out
    assert "PRIVATE" not in everything
    for line in state_in(folder).authority().trust_bundle.decode().splitlines():
        assert not line.strip() or line not in everything


def test_what_is_waited_for_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Proxies that have not acknowledged, those that refuse, and how to go on without them."""
    rotate(folder)
    put(folder, reported(state_in(folder), "one", mk_report(waiting=1, refusing=2)))

    code, document = shown(folder, capsys)
    run_cli("ca", "status", "--state-folder", folder)
    text = capsys.readouterr().out

    assert code == 1
    following = document["next"]
    assert isinstance(following, dict)
    assert (following["waiting"], following["refusing"]) == (1, 2)
    assert following["proxies"] == ["shop/web"]
    assert "1 to acknowledge and 2 that refuse (--force goes on without them)" in text
    assert "Not yet acknowledged by: shop/web" in text


def test_force_goes_on_without_those_who_refuse(folder: Path) -> None:
    """But never before what they hold has ended."""
    rotate(folder)
    put(folder, reported(state_in(folder), "one", mk_report(refusing=1)))
    later = wall_clock() + timedelta(seconds=59)
    assert advance(state_in(folder), now=later) is None

    assert rotate(folder, "--force") == 0

    state = state_in(folder)
    report = state.replicas["one"]
    assert advance(state, now=report.at + timedelta(seconds=59)) is None
    state = reported(state, "two", replace(mk_report(refusing=1), at=later))
    assert advance(state, now=later + timedelta(seconds=2)) is not None
    assert advance(replace(state, forced=False), now=later + timedelta(seconds=2)) is None


def test_a_rotation_can_be_given_up_before_it_signs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then all is as it was, and another one may begin."""
    before = state_in(folder).authority().trust_bundle
    rotate(folder)

    assert rotate(folder, "--abort") == 0

    assert state_in(folder).authority().trust_bundle == before
    assert rotate(folder, "--abort") == 2
    assert "none is under way" in capsys.readouterr().err
    assert rotate(folder) == 0


def test_one_rotation_at_a_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is told what to look at."""
    rotate(folder)
    before = (folder / "authority.json").read_bytes()

    assert rotate(folder) == 2

    assert "a rotation is under way (phase trust): see `smi-xds ca status`, which exits with 0" in (
        capsys.readouterr().err
    )
    assert (folder / "authority.json").read_bytes() == before


def test_a_trust_domain_changes_by_the_same_road(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new one is accepted at once, and is signed when the new root signs."""
    assert rotate(folder, "--trust-domain", "example.org") == 0

    _, document = shown(folder, capsys)
    assert document["trustDomain"] == "cluster.local"
    assert document["aliases"] == ["example.org"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--force",), "there is no rotation to force"),
        (("--trust-domain", "No Domain"), "cannot be a trust domain"),
        (("--force", "--abort"), "give one of them alone"),
        (("--abort", "--trust-domain", "example.org"), "give one of them alone"),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2, and nothing written."""
    before = (folder / "authority.json").read_bytes()

    assert rotate(folder, *arguments) == 2

    assert said in capsys.readouterr().err
    assert (folder / "authority.json").read_bytes() == before


@pytest.mark.parametrize("make", [False, True])
def test_where_no_authority_is_one_line_says_so(
    tmp_path: Path, make: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong folder does not become a state folder."""
    folder = tmp_path / "typo"
    if make:
        folder.mkdir(mode=0o700)

    assert run_cli("ca", "status", "--state-folder", folder) == 2

    assert "has no certificate authority" in capsys.readouterr().err
    assert folder.exists() == make


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--state-secret", "a/b", "--state-folder", "x"), "exclude each other"),
        (("--state-secret", "a"), "is not NAMESPACE/NAME of a Secret"),
        (("--context", "x"), "--context says where --state-secret is"),
        (("--in-cluster",), "--in-cluster says where --state-secret is"),
    ],
)
def test_where_it_is_kept_is_one_place(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flags that contradict each other are refused."""
    assert run_cli("ca", "status", *arguments) == 2

    assert said in capsys.readouterr().err


def test_a_folder_that_is_not_ours_to_see_is_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, which says as whom to try again."""

    def hidden(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    # As Python 3.11 looks whether there is a folder, and a file.
    for name in ("exists", "is_dir"):
        monkeypatch.setattr(Path, name, hidden)

    assert run_cli("ca", "status", "--state-folder", folder) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"smi-xds: {folder} cannot be read: Permission denied: do this as the")
    assert said.count("\n") == 1


def test_who_waits_outlives_an_api_server_that_is_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rotation takes days: what cannot be read for a while is said, and looked at again."""
    answers: list[Exception | None] = [None, UnreachableStateError("it is away"), None]
    read, steady = FolderStore.read, state_in(folder)

    async def reading(store: FolderStore) -> Stored:
        if answers and (error := answers.pop(0)) is not None:
            raise error
        if not answers:
            put(folder, steady)
        return await read(store)

    monkeypatch.setattr(FolderStore, "read", reading)
    monkeypatch.setattr("smi_xds.cli.ca_work._EVERY", 0.0)

    assert rotate(folder, "--wait") == 0

    lines = capsys.readouterr().out.splitlines()
    assert "Phase 1 of 2" in lines[0]
    assert lines[1] == "it is away: tried again and again"
    assert "No rotation is under way" in lines[2]
