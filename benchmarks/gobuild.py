"""Builds the Go module of a folder once, into a cache that all runs share."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path


class GoMissingError(Exception):
    """There is no Go to build with."""


class BuildError(Exception):
    """`go build` failed; the text is its output."""


def go_binary(source: Path, name: str) -> Path:
    """
    Return the path of the program of that module; build it where there is none for its sources.

    A file lock lets one process build while others wait; the rename at the end is atomic.
    """
    go = shutil.which("go")
    if go is None:
        raise GoMissingError(f"Go is not on PATH: install it to build {source}")
    target = _cache() / f"{name}-{_fingerprint(go, source)}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():  # another process may have built it while this one waited
            _build(go, source, target)
    return target


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smi-xds"


def _fingerprint(go: str, source: Path) -> str:
    version = subprocess.run([go, "env", "GOVERSION"], cwd=source, check=True, capture_output=True)
    digest = hashlib.sha256(version.stdout)
    for path in sorted((*source.glob("*.go"), source / "go.mod", source / "go.sum")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _build(go: str, source: Path, target: Path) -> None:
    print(f"building {target.name} (once; a minute, if nothing is cached)", file=sys.stderr)
    building = target.with_suffix(".building")
    command = [
        go,
        "build",
        "-mod=readonly",
        "-trimpath",
        "-buildvcs=false",
        "-o",
        str(building),
        ".",
    ]
    done = subprocess.run(command, cwd=source, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"go build failed in {source}:\n{done.stderr[-4000:]}")
    building.replace(target)
