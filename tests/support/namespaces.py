"""Network namespaces joined by a bridge, in one process: a socket stays where it was made.

For tests that run in a namespace of their own already (`tests.kube.netns`), which is then the hub
between those that are made here; nothing of it touches the machine, and all of it ends with them.
"""

import asyncio
import contextlib
import ctypes
import functools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

HUB = ("10.244.0.1", "fd00:244::1")
_PREFIX = {4: 24, 6: 64}
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

SCRIPT = Path(__file__).parents[2] / "deploy" / "interception" / "iptables.sh"

SIDECAR_ID = 1337


@functools.cache
def cannot_intercept() -> str:
    """Why nothing can be redirected here; empty where it can."""
    if os.geteuid() != 0:
        return "redirecting needs root"
    missing = [it for it in ("ip", "iptables", "ip6tables", "nsenter") if shutil.which(it) is None]
    return (
        f"{', '.join(missing)} not installed: apt-get install iptables iproute2" if missing else ""
    )


def need_interception() -> None:
    """Skip the test where nothing can be redirected; in CI that is a failure."""
    if reason := cannot_intercept():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def make_hub() -> None:
    """Make this namespace the hub: a bridge with its addresses."""
    run("ip link add br0 type bridge", "ip link set br0 up")
    for address in HUB:
        run(f"ip address add {_with_prefix(address)} dev br0")


class Namespace:
    """One network namespace, joined to the hub; leave it to end whatever lives in it."""

    def __init__(self, number: int, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        self._number = number
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])

    def __enter__(self) -> Self:
        self._wait_for_namespace()
        self._there = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY)
        name = f"pod{self._number}"
        run(
            f"ip link add {name} type veth peer name eth0 netns {self._holder.pid}",
            f"ip link set {name} master br0 up",
        )
        commands = ["ip link set lo up", "ip link set eth0 up"]
        for address in self.addresses:
            family = "-6" if ":" in address else "-4"
            gateway = HUB[":" in address]
            commands.append(f"ip {family} address add {_with_prefix(address)} dev eth0")
            commands.append(f"ip {family} route add default via {gateway}")
        self.run(*commands)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._holder.kill()
        self._holder.wait()
        os.close(self._there)
        os.close(self._home)

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command by which another one runs here."""
        return ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net")

    @property
    def as_sidecar(self) -> tuple[str, ...]:
        """The same, as the sidecar's user; it may read what the tests wrote."""
        caps = "+dac_override"
        ids = (f"--reuid={SIDECAR_ID}", f"--regid={SIDECAR_ID}", "--clear-groups")
        return (*self.prefix, "setpriv", *ids, f"--inh-caps={caps}", f"--ambient-caps={caps}")

    def run(self, *commands: str) -> None:
        """Run shell commands here."""
        run(*commands, prefix=self.prefix)

    def redirect(self) -> None:
        """Redirect all TCP to the sidecar, by the script that users run."""
        self.run(str(SCRIPT))

    def make_socket(
        self, address: str, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> socket.socket:
        """A socket that lives here, of the address's family; for TCP unless told."""
        with self._entered():
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.setblocking(False)
        return made

    def listening(self, address: str, port: int) -> socket.socket:
        """A socket that listens here."""
        made = self.make_socket(address)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
        made.listen()
        return made

    async def connect(
        self, address: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect from here; OSError where that is refused."""
        made = self.make_socket(address)
        try:
            async with asyncio.timeout(20):
                await asyncio.get_running_loop().sock_connect(made, (address, port))
        except BaseException:
            made.close()
            raise
        return await asyncio.open_connection(sock=made)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        _enter(self._there)
        try:
            yield
        finally:
            _enter(self._home)

    def _wait_for_namespace(self) -> None:
        # unshare() happens after the process began: until then it is in ours.
        ours, theirs = (Path(f"/proc/{pid}/ns/net") for pid in ("self", self._holder.pid))
        while ours.readlink() == theirs.readlink():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._holder.wait(0.005)
                raise AssertionError("the namespace ended at once")


def run(*commands: str, prefix: tuple[str, ...] = ()) -> None:
    """Run shell commands; the first that fails ends the test with what it said."""
    done = subprocess.run(
        [*prefix, "sh", "-e", "-c", "\n".join(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}: {done.stderr}"


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def _with_prefix(address: str) -> str:
    family = 6 if ":" in address else 4
    return f"{address}/{_PREFIX[family]}" + (" nodad" if family == 6 else "")
