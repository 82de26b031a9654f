"""A pytest plugin that measures coverage in whichever process runs the tests.

`tests.run` names it in PYTEST_PLUGINS, so that it is there before any conftest imports the
package. It is the workers that run tests under pytest-xdist; their children (Envoys, the command
line) are not measured: the pure rooms need none.
"""

import os
from collections.abc import Generator

import coverage
import pytest

from tests.support import rooms


def _runs_tests(config: pytest.Config) -> bool:
    return "PYTEST_XDIST_WORKER" in os.environ or not config.known_args_namespace.numprocesses


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    if _runs_tests(early_config):
        measured = rooms.new_coverage(os.environ[rooms.FOLDER])
        measured.start()
        early_config.add_cleanup(lambda: _finish(measured))
    yield


def _finish(measured: coverage.Coverage) -> None:
    measured.stop()
    measured.save()
