"""The story's files and edits."""

from pathlib import Path

import pytest
import yaml

from smi_xds.demo.story import ACCESS, SPLIT, STEPS, WorkFolder, changed_lines, packaged


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    folder = WorkFolder(tmp_path / "work", "127.99.3")
    folder.fill()
    return folder


def objects(folder: WorkFolder) -> dict[tuple[str, str], dict[str, object]]:
    documents = [
        document
        for file in sorted(folder.path.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
    ]
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in documents if doc}


def play(folder: WorkFolder, *, until: str) -> str:
    """Play the steps up to that one; return its diff."""
    for step in STEPS:
        diff = folder.edit(step.file, step.edit)
        if step.name == until:
            return diff
    raise AssertionError(until)


def weights(folder: WorkFolder) -> dict[str, int]:
    spec = objects(folder)["TrafficSplit", "bookstore"]["spec"]
    assert isinstance(spec, dict)
    return {backend["service"]: backend["weight"] for backend in spec["backends"]}


def test_the_story_begins_without_a_split_and_without_the_thief(folder: WorkFolder) -> None:
    """What the first steps add is not there yet."""
    assert not (folder.path / SPLIT).exists()
    assert ("TrafficTarget", "thief") not in objects(folder)


def test_addresses_are_moved_to_the_block_of_this_run(folder: WorkFolder) -> None:
    """No address of the packaged files is left in the copy."""
    text = "".join(file.read_text() for file in folder.path.iterdir())

    assert "127.0.1." not in text
    assert "smi-xds.io/address: 127.99.3.11" in text


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_changes_something_and_shows_it(folder: WorkFolder, step: object) -> None:
    """The files stay valid YAML, and the lines that changed are told without comments."""
    name = getattr(step, "name", "")
    diff = play(folder, until=name)

    assert objects(folder)
    assert diff
    assert all(line[0] in "+-" and line[1:2] != "#" for line in diff.splitlines())


def test_weights_are_those_that_the_step_expects(folder: WorkFolder) -> None:
    """What a step writes and what its verdict expects are the same weights."""
    for step in STEPS:
        folder.edit(step.file, step.edit)
        assert weights(folder) == step.shares["bookbuyer"], step.name


def test_the_thief_comes_and_goes_by_a_comment(folder: WorkFolder) -> None:
    """Allowing and denying it again restores the file to the letter."""
    play(folder, until="v2 only")
    before = (folder.path / ACCESS).read_text()
    play(folder, until="the thief is allowed")
    assert ("TrafficTarget", "thief") in objects(folder)
    play(folder, until="the thief is denied")

    assert (folder.path / ACCESS).read_text() == before


def test_the_ab_step_adds_a_split_with_matches(folder: WorkFolder) -> None:
    """The last step takes the marks off the second split."""
    play(folder, until="A/B by header")

    assert {("TrafficSplit", "bookstore-beta"), ("HTTPRouteGroup", "beta-readers")} <= set(
        objects(folder)
    )


def test_a_file_that_a_step_edits_twice_is_the_same(folder: WorkFolder) -> None:
    """Edits are idempotent: taking a mark off that is off already changes nothing."""
    play(folder, until="A/B by header")
    step = STEPS[-1]

    assert folder.edit(step.file, step.edit) == ""


def test_changed_lines_leave_comments_and_surroundings_out() -> None:
    """Only lines that went and came are shown."""
    before, after = "a\n# c\nb\n", "a\n# d\nB\n"

    assert changed_lines(before, after) == "-b\n+B"


def test_the_packaged_split_is_whole() -> None:
    """The packaged folder can be read as it is, outside the demo too."""
    assert len(list(yaml.safe_load_all(packaged(SPLIT)))) == 1
