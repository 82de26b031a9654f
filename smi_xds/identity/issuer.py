"""Who signs leaves, as the pipeline sees it: asked for identities, answered with what is there.

An answer never waits. What is missing is pending: it is made on the way (`run`), and whoever asked
is told that there is more. `embedded` signs by our own authority, `cert_manager` asks another one.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn, Protocol

from smi_xds.identity.ca import Leaf
from smi_xds.values import SpiffeId

Clock = Callable[[], datetime]


def wall_clock() -> datetime:
    """The time by which certificates are judged."""
    return datetime.fromtimestamp(time.time(), UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How things are with the identities that were asked for."""

    leaves: Mapping[SpiffeId, Leaf]
    """Valid now. Whoever is in neither mapping is pending."""
    refused: Mapping[SpiffeId, str]
    """Who gets none as things are, and why; one may still have its former leaf."""


class Issuer(Protocol):
    """Keeps a leaf for each identity in use; one writer, the event loop's thread."""

    @property
    def trust_bundle(self) -> bytes:
        """The roots by which peers are judged, PEM; empty while they are not known."""

    @property
    def changes(self) -> int:
        """While it stays, the trust bundle does, and `ask` answers the same for the same."""

    def ask(self, identities: Collection[SpiffeId], /) -> Standing:
        """Take these as all that are in use, and forget all others with their keys.

        The very same collection has the same identities as before: it is not to be written.
        """

    async def run(self, changed: Callable[[], object], /) -> NoReturn:
        """Make what is missing, renew what comes due, and say so, for ever."""
