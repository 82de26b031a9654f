"""How far the proxies that are connected here are with the authority of now."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from smi_xds.ads.status import Status, StreamStatus, Sync
from smi_xds.xds.resources import SECRET

_NAMED: Final = 10  # of those that miss something; the rest is a number


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Who misses something."""

    waiting: int
    refusing: int
    named: tuple[str, ...]


class Distribution:
    """Watches one epoch at a time; the state is which round brought it to the streams."""

    def __init__(
        self,
        status: Status,
        *,
        rounds: Callable[[], int],
        is_settled: Callable[[], bool],
        lacking: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """
        `rounds` counts what was published; `is_settled` says whether all leaves are of the signer
        of now. `lacking` names whoever else has to have the roots.
        """
        self._status = status
        self._rounds = rounds
        self._is_settled = is_settled
        self._lacking = lacking
        # The last round that may not have had it.
        self._before = 0
        self._published: int | None = None
        self._everything = False

    def begins(self, *, everything: bool) -> None:
        """There is another authority; streams have it with a later round.

        `everything` where it concerns lists of identities as well, which are in all resources.
        """
        self._before, self._published = self._rounds(), None
        self._everything = everything

    def look(self) -> Tally | None:
        """Who misses something; None while it is not even sent."""
        if self._published is None:
            if not self._is_settled():
                self._before = self._rounds()
            if self._rounds() <= self._before:
                return None
            self._published = self._status.rounds[-1].number
        streams = tuple(self._status.streams.values())
        refusing = {it.node.id for it in streams if self._refuses(it)}
        waiting = {it.node.id for it in streams if self._waits(it, self._published)} - refusing
        lacking = self._lacking()
        return Tally(
            waiting=len(waiting) + len(lacking),
            refusing=len(refusing),
            named=_few((*sorted(refusing), *sorted(waiting), *lacking)),
        )

    def _waits(self, stream: StreamStatus, published: int) -> bool:
        if not stream.behind_since:
            return False
        known = stream.types.get(SECRET)
        # Rounds that came since are of no interest, but for those who never had one.
        return stream.behind_since <= published or known is None or not known.acks

    def _refuses(self, stream: StreamStatus) -> bool:
        return any(
            status.sync is Sync.NACKED
            for type_, status in stream.types.items()
            if self._everything or type_ == SECRET
        )


def _few(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:_NAMED]
