"""What is known of one type on one stream (E4): what was asked, told, and acknowledged."""

from collections.abc import Iterable, Mapping, Set
from operator import is_
from typing import Final

from smi_xds.ads.session.memo import Memo, covered
from smi_xds.ads.session.messages import Acked, Rejected, Response
from smi_xds.ads.session.pictures import NO_INTEREST, Interest, Layers, Picture
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import Need

_NONE: Final[frozenset[str]] = frozenset()

# What Envoy says when it applied part of a response: "… cluster(s) a: reason, b: reason"; those
# of listeners stand on lines of their own.
_PARTIAL: Final = "Error adding/updating "

# As much of that is read as names thousands.
_READ: Final = 1 << 18

_NO_DOUBTS: Final[Mapping[str, frozenset[Need]]] = {}


class Subscription:
    """The state of one type on one stream; mutable, owned by its session."""

    __slots__ = (
        "answered",
        "claimed",
        "dirty",
        "doubts",
        "due",
        "ever_named",
        "in_flight",
        "interest",
        "layers",
        "refused",
        "release_at",
        "sent_at",
        "serial",
        "target",
        "tells_removal",
        "told",
        "type",
        "waiting",
    )

    def __init__(
        self, type_: TypeUrl, layers: Layers, told: Picture, *, tells_removal: bool
    ) -> None:
        self.type = type_
        self.tells_removal = tells_removal
        """Whether the dialect has words for "this is gone" in this type (S13, S14, D10)."""
        self.interest: Interest = NO_INTEREST
        self.ever_named = False
        """SotW: some request had names, so an empty list no longer means everything (S10)."""
        self.layers = layers
        """What there is of the type, for this client."""
        self.target: Picture | None = None
        """What the client should have: the interest in the layers; None until it is asked for."""
        self.told: Picture = told
        """What it was told last, whether acknowledged or not."""
        self.due: frozenset[str] = _NONE
        """Names to answer even if the client was told of them before (S8, D3, W3)."""
        self.answered = False
        self.claimed = 0
        """What it costs, in bytes, to remember what the client brought from another stream."""
        self.dirty = True
        """There may be something to tell."""
        self.waiting = False
        """Something is withheld until another type is acknowledged."""
        self.release_at: float | None = None
        """When what is withheld goes out regardless."""
        self.in_flight: Response | None = None
        """Sent and not acknowledged; at most one."""
        self.sent_at = 0.0
        self.serial = 0
        """Of the last response; 0 before there was one."""
        self.doubts: Mapping[str, frozenset[Need]] = _NO_DOUBTS
        """Names whose latest content may not be in use yet: what older content of them needs."""
        self.refused: frozenset[str] = _NONE
        """Names that the client does not have in the form it was sent."""

    @property
    def nonce(self) -> str:
        """The nonce of the last response; empty before there was one."""
        return str(self.serial) if self.serial else ""

    def publish(self, layers: Layers) -> bool:
        """Take new resources; False where nothing of this type is new."""
        old = self.layers
        if layers is old or (len(layers) == len(old) and all(map(is_, layers, old))):
            return False
        self.layers, self.target, self.dirty = layers, None, True
        return True

    def aim(self, memo: Memo) -> Picture:
        """What the client should have."""
        if self.target is None:
            self.target = memo.target(self.type, self.layers, self.interest)
        return self.target

    def want(self, interest: Interest, memo: Memo) -> None:
        """The client now asks for this; what it no longer asks for is forgotten (S8, D10)."""
        if interest is self.interest:
            return
        self.interest, self.target, self.dirty = interest, None, True
        self.told = memo.narrowed(self.told, interest)
        self.due = covered(self.due, interest)
        self.refused = covered(self.refused, interest)
        if self.doubts:
            gone = [name for name in self.doubts if not interest.covers(name)]
            self.doubts = without_doubts(self.doubts, gone)

    def demand(self, names: Set[str]) -> None:
        """These names must be answered, whatever the client was told before."""
        if names:
            self.due = self.due.union(names)
            self.dirty = True

    def send(self, response: Response, now: float) -> None:
        """The response is on its way."""
        self.in_flight, self.sent_at, self.serial = response, now, response.serial
        self.told, self.answered = response.told, True
        if not self.doubts:
            self.doubts = response.replaced
        else:
            older = self.doubts
            merged = {n: older.get(n, frozenset()) | d for n, d in response.replaced.items()}
            self.doubts = {**older, **merged}

    def settle(self, error: str | None) -> Acked | Rejected:
        """The client answered the response in flight."""
        response = self.in_flight
        assert response is not None
        self.in_flight = None
        names: Set[str] = response.replaced.keys()
        if error is not None:
            # Part of it may have been applied (D9): what it needs and what it replaced both count.
            if response.complete:  # what it repeated unchanged was judged anew, too
                names |= response.told.resources.keys()
            self.refused = self.refused.difference(names) | blamed(names, error)
            return Rejected(response, error, self.refused)
        if response.complete or self.doubts is response.replaced:
            self.doubts, self.refused = _NO_DOUBTS, _NONE
        else:
            self.doubts = without_doubts(self.doubts, names)
            self.refused = self.refused.difference(names)
        return Acked(response, self.refused)

    def may_need(self, need: Need) -> bool:
        """Whether something that the client may have in use refers to that resource."""
        if need in self.told.needs:
            return True
        return any(need in needs for needs in self.doubts.values())


def blamed(names: Iterable[str], error: str) -> frozenset[str]:
    """
    The names that the client does not have after a NACK.

    Envoy decodes a response as a whole: where that fails nothing is applied. Then it applies the
    resources one by one, keeps the good ones and lists the bad ones by name.
    """
    if not error.startswith(_PARTIAL):
        return frozenset(names)
    # Word by word, and not name by name: thousands of names, and a client that says megabytes.
    said = {word[:-1] for word in error[:_READ].split() if word.endswith(":")}
    every = frozenset(names)
    return every & said or every


def without_doubts(
    doubts: Mapping[str, frozenset[Need]], names: Iterable[str]
) -> Mapping[str, frozenset[Need]]:
    """The doubts that remain when these names are certain."""
    gone = set(names)
    return {name: needs for name, needs in doubts.items() if name not in gone} or _NO_DOUBTS
