"""What `make audit` makes of pip-audit's answers."""

import json

from tests.audit import CLEAN, NOT_LOOKED_AT, VULNERABLE, verdict

FINE = {"name": "fine", "version": "1.0", "vulns": []}
BAD = {
    "name": "bad",
    "version": "2.0",
    "vulns": [
        {"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]},
        {"id": "PYSEC-2", "fix_versions": []},
    ],
}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


def judged(*packages: object) -> tuple[int, tuple[str, ...]]:
    return verdict(json.dumps({"dependencies": packages, "fixes": []}), "")


def test_nothing_known_of_all_is_success() -> None:
    """With how many that are."""
    assert judged(FINE, FINE) == (CLEAN, ("2 packages, of none a vulnerability is known",))


def test_each_vulnerability_is_told_with_its_cure() -> None:
    """Also where others could not be looked at."""
    known = (
        "bad 2.0: PYSEC-1, mended in 2.1, 3.0",
        "bad 2.0: PYSEC-2, not mended yet",
    )
    assert judged(FINE, BAD) == (VULNERABLE, known)
    code, lines = judged(BAD, UNKNOWN)
    assert (code, lines[:2]) == (VULNERABLE, known)
    assert "1 of 2" in lines[2]


def test_what_nobody_looked_at_is_no_success() -> None:
    """Neither one package of many, nor all of them because nobody could be asked."""
    first = (
        "no audit: 1 of 2 packages could not be looked at; the first: Dependency not found on PyPI"
    )
    assert judged(FINE, UNKNOWN) == (NOT_LOOKED_AT, (first,))
    code, lines = verdict("", "Traceback …\nConnectionError: no such host\n")
    assert code == NOT_LOOKED_AT
    assert lines == (
        "no audit: pip-audit could not look at requirements.lock: ConnectionError: no such host",
    )
    assert verdict("", "")[0] == NOT_LOOKED_AT
