"""What all tests share. In CI (CI=true) a test that is skipped has failed: nothing passes unrun."""

import os
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.kube.plugin", "tests.support.tools"]

# A busy machine is slow, not wrong.
settings.register_profile("smi-xds", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("smi-xds")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))


def _refuse_skip(report: Report) -> Report:
    expected = hasattr(report, "wasxfail")  # an expected failure is reported as a skip
    if os.environ.get("CI") == "true" and report.skipped and not expected:
        match report.longrepr:
            case (_, _, reason):
                pass
            case reason:
                pass
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}\n{reason}\nCI=true: skipping counts as a failure"
    return report
