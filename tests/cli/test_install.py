"""`smi-xds install`: what it prints without a cluster, and what it says where there is none."""

import json
from pathlib import Path

import pytest
import yaml

from smi_xds.install.manifests import installation
from smi_xds.install.workload import Choices
from tests.support.cli import run_cli


def test_a_dry_run_prints_the_manifests(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, in order, as kubectl takes them; nobody is asked."""
    assert run_cli("install", "--dry-run", "--kubeconfig", "/nowhere", "--image", "here/it:7") == 0

    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == list(installation(Choices(image="here/it:7")).all)


def test_further_flags_are_those_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    """They go to the pods as they are; what is none is refused before anything is applied."""
    more = ("--leaf-lifetime", "12h", "--cert-manager-ca=/in/the/pod")
    assert run_cli("install", "--dry-run", "--", *more) == 0
    [*_, deployment] = yaml.safe_load_all(capsys.readouterr().out)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert tuple(container["args"][-3:]) == more

    for flags, said in {("--leaf", "1h"): "--leaf", ("12h",): "'12h' is no flag"}.items():
        assert run_cli("install", "--dry-run", "--", *flags) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert said in captured.err


def test_a_missing_kubeconfig_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the flag that mends it."""
    assert run_cli("install", "--kubeconfig", tmp_path / "none") == 2

    [line] = capsys.readouterr().err.splitlines()
    assert "give --kubeconfig FILE" in line


def test_an_api_server_that_is_away_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the server."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "here",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))

    assert run_cli("install", "--kubeconfig", path) == 2

    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("smi-xds: no answer of the API server at https://127.0.0.1:1: ")
