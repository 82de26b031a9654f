"""Logging: structlog, configured once; JSON for machines, coloured lines for people."""

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from smi_xds.config import LogConfig, LogFormat

if TYPE_CHECKING:
    from structlog.typing import Processor


def configure_logging(config: LogConfig) -> None:
    """Send everything that is logged, by us and by libraries, to standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shown: Processor
    if config.format is LogFormat.JSON:
        shared.append(structlog.processors.format_exc_info)
        shown = structlog.processors.JSONRenderer()
    else:
        # Tracebacks as Python has them: rich, if it is there, would show every local variable, and
        # keys and tokens with them.
        shown = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            sort_keys=False,  # what is wrong comes before its cure
            exception_formatter=structlog.dev.plain_traceback,
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, shown],
        )
    )
    logging.basicConfig(handlers=[handler], level=config.level.upper(), force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
