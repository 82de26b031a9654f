"""`smi-xds bootstrap` for sidecars that prove who they are."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from smi_xds.cli.bootstrap_tls import POD_FILES, POD_ROOT, POD_TOKEN
from smi_xds.identity.issuer import wall_clock
from tests.support.cli import run_cli
from tests.support.identity import load_or_create

MANIFEST = Path(__file__).parents[2] / "deploy" / "sidecar" / "pod.yaml"
STORY = Path(__file__).parents[2] / "smi_xds" / "demo" / "story"
BUYER: tuple[str | Path, ...] = ("--files", STORY, "--proxy", "bookbuyer/bookbuyer")


def test_pods_get_a_config_map(capsys: pytest.CaptureFixture[str]) -> None:
    """For all of a namespace, with nothing to be said but the namespace itself."""
    assert run_cli("bootstrap", "--for-pods") == 0

    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["kind"], found["metadata"]["name"]) == ("ConfigMap", "smi-xds-sidecar")
    assert "namespace" not in found["metadata"]
    files = {name: json.loads(text) for name, text in found["data"].items()}
    assert files.keys() == {"envoy.json", "token.json", "trust.json"}
    assert "smi-xds.smi-xds.svc" in found["data"]["envoy.json"]
    assert f"{POD_FILES}/token.json" in found["data"]["envoy.json"]
    [token] = files["token.json"]["resources"]
    assert token["generic_secret"]["secret"]["filename"] == POD_TOKEN
    [trust] = files["trust.json"]["resources"]
    assert trust["validation_context"]["trusted_ca"]["filename"] == POD_ROOT


def test_the_pod_of_the_example_has_it_all_where_it_is_looked_for() -> None:
    """Its volumes are mounted where the ConfigMap says."""
    manifest = yaml.safe_load(MANIFEST.read_text())
    [envoy] = [it for it in manifest["spec"]["initContainers"] if it["name"] == "envoy"]
    mounts = {it["name"]: it["mountPath"] for it in envoy["volumeMounts"]}
    volumes = {it["name"]: it for it in manifest["spec"]["volumes"]}

    assert mounts == {
        "smi-xds": POD_FILES,
        "smi-xds-trust": str(Path(POD_ROOT).parent),
        "smi-xds-token": str(Path(POD_TOKEN).parent),
    }
    [source] = volumes["smi-xds-token"]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "smi-xds"
    assert source["serviceAccountToken"]["path"] == Path(POD_TOKEN).name
    assert volumes["smi-xds"]["configMap"]["name"] == "smi-xds-sidecar"
    assert volumes["smi-xds-trust"]["configMap"]["name"] == "smi-xds-trust"


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_one_proxy_is_told_where_its_token_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files by which Envoy follows it are written where it is told to look."""
    flags = ("--token", tmp_path / "token", "--root", tmp_path / "ca.crt", "--secrets", tmp_path)
    assert run_cli("bootstrap", *BUYER, *flags, "--server-name", "plane.example") == 0

    text = json.dumps(printed(capsys))
    assert "plane.example" in text
    assert str(tmp_path / "token.json") in text
    [token] = json.loads((tmp_path / "token.json").read_text())["resources"]
    assert token["generic_secret"]["secret"]["filename"] == str(tmp_path / "token")


def test_a_vm_is_given_its_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the files by which Envoy follows its renewal, and how long it lasts."""
    load_or_create(tmp_path / "state", trust_domain="cluster.local", now=wall_clock())
    flags = ("--certificates", tmp_path / "vm", "--state-folder", tmp_path / "state")
    assert run_cli("bootstrap", *BUYER, *flags) == 0

    captured = capsys.readouterr()
    assert "The certificate of spiffe://cluster.local/ns/bookbuyer/sa/bookbuyer" in captured.err
    [cluster] = json.loads(captured.out)["static_resources"]["clusters"]
    assert "15013" in json.dumps(cluster["load_assignment"])
    assert {path.name for path in (tmp_path / "vm").iterdir()} == {
        *("tls.crt", "tls.key", "ca.crt"),
        *("certificate.json", "trust.json"),
    }


def test_what_envoy_follows_is_never_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a full disk the files of the last time stay, for an Envoy that starts."""
    flags = ("--token", tmp_path / "token", "--secrets", tmp_path)
    assert run_cli("bootstrap", *BUYER, *flags) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_text

    def half(file: Path, text: str) -> int:
        write(file, text[:10])
        raise OSError(28, "No space left on device")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    monkeypatch.setattr("os.fdopen", full)

    assert run_cli("bootstrap", *BUYER, *flags) == 2

    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "flags, said",
    [
        ((), "Give --files and --proxy, or --for-pods"),
        (("--for-pods", *BUYER), "--files is of one proxy"),
        (("--for-pods", "--proxy", "a/b"), "--proxy is of one proxy"),
        (("--for-pods", "--certificates", "x"), "--certificates is of one proxy"),
        (("--for-pods", "--state-folder", "x"), "--state-folder is of one proxy"),
        (("--for-pods", "--grpc"), "--grpc is of one proxy"),
        (("--for-pods", "--trust-domain", "a"), "--trust-domain says how to understand --files"),
        ((*BUYER, "--server-name", "x"), "--server-name is who to expect over TLS"),
        ((*BUYER, "--grpc", "--server-name", "x"), "--server-name is of a sidecar"),
        ((*BUYER, "--grpc", "--token", "x"), "--token is of a sidecar"),
        ((*BUYER, "--root", "x"), "--root goes with --token"),
        ((*BUYER, "--secrets", "x"), "--secrets goes with --token"),
        ((*BUYER, "--token", "x"), "--token needs --secrets"),
        ((*BUYER, "--token", "x", "--secrets", "y", "--certificates", "z"), "out --certificates"),
        ((*BUYER, "--token", "x", "--secrets", "/dev/null/y"), "cannot be written"),
    ],
)
def test_flags_that_do_not_fit_are_2(
    flags: tuple[str | Path, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line names the flag to change."""
    monkeypatch.chdir(tmp_path)
    assert run_cli("bootstrap", *flags) == 2

    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
