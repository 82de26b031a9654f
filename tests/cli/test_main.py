"""The command line as a whole: help, version, errors as one line, and what is imported."""

import shlex
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from smi_xds import __version__
from smi_xds.cli import main as main_module
from smi_xds.cli.main import cli, main
from smi_xds.problems import ConfigError, ServeError
from tests.support.cli import run_cli

COMMANDS = sorted(cli.commands)

HEAVY = {"grpc", "envoy_data_plane", "betterproto2", "kubernetes_asyncio", "aiohttp"}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make a command `fail` that raises."""

    def make(error: BaseException) -> None:
        @click.command()
        def fail() -> None:
            raise error

        monkeypatch.setitem(cli.commands, "fail", fail)

    return make


def test_there_are_the_documented_commands() -> None:
    """Nothing is missing, nothing is there by accident."""
    assert [
        *("bootstrap", "ca", "check", "demo", "explain", "graph", "install", "proxies", "serve"),
        *("translate", "verify", "version"),
    ] == COMMANDS


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "version"])
def test_help_teaches_by_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command's help has examples that begin with its name, and its exit codes."""
    assert run_cli(command, "--help") == 0

    shown = capsys.readouterr().out
    assert f"  smi-xds {command} " in shown
    assert "Exit code: 0" in shown


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` lists the commands, each with a whole sentence, and how to begin."""
    assert run_cli("--help") == 0

    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in shown
    assert not [line for line in shown.splitlines()[1:] if line.endswith("...")]
    assert "Begin with: smi-xds demo" in shown


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`version` prints one line."""
    assert run_cli("version") == 0
    assert capsys.readouterr().out == f"smi-xds {__version__}\n"


@pytest.mark.parametrize("arguments", [["dance"], ["check"], ["serve", "--dance"]])
def test_a_wrong_call_is_told_what_is_wrong(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown commands and options, and missing ones, exit with 2 and a line on stderr."""
    assert run_cli(*arguments) == 2

    captured = capsys.readouterr()
    assert "Error: " in captured.err
    assert captured.out == ""


def test_an_error_of_the_world_is_one_line(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A SmiXdsError is its message and exit code 2, without a traceback."""
    failing(ConfigError("the moon is not full: wait"))

    assert run_cli("fail") == 2
    assert capsys.readouterr().err == "smi-xds: the moon is not full: wait\n"


def test_errors_of_several_tasks_are_a_line_each(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Groups, however nested, are flattened, and what is said twice is printed once."""
    inner = ExceptionGroup("tasks", [ServeError("a"), ServeError("b")])
    failing(ExceptionGroup("tasks", [inner, ServeError("a")]))

    assert run_cli("fail") == 2
    assert capsys.readouterr().err == "smi-xds: a\nsmi-xds: b\n"


@pytest.mark.parametrize(
    "error",
    [ValueError("bug"), ExceptionGroup("tasks", [ServeError("a"), ValueError("bug")])],
)
def test_a_bug_keeps_its_traceback(
    error: Exception, failing: Callable[[BaseException], None]
) -> None:
    """What is not an error of the world is never hidden behind one."""
    failing(error)

    with pytest.raises(type(error)):
        main(["fail"])


def test_an_interruption_has_its_own_exit_code(
    failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is 130, as shells have it, and says nothing."""
    failing(KeyboardInterrupt())

    assert run_cli("fail") == main_module.INTERRUPTED == 130
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["version"],
        ["serve", "--help"],
        ["demo", "--help"],
        ["proxies", "--help"],
        ["check", "--files", "."],
    ],
)
def test_commands_that_need_little_import_little(arguments: list[str], tmp_path: object) -> None:
    """gRPC, the Envoy classes and others take seconds: these commands never load them."""
    script = (
        "import sys\n"
        "from smi_xds.cli.main import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )

    assert set(done.stderr.split()) & HEAVY == set()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`smi-xds ... | head -1` ends without a traceback."""
    script = (
        "import click; from smi_xds.cli.main import cli, main;"
        "cli.add_command(click.Command('noise', callback=lambda: click.echo('x' * 10**6)));"
        "main(['noise'])"
    )
    done = subprocess.run(
        f"{sys.executable} -c {shlex.quote(script)} | true",
        shell=True,  # a pipe whose reader leaves is what this is about
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
