"""The real grpcurl, as a user would run it."""

import asyncio
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4"

needs_grpcurl = pytest.mark.skipif(shutil.which("go") is None, reason="needs Go to build grpcurl")


def grpcurl() -> Path:
    """The binary, built once into the cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smi-xds"
    folder = cache / GRPCURL.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "grpcurl").exists():
            environment = {**os.environ, "GOBIN": str(folder)}
            subprocess.run(["go", "install", GRPCURL], env=environment, check=True)
    return folder / "grpcurl"


async def run_grpcurl(*arguments: str) -> str:
    """What it prints; it has to succeed."""
    binary = await asyncio.to_thread(grpcurl)
    process = await asyncio.create_subprocess_exec(
        binary, "-plaintext", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()
