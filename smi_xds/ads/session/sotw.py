"""State of the world: how its requests are read and its responses worded (rules S1 to S16)."""

from smi_xds.ads.session.messages import WILDCARD, Close, Event, Response, SotwRequest, Stale
from smi_xds.ads.session.pictures import Difference, Picture
from smi_xds.ads.session.stream import Session
from smi_xds.ads.session.subscription import Subscription
from smi_xds.ads.session.wording import replaced, warms
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import WILDCARD_TYPES

_STAR = frozenset({WILDCARD})


class SotwSession(Session):
    """A state-of-the-world stream."""

    __slots__ = ()

    def receive(self, request: SotwRequest, now: float) -> Event | None:  # noqa: ARG002 - as delta
        """Read a request: it names all that the client wants (S7), and may answer a response."""
        sub = self._subscription(request.type)
        if isinstance(sub, Close):
            return sub
        event: Event | None = None
        # Before our first response a nonce is another stream's and means nothing (E6).
        if sub.serial and request.nonce != sub.nonce:
            # Void as a whole: one for the latest response follows, with all names (S6).
            return Stale(sub.type, request.nonce)
        if sub.in_flight is not None:
            event = self._settle(sub, request.error)  # S3, S4; names count in both (S5)
        refused = self._subscribe(sub, request)
        self._touch(sub)
        return refused or event

    def _subscribe(self, sub: Subscription, request: SotwRequest) -> Close | None:
        asked = frozenset(request.names)
        # Naming nothing means everything as long as nothing was ever named (S10, S12).
        sub.ever_named = sub.ever_named or bool(asked)
        is_legacy = not sub.ever_named and sub.type in WILDCARD_TYPES
        wildcard, names = is_legacy or WILDCARD in asked, asked - _STAR
        before = sub.interest
        if wildcard == before.wildcard and names == before.names:
            return None
        if (refused := self._hold(sub, names)) is not None:
            return refused
        added = names - before.names
        if wildcard and not before.wildcard:
            added |= _STAR
        sub.want(self._memo.interest(wildcard=wildcard, names=names), self._memo)
        # The client may have dropped what it asks for again (S8).
        sub.demand(added | self._owed_by_parent(sub))
        return None

    def _tells_removal(self, type_: TypeUrl) -> bool:
        return type_ in WILDCARD_TYPES  # by absence from the full state (S13)

    def _response(self, sub: Subscription, served: Picture, due: frozenset[str]) -> Response | None:
        told = sub.told
        diff = self._memo.difference(told, served)
        # Full state is sent even if it is empty: that ends the start of the client (S16). Of other
        # types, absence cannot be told (S14).
        is_complete = sub.type in WILDCARD_TYPES
        if not is_complete and not diff.changed and due.isdisjoint(served.resources):
            return None

        label = self._resources.label

        def word(serial: int) -> Response:
            return _word(serial, told, served, diff=diff, due=due, label=label)

        return self._memo.response(("sotw", told, served, due, label), after=sub.serial, make=word)


def _word(
    serial: int,
    told: Picture,
    served: Picture,
    *,
    diff: Difference,
    due: frozenset[str],
    label: str,
) -> Response:
    complete = served.type in WILDCARD_TYPES
    again = due.difference(r.name for r in diff.changed).intersection(served.resources)
    if complete:
        resources = list(served.resources.values())  # all in one response, each once (S13, S15)
    else:
        resources = [*diff.changed, *(served.resources[name] for name in again)]
    return Response(
        type=served.type,
        serial=serial,
        version=label or served.version,
        resources=tuple(sorted(resources, key=lambda r: r.name)),
        complete=complete,
        told=served,
        replaced=replaced(told, diff, again=again),
        warms=warms(served.type, diff),
    )
