"""What is logged: where, in which form, and what never."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from smi_xds.app.logs import configure_logging
from smi_xds.config import LogConfig, LogFormat

SECRET = "-----BEGIN PRIVATE " + "KEY-----"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Logging is one for the whole process."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def _fail(pem: str) -> None:
    raise RuntimeError(f"a bug, with {len(pem)} letters at hand")


@pytest.mark.parametrize("output", list(LogFormat))
@pytest.mark.parametrize("name", ["ours", "of a library"])
def test_a_traceback_shows_no_variables(
    output: LogFormat, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They hold keys and tokens; where a bug is, its lines tell."""
    configure_logging(LogConfig(format=output))
    log = structlog.get_logger() if name == "ours" else logging.getLogger(name)

    try:
        _fail(SECRET)
    except RuntimeError:
        log.exception("rebuild_failed")

    said = capsys.readouterr().err
    assert "rebuild_failed" in said
    assert "in _fail" in said
    assert "a bug, with 27 letters at hand" in said
    assert SECRET not in said


@pytest.mark.parametrize("output", list(LogFormat))
def test_what_is_told_keeps_its_order(
    output: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was written down: the object, what is wrong with it, the cure."""
    configure_logging(LogConfig(format=output))

    structlog.get_logger().warning("problem_found", object="it", message="is wrong", cure="mend")

    said = capsys.readouterr().err
    assert said.index("object") < said.index("is wrong") < said.index("mend")
