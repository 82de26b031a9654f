"""Make before break on one stream: in which order types go, what is held back, what is kept.

A client must never be pointed at what it does not have, nor lose what it may still use:

- Types are pushed in the order of `PUSH_ORDER` (W1).
- A cluster that changes waits for its endpoints again, a listener for its routes; Envoy withholds
  the ACK of the cluster until they come. They follow at once, changed or not (W3, W4).
- Because that ACK means "the clusters are warm", a listener or route that begins to use a cluster
  is held until the response which brought the cluster is acknowledged, at most `HOLD` seconds. A
  NACK releases those that use none of the clusters it names.
- A resource goes only when nothing that the client may have in use refers to it (W2): what it was
  told last, and what older content it may still hold because an ACK is missing. This has no time
  limit: a client that refuses the routes keeps the clusters that its old routes use.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from smi_xds.ads.session.memo import Memo
from smi_xds.ads.session.pictures import ANYTHING, Picture, is_same
from smi_xds.ads.session.subscription import Subscription
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    SECRET,
    TYPES,
    Need,
    Resource,
)

PUSH_ORDER: Final = {type_: index for index, type_ in enumerate(TYPES)}
"""Secrets, clusters, endpoints, listeners, routes; then all other types."""

WARMS: Final[Mapping[TypeUrl, TypeUrl]] = {CLUSTER: ENDPOINTS, LISTENER: ROUTES}
"""What a client waits for after a change of the key (W3, W4)."""

WARMED_BY: Final[Mapping[TypeUrl, TypeUrl]] = {child: parent for parent, child in WARMS.items()}

NEEDED_BY: Final[Mapping[TypeUrl, tuple[TypeUrl, ...]]] = {
    SECRET: (CLUSTER, LISTENER),
    CLUSTER: (LISTENER, ROUTES),
    ENDPOINTS: (CLUSTER,),
    ROUTES: (LISTENER,),
}
"""Which types refer to the key by name."""

HELD_FOR_CLUSTERS: Final = frozenset({LISTENER, ROUTES})

HOLD: Final = 15.0
"""
Seconds until a held resource goes out regardless: Envoy's own limit for warming
(`initial_fetch_timeout`), after which it acknowledges clusters without endpoints.
"""


@dataclass(frozen=True, slots=True)
class Withheld:
    """What a client should not be told yet."""

    held: frozenset[str]
    """Added or changed resources that wait for a cluster."""
    kept: frozenset[str]
    """Gone resources that the client may still use."""
    release_at: float | None = None
    """When time alone will release something; None where only the client can."""


NOTHING: Final = Withheld(frozenset(), frozenset())

Subscriptions = Mapping[TypeUrl, Subscription]


def withhold(
    sub: Subscription, subs: Subscriptions, memo: Memo, *, now: float, claims_until: float
) -> Withheld:
    """Decide what of the way from `told` to `target` must wait."""
    diff = memo.difference(sub.told, sub.aim(memo))
    held, release_at = _held(sub, subs.get(CLUSTER), diff.changed, memo=memo, now=now)
    if not diff.departed:
        return Withheld(held, frozenset(), release_at) if held else NOTHING
    if held and sub.type == LISTENER:
        # What goes may be the old form of what is held, on the same address: they change together.
        return Withheld(held, diff.departed, release_at)
    if not sub.tells_removal:
        # The client uses it until it stops asking for it (S14), and so do we think.
        return Withheld(held, diff.departed, release_at)
    kept, claimed = _kept(sub.type, diff.departed, subs, is_open=now < claims_until)
    if claimed:
        release_at = claims_until if release_at is None else min(release_at, claims_until)
    return Withheld(held, kept, release_at) if held or kept else NOTHING


def _held(
    sub: Subscription,
    clusters: Subscription | None,
    changed: Iterable[Resource],
    *,
    memo: Memo,
    now: float,
) -> tuple[frozenset[str], float | None]:
    """Those that begin to use a cluster which the client does not have for certain."""
    if clusters is None or sub.type not in HELD_FOR_CLUSTERS:
        return frozenset(), None
    if clusters.in_flight is None and not clusters.refused:
        return frozenset(), None
    deadline = clusters.sent_at + HOLD
    held = {
        resource.name
        for resource in changed
        for name in _newly_used(resource, sub.told)
        if _is_pending(name, clusters, memo, is_late=now >= deadline)
    }
    return frozenset(held), deadline if held and now < deadline else None


def _newly_used(resource: Resource, told: Picture) -> Iterable[str]:
    """The clusters that this resource refers to and its form at the client does not."""
    before = told.resources.get(resource.name)
    needs = resource.needs - before.needs if before is not None else resource.needs
    return (need.name for need in needs if need.type == CLUSTER)


def _is_pending(name: str, clusters: Subscription, memo: Memo, *, is_late: bool) -> bool:
    """Whether a cluster that the client will have is not there yet."""
    wanted = clusters.aim(memo).resources.get(name)
    if wanted is None:
        # It does not exist, or this client (a gRPC one) asks for it only after the route (W5).
        return False
    told = clusters.told.resources.get(name)
    if told is None:
        return True  # not even sent: the response in flight must be answered first
    if is_late:
        return False
    flight = clusters.in_flight
    is_unanswered = flight is not None and name in flight.replaced
    return is_unanswered or name in clusters.refused or not is_same(told, wanted)


def _kept(
    type_: TypeUrl, departed: frozenset[str], subs: Subscriptions, *, is_open: bool
) -> tuple[frozenset[str], bool]:
    """
    Those that are still in use, and whether that is only assumed for a while.

    Assumed: the client came from another stream with resources of its own (D7), and has not yet
    asked for the type that refers to them.
    """
    kept: set[str] = set()
    for parent in NEEDED_BY.get(type_, ()):
        sub = subs.get(parent)
        if sub is None:
            if is_open:
                return departed, True
            continue
        if sub.may_need(ANYTHING):
            return departed, False
        kept.update(name for name in departed if sub.may_need(Need(type_, name)))
    return frozenset(kept), False
