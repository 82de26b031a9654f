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
