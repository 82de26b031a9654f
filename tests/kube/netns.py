"""
Runs a function in a network namespace of its own, which has nothing but a loopback interface.

There, any address can be one's own (pods at 10.244.0.0/16, say) without touching the machine.
"""

import asyncio
import contextlib
import functools
import importlib
import inspect
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

import pytest

POD_CIDR = "10.244.0.0/16"
ROOT = Path(__file__).parents[2]
STOP_SECONDS = 10

P = ParamSpec("P")


class NetnsError(Exception):
    """The function failed inside; the text is its traceback."""


@functools.cache
def cannot_make_netns() -> str:
    """Return why there can be no network namespace here; empty where there can."""
    try:
        done = subprocess.run(
            [*_unshare(), "ip", "link", "set", "lo", "up"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except FileNotFoundError as error:
        return f"{error.filename} is not installed"
    return "" if done.returncode == 0 else f"no network namespace: {done.stderr.strip()}"


def in_netns(
    *, addresses: Sequence[str] = (POD_CIDR,)
) -> Callable[[Callable[P, object]], Callable[P, None]]:
    """
    Decorate a test, plain or `async`, to run in a network namespace of its own.

    Its fixtures are made outside, and what they give must be picklable: `tmp_path` is, a running
    server is not. What it needs inside (`KubeCluster`, proxies) it starts itself.
    """

    def decorate(test: Callable[P, object]) -> Callable[P, None]:
        @functools.wraps(test)
        def outside(*arguments: P.args, **named: P.kwargs) -> None:
            target = f"{test.__module__}:{test.__qualname__}"
            run_in_netns(target, *arguments, addresses=addresses, named=named)

        # The inner process finds the decorated name in the module, and takes the test from here.
        outside.__dict__["inside"] = test
        return pytest.mark.netns(outside)

    return decorate


def run_in_netns(
    target: str,
    *arguments: object,
    addresses: Sequence[str] = (POD_CIDR,),
    named: dict[str, object] | None = None,
) -> object:
    """
    Call `package.module:function` in a network namespace, and return what it returned.

    `addresses` (with prefix length) are added to lo: a whole range is then local.
    A coroutine function is run in an event loop. Arguments and result are pickled.
    Whatever it left running in its process group is killed.
    """
    reason = cannot_make_netns()
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="smi-xds-netns-") as folder:
        call, answer = Path(folder) / "call", Path(folder) / "answer"
        call.write_bytes(pickle.dumps((target, arguments, named or {}, tuple(addresses))))
        command = [*_unshare(), sys.executable, "-m", "tests.kube.netns", str(call), str(answer)]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            process.wait()
        finally:
            _end_group(process)
        if not answer.exists():
            raise NetnsError(f"{target} ended with {process.returncode} and no answer")
        outcome, value = pickle.loads(answer.read_bytes())
    match outcome:
        case "returned":
            return value
        case "skipped":
            pytest.skip(value)
        case _:
            raise NetnsError(f"{target} failed in its network namespace:\n{value}")


def _unshare() -> list[str]:
    # Root keeps its own user namespace: inside a new one, files of others would be out of reach.
    return ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the inner process, if it still runs, and all that it left behind in its group."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)  # lets it stop in order what it started
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _main(call: Path, answer: Path) -> None:
    target, arguments, named, addresses = pickle.loads(call.read_bytes())
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in addresses:
        subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    outcome: tuple[str, object]
    try:
        outcome = ("returned", _call(target, arguments, named))
    except pytest.skip.Exception as skipped:
        outcome = ("skipped", str(skipped))
    except BaseException:  # noqa: BLE001 - SystemExit too: the test outside has to know
        outcome = ("failed", traceback.format_exc())
    unfinished = answer.with_suffix(".part")
    unfinished.write_bytes(pickle.dumps(outcome))
    unfinished.rename(answer)


def _call(target: str, arguments: Sequence[object], named: dict[str, object]) -> object:
    module, _, path = target.partition(":")
    function: Any = importlib.import_module(module)
    for name in path.split("."):
        function = getattr(function, name)
    function = getattr(function, "inside", function)
    result: object = function(*arguments, **named)
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    return result


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
