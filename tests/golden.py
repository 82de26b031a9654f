"""Golden cases: what a user applies, and what becomes of it at both seams.

A folder of `tests/cases` is a sentence about a behaviour. `case.yaml` says why it exists and with
which settings, `in.yaml` is what a user would apply; the rest is written by
`python -m tests.golden` and is there to be read: `mesh.yaml`, `problems.yaml`, and for each proxy
that the case names (else for all) `xds/<namespace>.<name>.yaml`.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import Mesh, MeshSettings
from smi_xds.mesh.plain import plain
from smi_xds.problems import Problem
from smi_xds.sources.files import read_folders
from smi_xds.values import AccessMode, Mode, ProxyId, Secret, SpiffeId
from smi_xds.xds.dump import set_json
from smi_xds.xds.resources import Resource, ResourceSet
from smi_xds.xds.secrets import Credentials, leaf_secret
from smi_xds.xds.translate import Translator

CASES = Path(__file__).parent / "cases"

WRITTEN_BY_HAND = ("case.yaml", "in.yaml")

_OPTIONS = {"why", "access", "mtls", "proxies"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case: its folder, and what its `case.yaml` says."""

    folder: Path
    why: str
    settings: MeshSettings
    proxies: tuple[str, ...]

    @property
    def name(self) -> str:
        """The sentence."""
        return self.folder.name


@cache
def cases() -> tuple[Case, ...]:
    """All cases, by name."""
    return tuple(_read(folder) for folder in sorted(CASES.iterdir()) if folder.is_dir())


def _read(folder: Path) -> Case:
    options = yaml.safe_load((folder / "case.yaml").read_text())
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise ValueError(f"{folder.name}/case.yaml: unknown {', '.join(sorted(unknown))}")
    return Case(
        folder=folder,
        why=options.get("why") or "",
        settings=MeshSettings(
            access=AccessMode(options.get("access", "strict")),
            mtls=Mode(options.get("mtls", "strict")),
        ),
        proxies=tuple(options.get("proxies", ())),
    )


def build(case: Case) -> Mesh:
    """The mesh of a case."""
    return MeshBuilder(case.settings)(read_folders([case.folder / "in.yaml"]))


def translate(
    mesh: Mesh, leaves: Mapping[SpiffeId, Resource] | None = None, *, bundle: bytes = b"roots"
) -> Mapping[str, ResourceSet]:
    """The resources of all proxies; without credentials given, with some that never change."""
    if leaves is None:
        leaf = leaf_secret(b"certificate", Secret(b"key"))
        leaves = {workload.identity: leaf for workload in mesh.workloads.values()}
    return Translator()(mesh, credentials=Credentials(trust_bundle=bundle, leaves=leaves))


def render(case: Case) -> dict[str, str]:
    """All that is written for a case: the text of each file, by its path in the case's folder."""
    mesh = build(case)
    understood = plain(mesh)
    assert isinstance(understood, dict)
    understood.pop("problems", None)
    texts = {
        "mesh.yaml": _dump(understood),
        "problems.yaml": _dump([_problem(problem) for problem in mesh.problems]),
    }
    sets = translate(mesh)
    for node in case.proxies or sets:
        proxy = ProxyId.parse(node)
        texts[f"xds/{proxy.namespace}.{proxy.name}.yaml"] = _dump(set_json(sets[node]))
    return texts


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "object": str(problem.ref),
        "field": problem.field,
        "problem": f"{problem.code.severity} {problem.code}",
        "message": problem.message,
        "cure": problem.cure,
    }


def _dump(value: object) -> str:
    text: str = yaml.dump(
        value, Dumper=yaml.CSafeDumper, sort_keys=False, width=100, allow_unicode=True
    )
    return text


def stored(case: Case) -> dict[str, str]:
    """What was written before."""
    return {
        str(path.relative_to(case.folder)): path.read_text()
        for path in sorted(case.folder.rglob("*"))
        if path.is_file() and path.name not in WRITTEN_BY_HAND
    }


def rewrite(case: Case) -> Iterator[str]:
    """Write a case anew, and delete what it no longer has; the paths that changed."""
    before, after = stored(case), render(case)
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path):
            continue
        file = case.folder / path
        if path in after:
            file.parent.mkdir(exist_ok=True)
            file.write_text(after[path])
        else:
            file.unlink()
        yield f"{case.name}/{path}"


def main() -> int:
    """Rewrite every case, and say which files changed."""
    if os.environ.get("CI") == "true":
        sys.stderr.write("golden cases are not rewritten in CI: run `make golden`, read the diff\n")
        return 1
    for case in cases():
        for path in rewrite(case):
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
