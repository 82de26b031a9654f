"""Which files of a folder are read."""

import os
from pathlib import Path

import pytest

from smi_xds.sources.walk import walk


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a: 1\n")


def labels(*roots: Path) -> list[str]:
    found, unreadable = walk(roots)
    assert unreadable == []
    return [file.label for file in found]


def test_nested_folders(tmp_path: Path) -> None:
    """YAML and JSON files of all folders below are found, in a stable order."""
    for name in ("b/c/d.json", "b/a.yml", "a.yaml", "z.yaml", "notes.txt", "x.yaml~", "b.yaml.bak"):
        write(tmp_path / name)

    assert labels(tmp_path) == ["a.yaml", "b/a.yml", "b/c/d.json", "z.yaml"]


def test_hidden_entries(tmp_path: Path) -> None:
    """Hidden files and folders are not read, links through them are: a mounted ConfigMap."""
    write(tmp_path / "..2024_01/a.yaml")
    write(tmp_path / ".git/b.yaml")
    write(tmp_path / ".a.yaml.swp.yaml")
    (tmp_path / "..data").symlink_to("..2024_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")

    assert labels(tmp_path) == ["a.yaml"]


def test_links_in_a_circle(tmp_path: Path) -> None:
    """Links to a folder above, or to each other, end."""
    write(tmp_path / "a/b.yaml")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/again").symlink_to(tmp_path / "a")
    (tmp_path / "nowhere.yaml").symlink_to("nothing")

    assert labels(tmp_path) == ["a/b.yaml"]


def test_a_link_to_itself(tmp_path: Path) -> None:
    """It cannot be read, which is said."""
    (tmp_path / "self.yaml").symlink_to("self.yaml")

    found, unreadable = walk([tmp_path])

    assert found == []
    assert [it.label for it in unreadable] == ["self.yaml"]


def test_several_folders(tmp_path: Path) -> None:
    """With several folders each label says in which one it is; a folder inside is read once."""
    write(tmp_path / "a/x.yaml")
    write(tmp_path / "a/in/y.yaml")
    roots = (tmp_path / "a", tmp_path / "a/in")

    assert labels(*roots) == [str(tmp_path / "a/in/y.yaml"), str(tmp_path / "a/x.yaml")]


def test_a_single_file(tmp_path: Path) -> None:
    """A file may be given itself, whatever its name."""
    write(tmp_path / "objects.txt")

    assert labels(tmp_path / "objects.txt") == ["objects.txt"]


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe is never opened: that would wait for a writer."""
    os.mkfifo(tmp_path / "pipe.yaml")

    found, unreadable = walk([tmp_path])

    assert found == []
    assert [(it.label, it.reason) for it in unreadable] == [("pipe.yaml", "is not a regular file")]


def test_a_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there is said; what is below it stays unknown."""
    _, unreadable = walk([tmp_path / "away"])

    assert [(it.path, it.reason) for it in unreadable] == [(tmp_path / "away", "does not exist")]


def test_a_forbidden_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may not be read is said, the rest is found."""
    write(tmp_path / "in/a.yaml")
    write(tmp_path / "b.yaml")
    scandir = os.scandir

    def refuse(path: Path) -> object:  # root, who may run tests, is refused nothing
        if Path(path).name == "in":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    found, unreadable = walk([tmp_path])

    assert [file.label for file in found] == ["b.yaml"]
    assert [(it.label, it.reason) for it in unreadable] == [("in", "permission denied")]
