"""Which replicas are asked, and what is said of a kubectl that fails; its part is a script's."""

import json
from pathlib import Path
from typing import Any

import pytest

from smi_xds.config import Address, KubernetesConfig
from smi_xds.install.forward import forwarded, ready_replicas
from smi_xds.problems import AskError, NoAnswerError

CONFIG = KubernetesConfig(kubeconfig="/one:/two", context="staging")


class Kubectl:
    """A program of that name, first on PATH, which writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def says(self, output: str = "", *, error: str = "", then: str = "") -> None:
        """What it prints, and does before it ends."""
        (self._folder / "output").write_text(output)
        script = f"""#!/bin/sh
        echo "$KUBECONFIG $@" >> {self._folder}/calls
        cat {self._folder}/output
        echo '{error}' >&2
        {then}
        exit {1 if error else 0}
        """
        path = self._folder / "kubectl"
        path.write_text(script)
        path.chmod(0o755)

    def calls(self) -> list[str]:
        """The KUBECONFIG and arguments of each call."""
        return (self._folder / "calls").read_text().splitlines()


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Kubectl(tmp_path)


def pod(name: str, *, ready: bool = True, leaves: bool = False, phase: str = "Running") -> Any:
    metadata = {"name": name} | ({"deletionTimestamp": "now"} if leaves else {})
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": metadata, "status": {"phase": phase, "conditions": conditions}}


def test_replicas_that_are_ready_are_asked(kubectl: Kubectl) -> None:
    """By name; with the kubeconfig and the context that were given."""
    pods = [pod("c"), pod("a", ready=False), pod("d", leaves=True), pod("b")]
    kubectl.says(json.dumps({"items": pods}))

    assert ready_replicas(CONFIG) == ("b", "c")
    [call] = kubectl.calls()
    assert call.startswith("/one:/two --namespace=smi-xds --context=staging get pods ")


def test_where_none_is_ready_all_are_told(kubectl: Kubectl) -> None:
    """With how they stand; where there are none, what to do."""
    pods = [pod("a", ready=False, phase="Pending"), pod("d", leaves=True)]
    kubectl.says(json.dumps({"items": pods}))
    with pytest.raises(AskError, match=r"\(a is pending, d is leaving\): see `kubectl describe"):
        ready_replicas(CONFIG)

    kubectl.says(json.dumps({"items": []}))
    with pytest.raises(AskError, match="run `smi-xds install`"):
        ready_replicas(CONFIG)


def test_what_kubectl_complains_of_is_passed_on(kubectl: Kubectl) -> None:
    """In one line, whichever of its commands failed."""
    kubectl.says(error="error: no such\n  context")
    with pytest.raises(AskError, match=r"^kubectl get: error: no such context$"):
        ready_replicas(CONFIG)
    with (
        pytest.raises(AskError, match=r"to smi-xds/a ended: error: no such context$"),
        forwarded(CONFIG, ["a"]),
    ):
        pass


def test_it_listens_where_kubectl_says(kubectl: Kubectl) -> None:
    """While the block lasts; other lines that it prints say nothing."""
    kubectl.says("Hello\nForwarding from 127.0.0.1:40123 -> 15010\n", then="exec sleep 60")

    with forwarded(CONFIG, ["a", "b"]) as addresses:
        assert addresses == (Address("127.0.0.1", 40123),) * 2
    assert sorted(kubectl.calls())[0].endswith("port-forward pod/a :15010 --address=127.0.0.1")


def test_a_pod_that_does_not_answer_is_named(kubectl: Kubectl) -> None:
    """Rather than the port of this machine that leads there, which is nobody's server."""
    kubectl.says("Forwarding from 127.0.0.1:40123 -> 15010\n", then="exec sleep 60")

    with (
        pytest.raises(AskError, match=r"^port 15010 of a or b in the namespace smi-xds does not"),
        forwarded(CONFIG, ["a", "b"]) as (address, _),
    ):
        raise NoAnswerError(f"no answer of {address}")
