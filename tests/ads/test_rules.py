"""The list of rules, and the tests that are named after them."""

import re
from pathlib import Path

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "docs" / "xds-rules.md"

# | E1 | text |; a sentence in italics says why there is no test.
ROW = re.compile(r"^\| ([A-Z]\d+) \| (.*) \|$", re.MULTILINE)
TEST = re.compile(r"^(?:async )?def test_([a-z]\d+)_", re.MULTILINE)


def test_every_rule_has_a_test() -> None:
    """One that is named after it, or a reason in the list."""
    rules = dict(ROW.findall(RULES.read_text()))
    tested = {
        found.upper() for path in HERE.glob("test_*.py") for found in TEST.findall(path.read_text())
    }

    assert len(rules) == 10 + 18 + 14 + 6 + 2 + 10
    assert tested - rules.keys() == set(), "a test of an unknown rule"
    excused = {rule for rule, text in rules.items() if text.endswith("*")}
    assert rules.keys() - tested == excused
