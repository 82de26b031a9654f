"""`smi-xds check`: problems of folders, their exit codes and forms."""

import json
import shutil
from pathlib import Path

import pytest

from smi_xds import demo
from tests.support.cli import run_cli

STORY = Path(demo.__file__).with_name("story")

BAD_SPLIT = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: bad, namespace: bookstore}
spec:
  service: nowhere
  backends:
    - {service: bookstore-v1, weight: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORY, tmp_path / "objects"))


def test_a_folder_without_problems_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    """The packaged story is clean, and `check` says so."""
    assert run_cli("check", "--files", STORY) == 0
    assert capsys.readouterr().out == "no problems\n"


def test_a_folder_without_objects_has_no_problems_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that there was nothing to judge: the folder may be the wrong one."""
    assert run_cli("check", "--files", tmp_path) == 0
    assert capsys.readouterr().out == "no problems: no objects\n"


def test_a_problem_is_1_and_is_told_with_its_cure(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Object, field, code, why and cure; and how many there are."""
    (folder / "bad.yaml").write_text(BAD_SPLIT)

    assert run_cli("check", "--files", folder) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("error: TrafficSplit bookstore/bad spec.service [MissingService]\n    ")
    assert shown.endswith("\n1 problem\n")
    assert len(shown.splitlines()) == 4


def test_json_has_every_part_of_a_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The form for programs, with and without problems."""
    (folder / "bad.yaml").write_text(BAD_SPLIT)

    assert run_cli("check", "--files", folder, "--output", "json") == 1
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert {name: problem[name] for name in ("severity", "code", "field", "object")} == {
        "severity": "error",
        "code": "MissingService",
        "field": "spec.service",
        "object": {"kind": "TrafficSplit", "namespace": "bookstore", "name": "bad"},
    }
    assert problem["message"]
    assert problem["cure"]
    assert run_cli("check", "--files", STORY, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"problems": []}


@pytest.mark.parametrize(
    "text, said",
    [
        ("kind: [", "InvalidYAML"),
        (BAD_SPLIT.replace("weight: 1", "weight: much"), "spec.backends[0].weight"),
        (BAD_SPLIT.replace("weight: 1", "wait: 1"), "wait"),
        (BAD_SPLIT.replace("v1alpha4", "v9"), "UnsupportedVersion"),
    ],
)
def test_what_cannot_be_read_is_a_problem_of_its_file(
    text: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad YAML, wrong types, unknown fields and versions are found; the rest is read."""
    (folder / "bad.yaml").write_text(text)

    assert run_cli("check", "--files", folder) == 1
    assert said in capsys.readouterr().out


def test_several_folders_are_read_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one folder refers to may stand in another."""
    (tmp_path / "split").mkdir()
    shutil.copy(STORY / "split.yaml", tmp_path / "split")

    assert run_cli("check", "--files", tmp_path / "split") == 1
    assert run_cli("check", "--files", tmp_path / "split", "--files", STORY) == 1
    assert "DuplicateObject" in capsys.readouterr().out


def test_a_missing_folder_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the folder, on stderr."""
    assert run_cli("check", "--files", tmp_path / "none") == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{tmp_path}/none" in captured.err
    assert captured.err.startswith("smi-xds: ")
    assert len(captured.err.splitlines()) == 1


def test_a_bad_trust_domain_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Options are judged by the same rules as those of `serve`."""
    assert run_cli("check", "--files", STORY, "--trust-domain", "Ünsinn") == 2
    assert "--trust-domain" in capsys.readouterr().err
