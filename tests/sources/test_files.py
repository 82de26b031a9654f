"""The source of files: what is saved reaches the store, soon and whole."""

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from smi_xds.objects.store import Event, Origin, Replaced
from smi_xds.problems import ProblemCode, SourceError
from smi_xds.sources import watcher as watcher_module
from smi_xds.sources.files import FilesSource, read_folders
from tests.sources.recorder import Recorder, running, running_into
from tests.support.wait import eventually_async


def account(*names: str) -> str:
    return "".join(
        f"---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n" for name in names
    )


def watching(*roots: Path) -> AbstractAsyncContextManager[Recorder]:
    """Run a source until the end of the block."""
    return running(FilesSource(roots))


def test_reading_once(tmp_path: Path) -> None:
    """Offline, a folder gives the picture that it would have in serve."""
    (tmp_path / "a.yaml").write_text(account("a"))
    (tmp_path / "b.yaml").write_text("a: [")

    objects = read_folders([tmp_path])

    assert [ref.name for ref in objects.accounts] == ["a"]
    assert [problem.code for problem in objects.problems] == [ProblemCode.INVALID_YAML]


async def test_a_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is an error before anything is served."""
    with pytest.raises(SourceError, match="does not exist"):
        await FilesSource([tmp_path / "away"]).open()


async def test_what_is_there_and_what_is_saved(tmp_path: Path) -> None:
    """What the folder holds is synced first; each save in any folder below follows."""
    (tmp_path / "a.yaml").write_text(account("a"))
    async with watching(tmp_path) as sink:
        await eventually_async(sink.is_synced)
        assert sink.accounts == {"a"}

        (tmp_path / "in/deep").mkdir(parents=True)
        (tmp_path / "in/deep/b.yaml").write_text(account("b"))
        await eventually_async(lambda: sink.accounts == {"a", "b"})

        (tmp_path / "a.yaml").unlink()
        await eventually_async(lambda: sink.accounts == {"b"})


async def test_many_saves(tmp_path: Path) -> None:
    """Saves in quick succession end with the last one, and nothing ever blinks."""
    path = tmp_path / "a.yaml"
    path.write_text(account("a"))
    async with watching(tmp_path) as sink:
        for i in range(60):
            if i % 2:
                path.write_text(account("a", f"b{i}"))
            else:
                (tmp_path / ".new").write_text(account("a", f"b{i}"))
                (tmp_path / ".new").rename(path)
            await asyncio.sleep(0.001)  # other phases of the watcher, not a wait
        await eventually_async(lambda: sink.accounts == {"a", "b59"})

    assert all("a" in picture for picture in sink.pictures)


async def test_a_folder_that_comes_back(tmp_path: Path) -> None:
    """A folder that was removed is a problem, and watched again when it is back."""
    top = tmp_path / "objects"
    top.mkdir()
    (top / "a.yaml").write_text(account("a"))
    async with watching(top) as sink:
        await eventually_async(sink.is_synced)

        shutil.rmtree(top)
        await eventually_async(lambda: sink.codes == [ProblemCode.UNREADABLE_FILE])
        assert sink.accounts == {"a"}

        top.mkdir()
        (top / "b.yaml").write_text(account("b"))
        await eventually_async(lambda: sink.accounts == {"b"} and not sink.codes)

        (top / "c.yaml").write_text(account("c"))
        await eventually_async(lambda: sink.accounts == {"b", "c"})


async def test_without_inotify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no more watches, the folder is looked at every now and then."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watcher_module, "RustNotify", refuse)
    async with watching(tmp_path) as sink:
        (tmp_path / "a.yaml").write_text(account("a"))

        await eventually_async(lambda: sink.accounts == {"a"})


async def test_links_to_elsewhere(tmp_path: Path) -> None:
    """A change of a file that only a link leads to is found without an event."""
    (tmp_path / "watched").mkdir()
    (tmp_path / "a.yaml").write_text(account("a"))
    (tmp_path / "watched/a.yaml").symlink_to(tmp_path / "a.yaml")
    async with watching(tmp_path / "watched") as sink:
        await eventually_async(lambda: sink.accounts == {"a"})

        (tmp_path / "a.yaml").write_text(account("a", "b"))
        await eventually_async(lambda: sink.accounts == {"a", "b"})


async def test_relative_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may be given relative to where the program runs, also a single file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(account("a"))
    async with watching(Path("a.yaml"), Path()) as sink:
        (tmp_path / "a.yaml").write_text(account("b"))

        await eventually_async(lambda: sink.accounts == {"b"})


async def test_a_round_is_one_event(tmp_path: Path) -> None:
    """All that one save changes arrives as one complete set."""
    (tmp_path / "a.yaml").write_text(account("a"))
    seen: list[Sequence[Event]] = []

    class Sink:
        def apply(self, _origin: Origin, events: Sequence[Event], /) -> None:
            seen.append(events)

    source = FilesSource([tmp_path])
    await source.open()
    async with running_into(source, Sink()):
        await eventually_async(lambda: seen)
        (tmp_path / "a.yaml").write_text(account("a", "b", "c"))
        await eventually_async(lambda: len(seen) > 1)

    (event,) = seen[1]
    assert isinstance(event, Replaced)
    assert [it.name for it in event.objects] == ["a", "b", "c"]
