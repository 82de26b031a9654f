"""What is logged, and how."""

from dataclasses import dataclass
from enum import StrEnum

from smi_xds.config.notation import parse_choice


class LogFormat(StrEnum):
    """One JSON object a line for machines, or coloured lines for people."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least severe events that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """How events are written."""

    format: LogFormat = LogFormat.JSON
    level: LogLevel = LogLevel.INFO


def parse_log(*, log_format: str = LogFormat.JSON, log_level: str = LogLevel.INFO) -> LogConfig:
    """Read the flags that decide what is logged, and how."""
    return LogConfig(
        format=parse_choice(LogFormat, log_format, flag="--log-format"),
        level=parse_choice(LogLevel, log_level, flag="--log-level"),
    )
