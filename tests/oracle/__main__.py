"""`make oracle`: real Envoys against the oracle, for as many random meshes as one likes.

    python -m tests.oracle [--meshes N] [--questions N] [--seed N] [--mode bound|intercepted]

Every line has the seed of the meshes it tells of, and repeats them with `--seed`. The exit code is
1 where Envoy and oracle disagreed.
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import structlog

from tests.oracle import fleet, intercepted
from tests.oracle.exploring import Explorer
from tests.oracle.known import KNOWN_VERSIONS, first_documents

_INSIDE = "SMI_XDS_ORACLE_INSIDE"

# Meshes of one seed: so many are drawn anew to see a disagreement again.
_CHUNK = 25


PLAYING = {"bound": fleet.playing, "intercepted": intercepted.playing}


async def run(*, meshes: int, questions: int, seed: int, mode: str) -> int:
    """Explore in chunks, and tell; the number of chunks that ended with a disagreement."""
    failed = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="smi-xds-oracle-") as folder:
        async with PLAYING[mode](Path(folder), first_documents()) as played:
            explorer = Explorer(played, asyncio.get_running_loop(), KNOWN_VERSIONS)
            for chunk in range(seed, seed - (-meshes // _CHUNK)):
                try:
                    count = min(_CHUNK, meshes - (chunk - seed) * _CHUNK)
                    await explorer.explore(seed=chunk, meshes=count, questions=questions)
                except (AssertionError, hypothesis.errors.Flaky) as error:
                    failed.append(chunk)
                    _tell(f"seed {chunk}: DISAGREEMENT\n{error}")
                    _tell("\n".join(getattr(error, "__notes__", ())))
                _tell(f"seed {chunk}: {time.monotonic() - began:.0f} s, {explorer.tally}")
    _tell(f"disagreements: {len(failed)} {failed or ''}")
    return len(failed)


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _enter_namespace() -> None:
    """Begin anew in a network namespace of our own, which ends with us."""
    command = 'ip link set lo up && exec "$@"'
    inside = ["sh", "-c", command, "sh", sys.executable, "-m", "tests.oracle", *sys.argv[1:]]
    os.execvpe("unshare", ["unshare", "--net", *inside], {**os.environ, _INSIDE: "1"})


def main() -> int:
    """Read the arguments and run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--meshes", type=int, default=300)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=PLAYING, default="bound")
    options = parser.parse_args()
    if options.mode == "intercepted" and not os.environ.get(_INSIDE):
        _enter_namespace()
    # Random meshes are full of problems, and each would be a line.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    failed = asyncio.run(
        run(
            meshes=options.meshes,
            questions=options.questions,
            seed=options.seed,
            mode=options.mode,
        )
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
