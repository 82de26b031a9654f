"""Incremental xDS: how its requests are read and its responses worded (rules D1 to D12)."""

from smi_xds.ads.session.messages import WILDCARD, Close, DeltaRequest, Event, Response, Stale
from smi_xds.ads.session.ordering import WARMED_BY
from smi_xds.ads.session.pictures import (
    Difference,
    Picture,
    find,
    is_stand_in,
    stand_in,
)
from smi_xds.ads.session.stream import Session
from smi_xds.ads.session.subscription import Subscription
from smi_xds.ads.session.wording import replaced, warms
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import WILDCARD_TYPES, Resource

_STAR = frozenset({WILDCARD})


class DeltaSession(Session):
    """A delta stream."""

    __slots__ = ()

    def receive(self, request: DeltaRequest, now: float) -> Event | None:
        """Read a request: it may answer a response, change subscriptions, or both (D1)."""
        is_first = request.type not in self._subs
        sub = self._subscription(request.type)
        if isinstance(sub, Close):
            return sub
        event: Event | None = None
        refused: Close | None = None
        if is_first:
            refused = self._open(sub, request, now)  # a nonce would be another stream's (E6)
        else:
            event = self._answered(sub, request)
            # Whatever the nonce, a change of subscriptions counts (D2).
            if request.subscribe or request.unsubscribe:
                refused = self._change(sub, request)
        self._touch(sub)
        return refused or event

    def _answered(self, sub: Subscription, request: DeltaRequest) -> Event | None:
        if not request.nonce:
            return None  # spontaneous
        if sub.in_flight is not None and request.nonce == sub.in_flight.nonce:
            return self._settle(sub, request.error)
        return Stale(sub.type, request.nonce) if request.nonce != sub.nonce else None

    # ------------------------------------------------------------------ subscriptions

    def _open(self, sub: Subscription, request: DeltaRequest, now: float) -> Close | None:
        """The first request of a type on this stream."""
        asked, gone = frozenset(request.subscribe), frozenset(request.unsubscribe)
        # Naming nothing means everything, here only (D6).
        is_legacy = not asked and sub.type in WILDCARD_TYPES
        wildcard = (is_legacy or WILDCARD in asked) and WILDCARD not in gone
        names = asked - gone - _STAR
        if (refused := self._hold(sub, names)) is not None:
            return refused
        sub.want(self._memo.interest(wildcard=wildcard, names=names), self._memo)
        if not request.known:
            sub.demand(names)
            return None
        self._claim(now)
        sub.told = self._claimed(sub, request)
        if (refused := self._believe(sub, request.known)) is not None:
            return refused
        if WARMED_BY.get(sub.type, sub.type) in self._subs:
            names -= request.known.keys()  # only what differs is sent (D7)
        # Else: Envoy asks for clusters first, except while it still warms one from the stream
        # before. It then has its endpoints and yet waits for them: send them all (W6).
        sub.demand(names | self._owed_by_parent(sub))
        return None

    def _claimed(self, sub: Subscription, request: DeltaRequest) -> Picture:
        """What the client has from another stream, as far as it is interested (D7)."""
        told: dict[str, Resource] = {}
        are_ours = 0
        for name, version in request.known.items():
            if not sub.interest.covers(name):
                continue
            ours = find(sub.layers, name)
            if ours is not None and ours.version == version:
                told[name] = ours
                are_ours += 1
            else:
                told[name] = stand_in(sub.type, name, version)
        target = sub.aim(self._memo)
        if are_ours == len(told) == len(target.resources):
            return target  # the common case after a restart of ours
        return self._memo.claimed(sub.type, told)

    def _change(self, sub: Subscription, request: DeltaRequest) -> Close | None:
        """Subscribe, then unsubscribe (D4)."""
        asked, gone = frozenset(request.subscribe), frozenset(request.unsubscribe)
        named = sub.interest.names | asked
        wildcard = (sub.interest.wildcard or WILDCARD in asked) and WILDCARD not in gone
        due = asked - gone  # each must be answered, even if we believe it is there (D3)
        if wildcard:
            due |= gone & named  # is it still there, as one of all (D5)?
        if WILDCARD in due:
            due |= sub.told.resources.keys()
            sub.answered = False
        names = named - gone - _STAR
        if (refused := self._hold(sub, names)) is not None:
            return refused
        sub.want(self._memo.interest(wildcard=wildcard, names=names), self._memo)
        sub.demand(due - _STAR)
        return None

    # ------------------------------------------------------------------ responses

    def _tells_removal(self, type_: TypeUrl) -> bool:  # noqa: ARG002 - of any type (D10)
        return True

    def _response(self, sub: Subscription, served: Picture, due: frozenset[str]) -> Response | None:
        told = sub.told
        diff = self._memo.difference(told, served)
        if due:
            due = frozenset(n for n in due if n not in served.resources or _is_real(served, n))
        # A client ends its start with the first answer to a wildcard, so even an empty one is
        # sent; later ones never are (D7, D11).
        is_awaited = sub.interest.wildcard and not sub.answered
        if not (diff.changed or diff.departed or due or is_awaited):
            return None

        label = self._resources.label

        def word(serial: int) -> Response:
            return _word(serial, told, served, diff=diff, due=due, label=label)

        return self._memo.response(("delta", told, served, due, label), after=sub.serial, make=word)


def _is_real(picture: Picture, name: str) -> bool:
    return not is_stand_in(picture.resources[name])


def _word(
    serial: int,
    told: Picture,
    served: Picture,
    *,
    diff: Difference,
    due: frozenset[str],
    label: str,
) -> Response:
    again = due.difference(r.name for r in diff.changed)
    resent = [served.resources[name] for name in again if name in served.resources]
    absent = {name for name in again if name not in served.resources}
    return Response(
        type=served.type,
        serial=serial,
        version=label or served.version,
        resources=tuple(sorted((*diff.changed, *resent), key=lambda r: r.name)),
        removed=tuple(sorted(diff.departed | absent)),
        told=served,
        replaced=replaced(told, diff, again=again),
        warms=warms(served.type, diff),
    )
