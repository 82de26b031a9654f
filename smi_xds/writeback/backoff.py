"""How long to leave an API server alone that does not want to be asked, or is not there."""

import random

from smi_xds.sources.kube_watch import RefusedError

# Seconds, growing with every failure in a row.
_FIRST, _LONGEST = 0.5, 30.0


class Backoff:
    """Counts failures in a row."""

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """It answers."""
        self._failures = 0

    def failed(self, error: Exception) -> float:
        """Seconds to wait; as many at least as it asked for (429, 503)."""
        self._failures += 1
        wait = min(_LONGEST, _FIRST * 2.0 ** min(self._failures - 1, 10))
        asked = error.retry_after if isinstance(error, RefusedError) else 0.0
        # Replicas and their tasks do not come back together.
        return max(min(asked, _LONGEST), wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
