"""Builds the control plane of `cluster/` once, into a cache that all test runs share."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).parent / "cluster"
INPUTS = ("go.mod", "go.sum", "kubelet.go", "main.go")
PROGRESS_SECONDS = 20
"""Often enough to see that it lives, seldom enough for a log: a cold build takes minutes."""

Announce = Callable[[str], None]


class GoMissingError(Exception):
    """There is no Go to build with, nor an earlier build for it."""


class BuildError(Exception):
    """`go build` failed; the text is its output."""


def announce_on_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def kube_binary(*, announce: Announce = announce_on_stderr) -> Path:
    """
    Return the path of the control plane; build it where the cache has none for these sources.

    A file lock lets one of many processes build while the others wait, and the rename at the end
    is atomic: a build that was interrupted leaves nothing behind that could be taken for a binary.
    """
    go = shutil.which("go")
    if go is None:
        raise GoMissingError(
            "Go is not on PATH: install it, or let SMI_XDS_TEST_KUBECONFIG name the kubeconfig of "
            "a cluster for tests"
        )
    version = subprocess.run(
        [go, "env", "GOVERSION"], cwd=SOURCE, check=True, capture_output=True, text=True
    ).stdout.strip()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smi-xds"
    target = cache / f"kube-{_fingerprint(version)}"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():  # another process may have built it while this one waited
            _build(go, target, announce)
    return target


def _fingerprint(go_version: str) -> str:
    digest = hashlib.sha256(go_version.encode())
    for name in INPUTS:
        digest.update(name.encode())
        digest.update((SOURCE / name).read_bytes())
    return digest.hexdigest()[:16]


def _build(go: str, target: Path, announce: Announce) -> None:
    announce(
        "building the Kubernetes control plane for tests (once; minutes, if nothing is cached)"
    )
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as folder:
        built, log = Path(folder) / "kube", Path(folder) / "log"
        command = [
            go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
            "-ldflags", f"-s -w -X k8s.io/component-base/version.gitVersion={_kube_version()}",
            "-o", str(built), ".",
        ]  # fmt: skip
        with (
            log.open("wb") as output,
            subprocess.Popen(command, cwd=SOURCE, stdout=output, stderr=output) as process,
        ):
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PROGRESS_SECONDS)
                    break
                announce(f"  still building: {time.monotonic() - begin:.0f} s")
        if process.returncode != 0:
            raise BuildError(f"go build failed in {SOURCE}:\n{log.read_text()[-4000:]}")
        built.replace(target)
    announce(f"built {target} in {time.monotonic() - begin:.0f} s")


def _kube_version() -> str:
    """Return the release that go.mod requires: without it the server calls itself v0.0.0."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (SOURCE / "go.mod").read_text())
    if found is None:
        raise BuildError(f"{SOURCE / 'go.mod'} does not require k8s.io/kubernetes")
    return found[1]
