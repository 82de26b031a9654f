"""How many of the proxies that an object concerns have it, by what they ACKed and refused."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from smi_xds.ads.status import StreamStatus, Sync
from smi_xds.mesh.model import Mesh, Workload
from smi_xds.values import ProxyId, SpiffeId
from smi_xds.writeback.concern import Concern
from smi_xds.writeback.conditions import Tally


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

    def tally(self, concern: Concern, number: int) -> Tally:
        """How many of some proxies have everything of a round."""
        chosen = [self._chosen(concern, it) for it in self._identities(concern)]
        refused = [proxy for proxy in self.refusing if self._concerns(concern, proxy)]
        behind = {
            lag.proxy
            for each in chosen
            for lag in each.lags[: bisect_right(each.lags, number, key=_since)]
        }
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


def fleet_of(mesh: Mesh, streams: Iterable[StreamStatus]) -> Fleet:
    """The proxies of a mesh by these streams; of one with several, the worst counts."""
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
    lags: dict[SpiffeId, list[Lag]] = defaultdict(list)
    for proxy, since in behind.items():
        lags[mesh.workloads[proxy].identity].append(Lag(since, proxy))
    return Fleet(
        workloads=mesh.workloads,
        configured=mesh.identities,
        connected={identity: frozenset(proxies) for identity, proxies in connected.items()},
        lags={identity: tuple(sorted(found, key=_since)) for identity, found in lags.items()},
        refusing=dict(sorted(refusing.items())),
    )


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
