"""The script that redirects a pod's traffic, as an init container runs it."""

import os
import subprocess
from collections.abc import Mapping

from tests.kube.netns import in_netns
from tests.support.namespaces import SCRIPT, need_interception

TOOLS = ("iptables", "ip6tables")
Done = subprocess.CompletedProcess[str]


def _run(*command: str, **variables: str) -> Done:
    """A command in this namespace."""
    env = os.environ | variables
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def _rules() -> Mapping[str, str]:
    """What stands in the table, by address family."""
    return {it: _run(it, "-t", "nat", "-S").stdout for it in TOOLS}


@in_netns()
def test_an_init_container_may_run_it_again() -> None:
    """The rules are the same, and none is there twice: a pod that was started anew comes up."""
    need_interception()
    first = _run(str(SCRIPT))
    assert first.returncode == 0, first.stderr
    rules = _rules()
    assert all("SMI_XDS_OUT" in it for it in rules.values())

    again = _run(str(SCRIPT))

    assert (again.returncode, again.stderr) == (0, "")
    assert _rules() == rules


@in_netns()
def test_it_goes_on_where_it_was_cut_off() -> None:
    """Half of the rules, or those of other variables, do no harm."""
    need_interception()
    assert _run(str(SCRIPT)).returncode == 0
    rules = _rules()
    for tool in TOOLS:
        _run(tool, "-t", "nat", "-F", "OUTPUT")
        _run(tool, "-t", "nat", "-F", "SMI_XDS_IN")
    other = _run(str(SCRIPT), SMI_XDS_EXCLUDE_INBOUND="22", SMI_XDS_EXCLUDE_OUTBOUND="10.0.0.0/8")
    assert other.returncode == 0, other.stderr
    assert _rules() != rules

    assert _run(str(SCRIPT)).returncode == 0

    assert _rules() == rules
