"""docs/security.md names tests: each is there, and is run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize("file, name", NAMED)
def test_each_test_that_is_named_exists(file: str, name: str) -> None:
    """A claim without its test is a wish."""
    tree = ast.parse((ROOT / file).read_text())
    found = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in found


def test_every_attacker_of_the_threat_model_has_a_chapter() -> None:
    """Those who are to be reckoned with, each with what does not hold or a test."""
    chapters = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    titles = [chapter.partition("\n")[0] for chapter in chapters]
    for attacker in (
        "A malicious workload",
        "A malicious tenant in another namespace",
        "A stolen token",
        "A stolen node",
        "A compromised replica",
        "A hostile object",
        "A hostile xDS client",
    ):
        assert "tests/" in chapters[titles.index(attacker)]
