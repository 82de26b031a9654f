"""The oracle is nobody's echo."""

import ast
from pathlib import Path

EVALUATOR = Path(__file__).parent / "smi"


def test_the_oracle_imports_nothing_of_what_it_judges() -> None:
    """Neither the mesh nor its translation, nor anything else of the program."""
    files = sorted(EVALUATOR.glob("*.py"))
    imported = {name for file in files for name in _imports(ast.parse(file.read_text()))}
    rooms = {name.partition(".")[0] for name in imported}

    assert {file.stem for file in files} == {"judging", "paths", "reading"}
    assert rooms == {"collections", "dataclasses", "fractions", "re", "re2", "tests", "typing"}
    assert {name for name in imported if name.startswith("tests")} == {
        "tests.oracle.smi.paths",
        "tests.oracle.smi.reading",
    }


def _imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module))
        elif isinstance(node, ast.Name):
            assert node.id not in ("__import__", "importlib")
    return found
