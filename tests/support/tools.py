"""A pytest plugin: a fresh machine of CI gets what the tests in network namespaces need.

At once, where there is a network: those tests run without one. Elsewhere they skip with a reason.
"""

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.namespaces import cannot_intercept

_APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install iptables where a test may need it, as root and with CI=true alone."""
    may = os.environ.get("CI") == "true" and os.geteuid() == 0
    if may and any(item.get_closest_marker("netns") for item in session.items):
        # Several processes run tests; apt's own locks fail rather than wait for its lists.
        with (Path(tempfile.gettempdir()) / "smi-xds-tools.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            cannot_intercept.cache_clear()
            if cannot_intercept():
                _install()
                cannot_intercept.cache_clear()


def _install() -> None:
    for arguments in (("update",), ("install", "-y", "--no-install-recommends", "iptables")):
        subprocess.run([*_APT, *arguments], check=True, timeout=600)
