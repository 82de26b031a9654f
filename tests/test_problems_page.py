"""`docs/problems.md` has a section for every problem, and its examples have what they show."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from smi_xds.mesh.build import MeshBuilder
from smi_xds.mesh.model import MeshSettings
from smi_xds.problems import ProblemCode
from smi_xds.sources.files import read_folders

PAGE = Path(__file__).parents[1] / "docs" / "problems.md"


@cache
def sections() -> Mapping[str, str]:
    """The text below each heading of the third level."""
    _, *parts = re.split(r"^### (\S+)$", PAGE.read_text(), flags=re.M)
    texts = [re.split(r"^## ", text, flags=re.M)[0] for text in parts[1::2]]
    return dict(zip(parts[::2], texts, strict=True))


def block(text: str, language: str) -> str | None:
    """The first block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    return found[1] if found else None


def test_every_problem_has_a_section_and_every_section_a_problem() -> None:
    """Whoever adds a code writes down what it means."""
    assert sorted(sections()) == sorted(ProblemCode)


@pytest.mark.parametrize("code", ProblemCode)
def test_a_section_says_how_bad_what_happens_and_what_helps(code: ProblemCode) -> None:
    """Severity and objects, an example, what the mesh does meanwhile, the cure; in that order."""
    parts = (
        rf"\*{code.severity} · [^*\n]+\*\n\n",
        r"[A-Z`][^#]+?\n\n",
        r"```(yaml|console)\n.+?```\n\n",
        r"- \*\*Meanwhile:\*\* .+?\.\n",
        r"- \*\*Cure:\*\* .+[.)]",
    )
    text = sections()[code].strip()
    whole = re.fullmatch("".join(parts), text, re.S)
    assert whole is not None, text


@pytest.mark.parametrize("code", [it for it in ProblemCode if block(sections()[it], "yaml")])
def test_an_example_has_the_problem_that_it_shows(code: ProblemCode, tmp_path: Path) -> None:
    """Applied to the mesh at the top of the page, which has none."""
    mesh, example = block(PAGE.read_text(), "yaml mesh"), block(sections()[code], "yaml")
    assert mesh is not None
    assert example is not None
    (tmp_path / "a.yaml").write_text(mesh)
    build = MeshBuilder(MeshSettings())

    assert build(read_folders([tmp_path])).problems == ()
    (tmp_path / "b.yaml").write_text(example)
    assert code in {problem.code for problem in build(read_folders([tmp_path])).problems}
