"""Runs every benchmark of this folder that has a `main`, one after another."""

import importlib
import pkgutil
import sys

import benchmarks


def main() -> int:
    """Run them; 1 if any missed a bar. With `--json` each prints one JSON object."""
    worst = 0
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name == "__main__":
            continue
        run = getattr(importlib.import_module(f"benchmarks.{module.name}"), "main", None)
        if run is not None:
            print(f"== {module.name}", file=sys.stderr, flush=True)
            worst = max(worst, run())
    return worst


if __name__ == "__main__":
    sys.exit(main())
