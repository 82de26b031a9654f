"""Functions that run in a network namespace of their own."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from tests.kube.cluster import KubeCluster
from tests.kube.netns import NetnsError, in_netns, run_in_netns


def _interfaces(suffix: str) -> list[str]:
    return [name + suffix for _, name in socket.if_nameindex()]


def _fail() -> None:
    raise ValueError("inside")


def _skip() -> None:
    pytest.skip("not today")


def _end() -> None:
    os._exit(7)


async def _connect_to_itself(address: str) -> str:
    server = await asyncio.start_server(lambda _, writer: writer.close(), address, 80)
    async with server:
        _, writer = await asyncio.open_connection(address, 80)
        peer = str(writer.get_extra_info("peername")[0])
        writer.close()
        await writer.wait_closed()
    return peer


@pytest.mark.netns
def test_has_only_loopback() -> None:
    """Inside there is no interface but lo, and the function's result comes back."""
    assert run_in_netns("tests.kube.test_netns:_interfaces", "!") == ["lo!"]


@pytest.mark.netns
def test_every_address_of_the_range_is_local() -> None:
    """A server can listen at any pod address, at any port, without it being added first."""
    assert run_in_netns("tests.kube.test_netns:_connect_to_itself", "10.244.3.7") == "10.244.3.7"


@pytest.mark.netns
@pytest.mark.parametrize(
    "function, message", [("_fail", "ValueError: inside"), ("_end", "ended with 7 and no answer")]
)
def test_a_failure_inside_fails_outside(function: str, message: str) -> None:
    """An exception inside arrives with its traceback, and so does a sudden end."""
    with pytest.raises(NetnsError, match=message):
        run_in_netns(f"tests.kube.test_netns:{function}")


@pytest.mark.netns
def test_a_skip_inside_skips_outside() -> None:
    """A test that finds inside that it cannot run is skipped, with its reason."""
    with pytest.raises(pytest.skip.Exception, match="not today"):
        run_in_netns("tests.kube.test_netns:_skip")


@in_netns()
async def test_the_decorator_takes_coroutines_and_fixtures(tmp_path: Path) -> None:
    """A decorated test runs inside, in an event loop, with its fixtures' values."""
    assert isinstance(tmp_path, Path)
    assert _interfaces("") == ["lo"]
    await asyncio.sleep(0)


@pytest.mark.kube
@in_netns()
def test_an_api_server_runs_inside(kube_binary: Path) -> None:
    """The control plane starts with nothing but lo, and takes pods at addresses that are local."""
    with KubeCluster(binary=kube_binary) as kube:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        }
        kube.apply(service, namespace="default")
        kube.make_pod("web-1", labels={"app": "web"}, ip="10.244.0.5")
        kube.wait_for_addresses("web", ["10.244.0.5"])
        assert _refuses("10.244.0.5")


def _refuses(address: str) -> bool:
    """Whether the address is this machine's own, with no server at port 80."""
    try:
        socket.create_connection((address, 80), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
