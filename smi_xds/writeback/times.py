"""Times as the API server writes them (meta/v1 Time and MicroTime), always in UTC."""

from datetime import UTC, datetime


def time_text(seconds: float) -> str:
    """Seconds since 1970 as meta/v1 Time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(seconds: float) -> str:
    """Seconds since 1970 as meta/v1 MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
