"""A pytest plugin that measures coverage in whichever process runs the tests.

`tests.run` names it in PYTEST_PLUGINS, so that it is there before any conftest imports the
package. It is the workers that run tests under pytest-xdist; their children (Envoys, the command
line) are not measured: the pure rooms need none.
"""

import os
from collections.abc import Generator

import pytest

from tests.support import rooms


class _Measure:
    """Saves when the tests have run: a worker may be killed as soon as it has said so."""

    def __init__(self) -> None:
        self._coverage = rooms.new_coverage(os.environ[rooms.FOLDER])
        self._coverage.start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        self._coverage.save()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if is_worker or not early_config.known_args_namespace.numprocesses:
        early_config.pluginmanager.register(_Measure())
    yield
