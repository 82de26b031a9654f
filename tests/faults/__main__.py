"""`make faults`: the same faults, longer. `python -m tests.faults --outage 60 [pytest's own]`."""

import argparse
import os
import sys
from dataclasses import fields

import pytest

from tests.faults.sizes import PREFIX, Sizes

LONG = Sizes(outage=60, cuts=60, replicas=30)


def main(arguments: list[str]) -> int:
    """Run them, and show what they measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    for field in fields(Sizes):
        default = getattr(LONG, field.name)
        parser.add_argument(
            f"--{field.name}", type=type(default), default=default, help=f"{default} by default"
        )
    options, rest = parser.parse_known_args(arguments)
    for field in fields(Sizes):
        os.environ[PREFIX + field.name.upper()] = str(getattr(options, field.name))
    return int(pytest.main(["tests/faults", "-s", "-v", "--timeout", "1800", *rest]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
