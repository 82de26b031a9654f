"""The session of one stream: what both dialects share.

It does no I/O and keeps no time: requests and resource sets go in, the next response is taken out
when the stream can be written to. So a slow client costs one slot: whatever is published
meanwhile, the next response is made from the latest resources.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Final

from smi_xds.ads.session.memo import Memo, covered
from smi_xds.ads.session.messages import Acked, Close, Refusal, Rejected, Response
from smi_xds.ads.session.ordering import (
    HOLD,
    NOTHING,
    PUSH_ORDER,
    WARMED_BY,
    WARMS,
    Withheld,
    withhold,
)
from smi_xds.ads.session.pictures import NO_INTEREST, Picture, is_stand_in
from smi_xds.ads.session.subscription import Subscription
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import LISTENER, ResourceSet

# Envoy asks for about fifteen; each costs a little memory, known or not (E9).
MAX_TYPES: Final = 64
# Names are kept for as long as a client wants them, whether or not there is such a resource. This
# is sixty thousand of usual length, several times what the largest meshes have. In bytes.
MAX_HELD: Final = 24 << 20
# What a name costs besides its letters, in all the sets and pictures that it stands in (measured:
# 350, and a third more where the client has the resource already).
_EACH: Final = 300
_OURS: Final = _EACH // 3
# Of what a client says, as much as is said to it and to the log.
_TOLD: Final = 200

_HELD_TOO_MUCH: Final = Close(
    Refusal.RESOURCE_EXHAUSTED, f"a stream may ask for names of {MAX_HELD >> 20} MiB in all"
)


class Session(ABC):
    """One stream; `DeltaSession` and `SotwSession` read its requests and word its responses."""

    __slots__ = ("_claims_until", "_due", "_held", "_memo", "_resources", "_subs", "release_at")

    def __init__(self, resources: ResourceSet, *, memo: Memo) -> None:
        self._resources = resources
        self._memo = memo
        self._subs: dict[TypeUrl, Subscription] = {}
        self._due = False
        self._held = 0
        self._claims_until = 0.0
        self.release_at: float | None = None
        """When `next` has to be asked again even if nothing happens."""

    def named(self, type_: TypeUrl) -> int:
        """How many names of a type the client asks for; to change one of them, all are copied."""
        sub = self._subs.get(type_)
        return 0 if sub is None else len(sub.interest.names)

    def owes(self, type_: TypeUrl) -> bool:
        """Whether the client asked for something of a type that it is sent, changed or not."""
        sub = self._subs.get(type_)
        return sub is not None and bool(sub.due)

    # ------------------------------------------------------------------ in

    def update(self, resources: ResourceSet) -> None:
        """Take the latest resources of this client."""
        self._resources = resources
        for sub in self._subs.values():
            if sub.publish(resources.layers.get(sub.type, ())):
                self._due = True

    def _subscription(self, type_: TypeUrl) -> Subscription | Close:
        """The state of a type, new where this is its first request."""
        found = self._subs.get(type_)
        if found is not None:
            return found
        if not type_:
            return Close(Refusal.INVALID_ARGUMENT, "a request on ADS must name its type_url")  # E1
        if len(self._subs) >= MAX_TYPES:
            text = f"a stream may ask for {MAX_TYPES} types; {type_[:_TOLD]} is one more"
            return Close(Refusal.RESOURCE_EXHAUSTED, text)
        self._held += _cost((type_,))
        if self._held > MAX_HELD:
            return _HELD_TOO_MUCH
        layers = self._resources.layers.get(type_, ())
        told = self._memo.target(type_, (), NO_INTEREST)
        sub = Subscription(type_, layers, told, tells_removal=self._tells_removal(type_))
        self._subs[type_] = sub
        last = len(PUSH_ORDER)
        by_order = sorted(self._subs.items(), key=lambda item: PUSH_ORDER.get(item[0], last))
        self._subs = dict(by_order)
        return sub

    def _hold(self, sub: Subscription, names: frozenset[str]) -> Close | None:
        """Account for the names that a subscription is about to have; why it may not (E9)."""
        before = sub.interest.names
        self._held += _cost(names - before) - _cost(before - names)
        return _HELD_TOO_MUCH if self._held > MAX_HELD else None

    def _believe(self, sub: Subscription, known: Mapping[str, str]) -> Close | None:
        """Account for what the client says it has, until it answered what it is told (E9)."""
        if sub.told is sub.target:  # shared with all who have the same
            return None
        told = sub.told.resources
        for name, version in known.items():
            if name in told:
                is_ours = not is_stand_in(told[name])
                sub.claimed += len(name) + (_OURS if is_ours else _EACH + len(version))
        self._held += sub.claimed
        return _HELD_TOO_MUCH if self._held > MAX_HELD else None

    def _forget_claims(self, sub: Subscription) -> None:
        """The client has what we told it, and no more what it brought."""
        self._held -= sub.claimed
        sub.claimed = 0

    def _settle(self, sub: Subscription, error: str | None) -> Acked | Rejected:
        """The client answered; what waited for that is looked at again."""
        event = sub.settle(error)
        self._forget_claims(sub)
        if sub.dirty:
            self._due = True
        self._reconsider()
        return event

    def _reconsider(self) -> None:
        """Something changed that others may have waited for."""
        for sub in self._subs.values():
            if sub.waiting:
                sub.waiting, sub.dirty, self._due = False, True, True

    def _release(self) -> None:
        """A time-out passed: what still has to wait is decided anew."""
        self.release_at = None
        for sub in self._subs.values():
            sub.release_at = None
        self._reconsider()

    def _touch(self, sub: Subscription) -> None:
        """A subscription changed."""
        if sub.dirty:
            self._due = True
            self._reconsider()

    def _owed_by_parent(self, sub: Subscription) -> frozenset[str]:
        """What a client waits for after a response that was sent before it asked for this type."""
        parent = self._subs.get(WARMED_BY.get(sub.type, sub.type))
        if parent is None or parent is sub or parent.in_flight is None:
            return frozenset()
        return covered(parent.in_flight.warms, sub.interest)

    # ------------------------------------------------------------------ out

    @property
    def is_due(self) -> bool:
        """Whether `next` may have something."""
        return self._due

    @property
    def is_settled(self) -> bool:
        """Whether the client answered everything, and nothing is left to tell it in time."""
        if self._due or self.release_at is not None:
            return False
        for sub in self._subs.values():  # noqa: SIM110 - asked twice a push, three times as fast
            if sub.in_flight is not None or sub.dirty:
                return False
        return True

    def next(self, now: float) -> Response | None:
        """The next response to write, in the order that keeps traffic whole."""
        if self.release_at is not None and now >= self.release_at:
            self._release()
        if not self._due:
            return None
        for sub in self._subs.values():
            if sub.dirty and sub.in_flight is None:
                response = self._advance(sub, now)
                if response is not None:
                    return response
        self._due = False
        return None

    def _advance(self, sub: Subscription, now: float) -> Response | None:
        """Tell the client of one type what it may know by now."""
        sub.dirty = False
        target = sub.aim(self._memo)
        withheld = NOTHING
        if target is not sub.told:
            withheld = withhold(
                sub, self._subs, self._memo, now=now, claims_until=self._claims_until
            )
        if withheld is not NOTHING or sub.waiting or sub.release_at is not None:
            self._wait(sub, withheld)
        if withheld.held and sub.type == LISTENER and not sub.answered:
            # Envoy takes its first listeners as all of them and reports itself ready.
            return None
        served, due = target, sub.due
        if withheld is not NOTHING:
            served = self._memo.blend(sub.told, target, withheld.held | withheld.kept)
            due -= withheld.held
        if served is sub.told and not due and sub.answered:
            return None
        response = self._response(sub, served, due)
        if due:
            sub.due -= due
        if response is None:
            sub.told = served  # the same content in another object
            self._forget_claims(sub)
            return None
        sub.send(response, now)
        self._warm(response)
        return response

    def _wait(self, sub: Subscription, withheld: Withheld) -> None:
        """Remember what is withheld, and until when."""
        sub.waiting = withheld is not NOTHING
        sub.release_at = withheld.release_at
        times = [s.release_at for s in self._subs.values() if s.release_at is not None]
        self.release_at = min(times, default=None)

    def _warm(self, response: Response) -> None:
        """The client waits for endpoints after a cluster, for routes after a listener (W3, W4)."""
        child = self._subs.get(WARMS.get(response.type, TypeUrl("")))
        if child is not None and response.warms:
            child.demand(covered(response.warms, child.interest))

    @abstractmethod
    def _response(self, sub: Subscription, served: Picture, due: frozenset[str]) -> Response | None:
        """Word what leads from `told` to `served` and answers what is due."""

    @abstractmethod
    def _tells_removal(self, type_: TypeUrl) -> bool:
        """Whether the dialect can tell a client that a resource of this type is gone."""

    def _claim(self, now: float) -> None:
        """This client brought resources from another stream."""
        if not self._claims_until:
            self._claims_until = now + HOLD


def _cost(names: Iterable[str]) -> int:
    return sum(len(name) + _EACH for name in names)
