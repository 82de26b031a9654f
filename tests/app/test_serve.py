"""`smi-xds serve` as a process: signals, exit codes, logs, and one line where it cannot start."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-c", "from smi_xds.cli.main import main; main()", "serve"]
ANYWHERE = ["--xds-address", "127.0.0.1:0", "--monitoring-address", "127.0.0.1:0"]

GOOD = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
"""

BAD = """
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop}
spec: {service: web, backends: [{service: web-v1, weight: 1}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "shop.yaml").write_text(GOOD)
    return folder


@contextmanager
def serving(*arguments: object, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A server on free ports, with a home folder of its own."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if "XDG" not in name and name != "GRPC_VERBOSITY"
    }
    with subprocess.Popen(
        [*COMMAND, *ANYWHERE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "HOME": str(home)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def next_event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """The next event of that name; AssertionError where the log ends before."""
    assert process.stderr is not None
    for line in process.stderr:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == name:
            return event
    raise AssertionError(f"no event {name}")


def failed(*arguments: object, home: Path) -> str:
    """What a server that cannot start says; its logs aside."""
    with serving(*arguments, home=home) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if not line.startswith("{")]
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_0(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    """SIGTERM, Ctrl-C and a terminal that closes are the normal end."""
    with serving("--files", folder, home=tmp_path) as process:
        next_event(process, "serving")
        process.send_signal(number)
        next_event(process, "stopped")
        assert process.wait(20) == 0


def test_it_says_where_it_serves_from_what_and_who_may_ask(folder: Path, tmp_path: Path) -> None:
    """Address, folders and state folder; and that any local process gets any identity."""
    with serving("--files", folder, home=tmp_path) as process:
        starting = next_event(process, "starting")
        serving_ = next_event(process, "serving")
        warning = next_event(process, "identities_unproven")

    assert starting["files"] == [str(folder)]
    assert starting["state"] == str(tmp_path / ".local/state/smi-xds")
    host, _, port = serving_["xds_address"].rpartition(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)
    assert "any identity" in warning["message"]


def test_every_line_of_the_log_is_ours(folder: Path, tmp_path: Path) -> None:
    """Also where a stranger breaks off a handshake, of which gRPC's core would tell in its own way:
    whoever reads logs as JSON reads all of them.
    """
    with serving("--files", folder, "--xds-mtls-address", "127.0.0.1:0", home=tmp_path) as process:
        host, _, port = next_event(process, "serving")["xds_mtls_address"].rpartition(":")
        believing = ssl.create_default_context()
        believing.check_hostname, believing.verify_mode = False, ssl.CERT_NONE
        with (
            contextlib.suppress(OSError),  # reset, or told by an alert
            socket.create_connection((host, int(port)), timeout=30) as connection,
            believing.wrap_socket(connection) as stranger,
        ):
            stranger.recv(1)
        process.send_signal(signal.SIGTERM)
        next_event(process, "stopped")


def test_the_authority_outlives_the_process(folder: Path, tmp_path: Path) -> None:
    """The second start finds what the first one made; a lost folder is made anew, and told."""
    state = tmp_path / ".local/state/smi-xds"
    with serving("--files", folder, home=tmp_path) as process:
        next_event(process, "authority_created")
        next_event(process, "serving")
    before = (state / "ca.crt").read_bytes()
    with serving("--files", folder, home=tmp_path) as process:
        next_event(process, "serving")
    assert (state / "ca.crt").read_bytes() == before

    for file in state.iterdir():
        file.unlink()
    state.rmdir()
    with serving("--files", folder, home=tmp_path) as process:
        next_event(process, "authority_created")
        next_event(process, "serving")
    assert (state / "ca.crt").read_bytes() != before


def test_problems_are_logged_as_they_come_and_go(folder: Path, tmp_path: Path) -> None:
    """A bad object in a watched folder is one line, with its cure; its removal another."""
    with serving("--files", folder, home=tmp_path) as process:
        next_event(process, "serving")
        (folder / "bad.yaml").write_text(BAD)
        problem = next_event(process, "problem_found")
        (folder / "bad.yaml").unlink()
        solved = next_event(process, "problem_solved")

    assert (problem["code"], problem["level"]) == ("MissingService", "warning")
    assert problem["object"] == solved["object"] == "TrafficSplit shop/web"
    assert problem["cure"]


def test_logs_for_people_are_lines_of_text(folder: Path, tmp_path: Path) -> None:
    """`--log-format console` writes no JSON, and no colours into a pipe."""
    with serving("--files", folder, "--log-format", "console", home=tmp_path) as process:
        assert process.stderr is not None
        line = process.stderr.readline()

    assert "starting" in line
    assert "{" not in line.partition("files")[0]
    assert "\x1b" not in line


def test_an_occupied_port_is_one_line(folder: Path, tmp_path: Path) -> None:
    """It names the address and the flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = failed("--files", folder, "--xds-address", address, home=tmp_path)

    assert address in line
    assert "--xds-address" in line


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    """It names the folder."""
    assert str(tmp_path / "none") in failed("--files", tmp_path / "none", home=tmp_path)


def test_a_corrupt_key_is_one_line_and_is_kept(folder: Path, tmp_path: Path) -> None:
    """It names the file and the cure, and overwrites nothing."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "ca.key").touch(mode=0o600)
    (state / "ca.key").write_text("garbage")
    line = failed("--files", folder, "--state-folder", state, home=tmp_path)

    assert str(state / "ca.key") in line
    assert "backup" in line
    assert (state / "ca.key").read_text() == "garbage"


def test_a_state_folder_that_cannot_be_one_is_one_line(folder: Path, tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "state").touch()
    line = failed("--files", folder, "--state-folder", tmp_path / "state", home=tmp_path)

    assert str(tmp_path / "state") in line
    assert "--state-folder" in line


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((), "--files DIR or --kubernetes"),
        (("--files", ".", "--xds-address", "0.0.0.0:15010"), "loopback only"),
        (("--files", ".", "--xds-address", "nowhere"), "HOST:PORT"),
        (("--files", ".", "--trust-domain", "a/b"), "--trust-domain"),
        (("--kubernetes", "--in-cluster", "--context", "x"), "--in-cluster"),
        (("--kubernetes", "--namespace", "A B"), "--namespace"),
    ],
)
def test_flags_that_cannot_be_are_one_line(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    """Nothing is started, and the flag is named."""
    assert said in failed(*arguments, home=tmp_path)


def test_flags_of_the_api_server_want_it_to_be_asked_for(folder: Path, tmp_path: Path) -> None:
    """`--context` without `--kubernetes` would be ignored in silence: it is refused."""
    with serving("--files", folder, "--context", "x", home=tmp_path) as process:
        _, err = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "add --kubernetes" in err
