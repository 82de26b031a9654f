"""Folders keep their objects through everything that happens to files while they are edited.

The clock is an argument: no test waits.
"""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from smi_xds.objects.kube import EndpointSlice
from smi_xds.problems import ProblemCode, SourceError
from smi_xds.sources.folder import GRACE, SETTLE, Contents, Folder
from smi_xds.sources.reading import MAX_SIZE

_ticks = itertools.count(10**18)


def account(*names: str) -> str:
    return "".join(
        f"---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}}}\n" for name in names
    )


def write(path: Path, text: str) -> None:
    """Write in place, with a time of its own: two writes of a test may fall into one tick."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    tick = next(_ticks)
    os.utime(path, ns=(tick, tick))


def rename_into(path: Path, text: str) -> None:
    """Write as most editors do: beside it, and then rename."""
    write(path.with_name(".new"), text)
    path.with_name(".new").rename(path)


def names(contents: Contents | None) -> list[str]:
    assert contents is not None
    return sorted(it.name for it in contents.objects)


def codes(contents: Contents | None) -> list[tuple[str, ProblemCode]]:
    assert contents is not None
    return [(problem.ref.name, problem.code) for problem in contents.problems]


def loaded(path: Path) -> Folder:
    folder = Folder([path])
    folder.load()
    return folder


def test_all_files_of_a_folder(tmp_path: Path) -> None:
    """Objects come from every file, and a folder without any is no mistake."""
    assert Folder([tmp_path]).load() == Contents()

    write(tmp_path / "a.yaml", account("a", "b"))
    write(tmp_path / "in/c.json", '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c"}}')

    assert names(Folder([tmp_path]).load()) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["away", "loop"])
def test_a_missing_folder(tmp_path: Path, name: str) -> None:
    """A folder that is not there at the start is an error of one line."""
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(SourceError, match=rf"^--files .*{name}: .*; give a folder that is there$"):
        Folder([tmp_path / name]).load()


def test_nothing_happened(tmp_path: Path) -> None:
    """Looking again without a change gives nothing, and asks for no further look."""
    write(tmp_path / "a.yaml", account("a"))
    folder = loaded(tmp_path)

    assert folder.scan(now=1) is None
    assert folder.look_again is None


def test_changes_are_taken_at_once(tmp_path: Path) -> None:
    """A file written in place, renamed into place or new is taken when it is seen."""
    write(tmp_path / "a.yaml", account("a"))
    folder = loaded(tmp_path)

    write(tmp_path / "a.yaml", account("a", "b"))
    assert names(folder.scan(now=1)) == ["a", "b"]

    rename_into(tmp_path / "a.yaml", account("a", "b", "c"))
    assert names(folder.scan(now=1)) == ["a", "b", "c"]

    write(tmp_path / "in/d.yaml", account("d"))
    assert names(folder.scan(now=1)) == ["a", "b", "c", "d"]


def test_a_write_within_one_tick(tmp_path: Path) -> None:
    """A file that is known to have been written is read, even if its times say otherwise."""
    path = tmp_path / "a.yaml"
    write(path, account("a"))
    os.utime(path, ns=(1, 1))
    folder = loaded(tmp_path)
    path.write_text(account("b"))
    os.utime(path, ns=(1, 1))

    assert names(folder.scan(now=1, touched={path})) == ["a", "b"]  # a is leaving


BROKEN = [
    ("a: [", ProblemCode.INVALID_YAML),
    ("a: 1\na: 2\n", ProblemCode.INVALID_YAML),
    ("", ProblemCode.UNREADABLE_FILE),
    ("# all gone\n---\n", ProblemCode.UNREADABLE_FILE),
    ("a: \udcff\n", ProblemCode.INVALID_YAML),
    ("#" * MAX_SIZE + "\n", ProblemCode.UNREADABLE_FILE),
]


@pytest.mark.parametrize("text, code", BROKEN)
def test_a_broken_file_keeps_its_last_good_objects(
    tmp_path: Path, text: str, code: ProblemCode
) -> None:
    """A file that cannot be read, or became empty, is a problem; its objects stay."""
    path = tmp_path / "a.yaml"
    write(path, account("a"))
    folder = loaded(tmp_path)
    path.with_name(".new").write_text(text, errors="surrogateescape")
    path.with_name(".new").rename(path)

    contents = folder.scan(now=1)
    assert (names(contents), codes(contents)) == (["a"], [("a.yaml", code)])
    assert folder.scan(now=100) is None

    rename_into(path, account("b"))
    assert codes(folder.scan(now=200)) == []
    assert names(folder.scan(now=200 + GRACE)) == ["b"]


def test_an_unreadable_file(tmp_path: Path) -> None:
    """A file that became something else keeps its last good objects, too."""
    write(tmp_path / "a.yaml", account("a"))
    folder = loaded(tmp_path)
    (tmp_path / "a.yaml").unlink()
    os.mkfifo(tmp_path / "a.yaml")

    contents = folder.scan(now=100)

    assert (names(contents), codes(contents)) == (["a"], [("a.yaml", ProblemCode.UNREADABLE_FILE)])
    assert folder.look_again is None


def test_a_broken_file_at_the_start(tmp_path: Path) -> None:
    """It is a problem from the start, and the others are read."""
    write(tmp_path / "a.yaml", "a: [")
    write(tmp_path / "b.yaml", account("b"))

    contents = Folder([tmp_path]).load()

    assert (names(contents), codes(contents)) == (["b"], [("a.yaml", ProblemCode.INVALID_YAML)])
    assert contents.problems[0].message == "line 2, column 1: did not find expected node content"


def test_an_empty_file_that_never_had_objects(tmp_path: Path) -> None:
    """It is no problem: there is nothing that could be missed."""
    write(tmp_path / "a.yaml", "# to be written\n")

    assert Folder([tmp_path]).load() == Contents()


@pytest.mark.parametrize(
    "half", ["", "---\napiVersion: v1\nki", account("a"), account("a", "b")[:-2]]
)
def test_a_file_that_is_caught_half_written(tmp_path: Path, half: str) -> None:
    """What is shorter than before, or does not end a line, is waited for; nothing blinks."""
    path = tmp_path / "a.yaml"
    write(path, account("a", "b"))
    folder = loaded(tmp_path)

    write(path, half)
    assert folder.scan(now=1) is None
    assert folder.look_again == 1 + SETTLE
    assert folder.scan(now=1.01) is None

    write(path, account("a", "b", "c"))
    assert names(folder.scan(now=1.02)) == ["a", "b", "c"]
    assert folder.look_again is None


def test_a_file_that_stays_half_written(tmp_path: Path) -> None:
    """When nothing comes any more, what is there counts; each write begins the wait anew."""
    path = tmp_path / "a.yaml"
    write(path, account("a", "b"))
    folder = loaded(tmp_path)

    write(path, account("a")[:-1])
    assert folder.scan(now=1) is None
    write(path, account("c")[:-1])
    assert folder.scan(now=1 + SETTLE) is None
    assert names(folder.scan(now=1 + 2 * SETTLE)) == ["a", "b", "c"]
    assert names(folder.scan(now=1 + 2 * SETTLE + GRACE)) == ["c"]


def test_a_new_file_that_is_half_written(tmp_path: Path) -> None:
    """A new file without the end of its last line is waited for as well."""
    folder = loaded(tmp_path)

    write(tmp_path / "a.yaml", account("a")[:-1])

    assert folder.scan(now=1) is None
    assert names(folder.scan(now=1 + SETTLE)) == ["a"]


def test_whole_json_needs_no_last_line(tmp_path: Path) -> None:
    """JSON that parses is whole."""
    folder = loaded(tmp_path)

    write(tmp_path / "a.json", '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}')

    assert names(folder.scan(now=1)) == ["a"]


def test_a_deleted_file(tmp_path: Path) -> None:
    """The objects of a deleted file go after a moment in which it could have come back."""
    write(tmp_path / "a.yaml", account("a"))
    write(tmp_path / "b.yaml", account("b"))
    folder = loaded(tmp_path)
    (tmp_path / "a.yaml").unlink()

    assert names(folder.scan(now=1)) == ["a", "b"]
    assert folder.look_again == 1 + GRACE
    assert names(folder.scan(now=1.1)) == ["a", "b"]
    assert names(folder.scan(now=1 + GRACE)) == ["b"]
    assert folder.scan(now=2) is None


def test_a_file_that_vanishes_for_a_moment(tmp_path: Path) -> None:
    """An editor that moves the old file away before it writes the new one causes no blink."""
    path = tmp_path / "a.yaml"
    write(path, account("a", "b"))
    folder = loaded(tmp_path)

    path.rename(tmp_path / "a.yaml~")
    assert names(folder.scan(now=1)) == ["a", "b"]
    write(path, account("a", "c"))
    assert names(folder.scan(now=1.01)) == ["a", "b", "c"]
    assert names(folder.scan(now=1 + GRACE)) == ["a", "c"]


def test_an_object_that_moves_to_another_file(tmp_path: Path) -> None:
    """An object that leaves one file and appears in another one was never gone."""
    write(tmp_path / "a.yaml", account("a", "b"))
    folder = loaded(tmp_path)

    rename_into(tmp_path / "a.yaml", account("a"))
    assert names(folder.scan(now=1)) == ["a", "b"]
    write(tmp_path / "b.yaml", account("b"))
    assert names(folder.scan(now=1.2)) == ["a", "b"]
    assert folder.scan(now=1.2 + GRACE) is None


def test_a_mounted_config_map(tmp_path: Path) -> None:
    """Its versions are swapped by one rename of a link; that is one change."""
    for version in ("1", "2"):
        write(tmp_path / f"..{version}/a.yaml", account("a", f"v{version}"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    folder = loaded(tmp_path)

    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")

    assert names(folder.scan(now=1)) == ["a", "v1", "v2"]
    assert names(folder.scan(now=1 + GRACE)) == ["a", "v2"]


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    """It is a problem and everything stays, however long; when it is back, it counts."""
    top = tmp_path / "objects"
    write(top / "in/a.yaml", account("a"))
    folder = loaded(top)
    shutil.move(top, tmp_path / "elsewhere")

    contents = folder.scan(now=1)
    assert (names(contents), codes(contents)) == (["a"], [("objects", ProblemCode.UNREADABLE_FILE)])
    assert folder.scan(now=100) is None

    write(top / "b.yaml", account("b"))
    contents = folder.scan(now=200)
    assert (names(contents), codes(contents)) == (["a", "b"], [])
    assert names(folder.scan(now=200 + GRACE)) == ["b"]


def test_an_invalid_object_among_good_ones(tmp_path: Path) -> None:
    """It keeps its own last good version; the others of the file go on."""
    path = tmp_path / "a.yaml"
    pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIP: %s}\n"
    write(path, account("a") + pod % "10.0.0.1")
    folder = loaded(tmp_path)

    write(path, account("a", "b") + pod % "nonsense")

    contents = folder.scan(now=1)
    assert names(contents) == ["a", "b", "p"]
    assert contents is not None
    assert [str(problem) for problem in contents.problems] == [
        "error: Pod default/p status.podIP: 'nonsense' is not an IP address (a.yaml, line 9) "
        "[InvalidObject] Write an address such as 10.1.2.3 or fd00::1, without port and zone."
    ]
    assert folder.look_again is None


def test_an_object_without_a_name(tmp_path: Path) -> None:
    """A document that no object can be told from is a problem of its file."""
    write(tmp_path / "a.yaml", account("a") + "---\n- 1\n")

    (problem,) = Folder([tmp_path]).load().problems

    assert (problem.ref.kind, problem.ref.name) == ("File", "a.yaml")
    assert problem.message == "the document is no Kubernetes object (line 5)"


def test_an_object_in_two_files(tmp_path: Path) -> None:
    """The file that comes first by name counts; that there is another one is a problem."""
    write(tmp_path / "b.yaml", account("a"))
    write(tmp_path / "a.yaml", account("a"))

    contents = Folder([tmp_path]).load()

    assert names(contents) == ["a"]
    assert [problem.message for problem in contents.problems] == [
        "stands in a.yaml, which counts, and again in b.yaml"
    ]


SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}, annotations: {smi-xds.io/address: 10.0.0.1}}
"""
SLICE = """---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: mine, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2]}]
"""


def test_endpoints_are_derived_where_none_are_given(tmp_path: Path) -> None:
    """A Service without slices of its own gets those that Kubernetes would make."""
    write(tmp_path / "a.yaml", SERVICE)
    folder = Folder([tmp_path])
    derived = [it for it in folder.load().objects if isinstance(it, EndpointSlice)]
    write(tmp_path / "b.yaml", SLICE)
    contents = folder.scan(now=1)
    assert contents is not None
    given = [it for it in contents.objects if isinstance(it, EndpointSlice)]

    assert [(it.name, it.endpoints[0].addresses) for it in derived] == [
        ("web.derived-ipv4", ("10.0.0.1",))
    ]
    assert [(it.name, it.endpoints[0].addresses) for it in given] == [("mine", ("10.0.0.2",))]


def test_endpoints_from_two_folders(tmp_path: Path) -> None:
    """Several folders are read as one: services of one may select pods of another."""
    service, _, pod = SERVICE.partition("---\napiVersion: v1\nkind: Pod")
    write(tmp_path / "one/a.yaml", service)
    write(tmp_path / "two/b.yaml", "apiVersion: v1\nkind: Pod" + pod)

    contents = Folder([tmp_path / "one", tmp_path / "two"]).load()

    assert names(contents) == ["web", "web-1", "web.derived-ipv4"]
