"""The command line, called in this process."""

import pytest

from smi_xds.cli.main import main


def run_cli(*arguments: object) -> int:
    """Run `smi-xds ARGUMENTS`; return its exit code."""
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    code = exited.value.code
    return code if isinstance(code, int) else 0
