"""What these tests need of the machine."""

import os
import subprocess

import pytest

from tests.support.namespaces import cannot_intercept, need_interception


@pytest.fixture(scope="session", autouse=True)
def _tools() -> None:
    """Skip where nothing can be redirected; a fresh machine of CI gets iptables first."""
    if cannot_intercept() and os.environ.get("CI") == "true" and os.geteuid() == 0:
        _install()
        cannot_intercept.cache_clear()
    need_interception()


def _install() -> None:
    # Here, where there is a network: the tests themselves run without one. Their processes may
    # do so at once.
    wait = ("-o", "DPkg::Lock::Timeout=300")
    for arguments in (("update",), ("install", "-y", "--no-install-recommends", "iptables")):
        subprocess.run(["apt-get", "-qq", *wait, *arguments], check=True, timeout=600)
