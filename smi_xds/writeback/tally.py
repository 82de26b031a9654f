"""How many of the proxies that an object concerns have it, by what they ACKed and refused."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from smi_xds.ads.status import StreamStatus, Sync
from smi_xds.mesh.model import Mesh, Workload
from smi_xds.values import ProxyId, SpiffeId
from smi_xds.writeback.concern import Concern
from smi_xds.writeback.conditions import Tally
from smi_xds.writeback.replicas import Remote

# Seconds after a change was seen here until it was seen everywhere: watches are milliseconds apart,
# and a replica without a watch says nothing.
GRACE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Lag:
    """A proxy that lacks something of a round and all later ones; 0 is everything."""

    since: int
    proxy: ProxyId


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The proxies of a mesh, as this server sees them at one moment."""

    workloads: Mapping[ProxyId, Workload]
    configured: Mapping[SpiffeId, frozenset[ProxyId]]
    connected: Mapping[SpiffeId, frozenset[ProxyId]] = field(default_factory=dict)
    lags: Mapping[SpiffeId, tuple[Lag, ...]] = field(default_factory=dict)
    """Few proxies most of the time, sorted."""
    refusing: Mapping[ProxyId, str] = field(default_factory=dict)
    """What those say who refuse something; sorted."""
    elsewhere: tuple[tuple[float, Mapping[SpiffeId, frozenset[ProxyId]]], ...] = ()
    """The proxies of each other replica, and when it was heard; they are connected, too."""

    def tally(self, concern: Concern, number: int, *, since: float = -math.inf) -> Tally:
        """How many of some proxies have everything of a round.

        Rounds are this server's own. Other replicas count from a while after `since`, when this
        one had seen what the round brought.
        """
        chosen = [self._chosen(concern, it) for it in self._identities(concern)]
        refused = [proxy for proxy in self.refusing if self._concerns(concern, proxy)]
        behind = {
            lag.proxy
            for each in chosen
            for lag in each.lags[: bisect_right(each.lags, number, key=_since)]
        }
        for heard, proxies in self.elsewhere:
            if heard < since + GRACE:
                for identity in self._identities(concern):
                    behind |= self._of(concern, identity, proxies)
        connected = sum(len(each.connected) for each in chosen)
        return Tally(
            configured=sum(len(each.configured) for each in chosen),
            connected=connected,
            applied=connected - len(behind.union(refused)),
            waiting=min(behind, default=None),
            refusing=refused[0] if refused else None,
            error=self.refusing[refused[0]] if refused else "",
        )

    def _identities(self, concern: Concern) -> Iterable[SpiffeId]:
        if concern.is_everyone:
            return self.configured
        singles = (self.workloads[it].identity for it in concern.proxies if it in self.workloads)
        return concern.identities.union(singles)

    def _of(
        self,
        concern: Concern,
        identity: SpiffeId,
        proxies: Mapping[SpiffeId, frozenset[ProxyId]],
    ) -> frozenset[ProxyId]:
        found = proxies.get(identity, frozenset())
        is_whole = concern.is_everyone or identity in concern.identities
        return found if is_whole else found & concern.proxies

    def _chosen(self, concern: Concern, identity: SpiffeId) -> "_Chosen":
        configured = self.configured.get(identity, frozenset())
        connected = self.connected.get(identity, frozenset())
        lags = self.lags.get(identity, ())
        if concern.is_everyone or identity in concern.identities:
            return _Chosen(configured, connected, lags)
        only = concern.proxies
        return _Chosen(
            configured & only, connected & only, tuple(it for it in lags if it.proxy in only)
        )

    def _concerns(self, concern: Concern, proxy: ProxyId) -> bool:
        return (
            concern.is_everyone
            or proxy in concern.proxies
            or self.workloads[proxy].identity in concern.identities
        )


@dataclass(frozen=True, slots=True)
class _Chosen:
    configured: frozenset[ProxyId]
    connected: frozenset[ProxyId]
    lags: tuple[Lag, ...]


def _since(lag: Lag) -> int:
    return lag.since


def fleet_of(mesh: Mesh, streams: Iterable[StreamStatus], remotes: Iterable[Remote] = ()) -> Fleet:
    """The proxies of a mesh by these streams, and by what other replicas say.

    Of a proxy with several streams the worst counts.
    """
    connected: dict[SpiffeId, set[ProxyId]] = defaultdict(set)
    behind: dict[ProxyId, int] = {}
    refusing: dict[ProxyId, str] = {}
    for stream in streams:
        proxy = _proxy(stream)
        workload = None if proxy is None else mesh.workloads.get(proxy)
        if proxy is None or workload is None:
            continue
        connected[workload.identity].add(proxy)
        if (since := _lacking(stream)) is not None:
            behind[proxy] = min(since, behind.get(proxy, since))
        if (error := _refusal(stream)) is not None:
            refusing.setdefault(proxy, error)
    elsewhere = []
    for remote in remotes:
        theirs: dict[SpiffeId, set[ProxyId]] = defaultdict(set)
        for proxy in remote.nodes:
            workload = mesh.workloads.get(proxy)
            # One that has moved is here; what was said of it there is old.
            if workload is None or proxy in connected.get(workload.identity, ()):
                continue
            theirs[workload.identity].add(proxy)
            if proxy in remote.behind:
                behind[proxy] = 0
            if proxy in remote.refusing:
                refusing.setdefault(proxy, remote.refusing[proxy])
        elsewhere.append((remote.heard, _frozen(theirs)))
    for _, others in elsewhere:
        for identity, proxies in others.items():
            connected[identity] |= proxies
    lags: dict[SpiffeId, list[Lag]] = defaultdict(list)
    for proxy, since in behind.items():
        lags[mesh.workloads[proxy].identity].append(Lag(since, proxy))
    return Fleet(
        workloads=mesh.workloads,
        configured=mesh.identities,
        connected=_frozen(connected),
        lags={identity: tuple(sorted(found, key=_since)) for identity, found in lags.items()},
        refusing=dict(sorted(refusing.items())),
        elsewhere=tuple(elsewhere),
    )


def _frozen(
    proxies: Mapping[SpiffeId, set[ProxyId]],
) -> Mapping[SpiffeId, frozenset[ProxyId]]:
    return {identity: frozenset(found) for identity, found in proxies.items()}


def _proxy(stream: StreamStatus) -> ProxyId | None:
    try:
        return ProxyId.parse(stream.node.id)
    except ValueError:  # somebody else's node, for whom nothing is configured
        return None


def _lacking(stream: StreamStatus) -> int | None:
    """The first round of which it lacks something; None where it has everything."""
    if not stream.behind_since:
        return None
    # A stream that never had everything lacks all of what was there before it came.
    return stream.behind_since if stream.was_settled else 0


def _refusal(stream: StreamStatus) -> str | None:
    refusals = (it for _, it in sorted(stream.types.items()) if it.sync is Sync.NACKED)
    first = next(refusals, None)
    return None if first is None else first.error
