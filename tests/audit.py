"""Has anything that is locked a known vulnerability? And did anybody look?

`python -m tests.audit PIP-AUDIT`; what `make audit` calls. By itself pip-audit says that nothing is
known of packages which it did not find, or names the first of them. Exits with 0 where all were
looked at and nothing is known, with 1 where something is, with 2 where not all could be looked at.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = "requirements.lock"

CLEAN, VULNERABLE, NOT_LOOKED_AT = 0, 1, 2


def main() -> int:
    """Ask, and print what was found."""
    [program] = sys.argv[1:]
    options = ("--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off")
    done = subprocess.run(
        [program, "--requirement", LOCK, *options],
        cwd=ROOT,
        text=True,
        check=False,
        capture_output=True,
    )
    code, lines = verdict(done.stdout, done.stderr)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return code


def verdict(report: str, said: str) -> tuple[int, tuple[str, ...]]:
    """What pip-audit's report means; without one, what it `said` tells why."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except ValueError:
        reason = (said.strip().splitlines() or ["it said nothing"])[-1]
        return NOT_LOOKED_AT, (f"no audit: pip-audit could not look at {LOCK}: {reason}",)
    skipped = [it for it in packages if "skip_reason" in it]
    lines = list(_vulnerabilities(packages))
    code = VULNERABLE if lines else CLEAN
    if skipped:
        number, reason = f"{len(skipped)} of {len(packages)}", skipped[0]["skip_reason"]
        lines.append(f"no audit: {number} packages could not be looked at; the first: {reason}")
        code = code or NOT_LOOKED_AT
    return code, (*lines,) or (f"{len(packages)} packages, of none a vulnerability is known",)


def _vulnerabilities(packages: list[dict[str, Any]]) -> Iterator[str]:
    for package in packages:
        for it in package.get("vulns", ()):
            versions = ", ".join(it.get("fix_versions", ()))
            mended = f"mended in {versions}" if versions else "not mended yet"
            yield f"{package['name']} {package['version']}: {it['id']}, {mended}"


if __name__ == "__main__":
    sys.exit(main())
