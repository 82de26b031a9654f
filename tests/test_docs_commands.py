"""Commands in the documentation: each is one that there is, with options that it has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from smi_xds.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]


def commands() -> Iterator[tuple[str, str]]:
    """Page and command line, as somebody would copy it."""
    for page in PAGES:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.M):
                for found in re.findall(r"(?:^|\| )smi-xds ([^|>&]*)", line.replace("\\\n", " ")):
                    yield page.relative_to(ROOT).as_posix(), found


SHOWN = list(dict.fromkeys(commands()))


def test_there_are_commands() -> None:
    """Of every page that tells how to do something."""
    assert {"README.md", "docs/install.md"} <= {page for page, _ in SHOWN}


@pytest.mark.parametrize("page, line", SHOWN)
def test_a_shown_command_can_be_called(page: str, line: str) -> None:
    """Its options are there, their values are of the right kind, and none is missing."""
    name, *arguments = shlex.split(line, comments=True)
    command = cli.commands[name]
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    try:
        command.make_context(name, arguments)
    except click.BadParameter as error:
        if "does not exist" not in error.message:  # files are the reader's
            raise
