"""`smi-xds install`: what it prints without a cluster, and what it says where there is none."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from smi_xds.cli.serve import configured, serve
from smi_xds.install.manifests import installation
from smi_xds.install.workload import Choices, arguments
from tests.support.cli import run_cli

PAGE = Path(__file__).parents[2] / "docs" / "install.md"
TITLE = "Files in the pods"


@pytest.mark.parametrize("flags", [("--wait",), ("--force",), ("--output", "json")])
def test_a_dry_run_applies_nothing(
    flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks for what comes of applying is told, rather than shown manifests."""
    assert run_cli("install", "--dry-run", *flags) == 2

    assert f"{flags[0]} is about applying" in capsys.readouterr().err


def test_a_dry_run_prints_the_manifests(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, in order, as kubectl takes them; nobody is asked."""
    assert run_cli("install", "--dry-run", "--kubeconfig", "/nowhere", "--image", "here/it:7") == 0

    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == list(installation(Choices(image="here/it:7")).all)


@pytest.mark.parametrize("image", ["", " ", "registry.example/a b"])
def test_what_is_no_image_is_refused(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As of a variable that is not set: the default would take the place of what is there."""
    assert run_cli("install", "--dry-run", "--image", image) == 2
    assert f"{image!r} is no image" in capsys.readouterr().err


def test_further_flags_are_those_of_serve(capsys: pytest.CaptureFixture[str]) -> None:
    """They go to the pods as they are."""
    more = ("--leaf-lifetime", "12h", "--cert-manager=smi-xds/Issuer/mesh", "--no-write-back")
    assert run_cli("install", "--dry-run", "--", *more) == 0
    [*_, deployment] = yaml.safe_load_all(capsys.readouterr().out)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert tuple(container["args"][-len(more) :]) == more


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--leaf", "1h"), "No such option '--leaf'"),
        (("12h",), "12h"),
        (("--log-level", "loud"), "'loud' is not one of"),
        (("--leaf-lifetime", "bogus"), "--leaf-lifetime 'bogus' is no time"),
        (("--webhook-address=off",), "--webhook-address 'off' is not HOST:PORT"),
        (("--namespace", "A"), "--namespace 'A'"),
        (("--state-folder", "/state"), "--state-secret and --state-folder exclude each other"),
        (("--ca-cert", "/a.pem"), "--ca-cert names a file"),
        (("--ca-key", "/a.pem"), "--ca-key names a file"),
        (("--ca-root=/a.pem",), "--ca-root names a file"),
        (("--cert-manager=a/Issuer/b", "--cert-manager-ca=/a.pem"), "--cert-manager-ca names"),
        (("-f", "/objects"), "--files names a file"),
    ],
)
def test_what_would_not_start_is_refused(
    flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is applied: `serve` judges the flags here as it would in the pod."""
    assert run_cli("install", "--dry-run", "--", *flags) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_the_machine_of_the_operator_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pod has in its environment is not what is here."""
    monkeypatch.delenv("HOME")

    assert run_cli("install", "--dry-run") == 0


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")
def test_files_come_into_the_pods_as_documented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kustomization of docs/install.md mounts what the flags that it adds name."""
    _, section = PAGE.read_text().split(f"## {TITLE}\n")
    [kustomization, *_] = re.findall(r"^```yaml\n(.*?)^```", section, re.M | re.S)
    (tmp_path / "kustomization.yaml").write_text(kustomization)
    assert run_cli("install", "--dry-run", "--image", "here/it:7") == 0
    (tmp_path / "smi-xds.yaml").write_text(capsys.readouterr().out)

    built = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout

    [deployment] = (it for it in yaml.safe_load_all(built) if it["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [volume], [mount] = pod["volumes"], container["volumeMounts"]
    plain = arguments(Choices(image="here/it:7"))
    assert container["args"][: len(plain)] == plain
    _, *whole = container["args"]
    config = configured(**serve.make_context("serve", whole).params)
    brought = config.authority.brought
    assert brought is not None
    files = {brought.chain, brought.key, brought.root}
    assert {it.parent.as_posix() for it in files if it} == {mount["mountPath"]}
    assert mount["name"] == volume["name"]
    assert volume["secret"]["secretName"] in section


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
