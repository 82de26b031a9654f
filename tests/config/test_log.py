"""What is logged, and how."""

from smi_xds.config import LogConfig, LogFormat, LogLevel, parse_log


def test_the_log_is_json_at_info_unless_asked() -> None:
    """People at a terminal ask for the console."""
    assert parse_log() == LogConfig(format=LogFormat.JSON, level=LogLevel.INFO)
    assert parse_log(log_format="console", log_level="error") == LogConfig(
        format=LogFormat.CONSOLE, level=LogLevel.ERROR
    )
