"""Ports that a workload served until lately: they stay open while callers move on.

Canary controllers lead a Service from pods to pods by its selector; a Service may also be deleted,
or target another port. Then no Service names a port any longer, but its callers have yet to hear of
it, and requests are under way. To close the port at once would fail them, so it stays open for
`KEPT` seconds, judged by the same TrafficTargets as ever.

Time is given, not read: the mesh is a function of what it is told.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from smi_xds.mesh.passes import changed
from smi_xds.mesh.workloads import ServedPort
from smi_xds.values import ProxyId

KEPT: Final = 30.0
"""As long as Argo Rollouts leaves old pods alone (scaleDownDelaySeconds): callers far away, or
cut off for a moment, get as much time as from Kubernetes' own proxies."""

Ports = Mapping[ProxyId, tuple[ServedPort, ...]]
"""By workload; none has an empty entry in `FormerPorts.ports`."""


class FormerPorts:
    """Remembers what every workload served."""

    def __init__(self) -> None:
        self.ports: Ports = {}
        """What no Service names any longer, and is to stay open."""
        self._serving: Ports = {}
        self._until: dict[ProxyId, dict[ServedPort, float]] = {}

    @property
    def ends(self) -> float | None:
        """When the first of them is to be closed; None where there are none."""
        return min((end for ends in self._until.values() for end in ends.values()), default=None)

    def take(self, serving: Ports, now: float) -> bool:
        """See what is served at a time in seconds; whether `ports` changed."""
        touched = set(self._close(now))
        for proxy in changed(self._serving, serving):
            self._compare(proxy, serving.get(proxy), now)
            touched.add(proxy)
        self._serving = serving
        ports = dict(self.ports)
        for proxy in touched:
            ports.pop(proxy, None)
            if kept := self._until.get(proxy):
                ports[proxy] = tuple(sorted(kept))
        is_changed = ports != self.ports
        self.ports = ports
        return is_changed

    def _close(self, now: float) -> Iterator[ProxyId]:
        """Forget those whose time is over; of which workloads."""
        over = [proxy for proxy, kept in self._until.items() if min(kept.values()) <= now]
        for proxy in over:
            self._keep(proxy, {p: end for p, end in self._until[proxy].items() if end > now})
            yield proxy

    def _compare(self, proxy: ProxyId, served: tuple[ServedPort, ...] | None, now: float) -> None:
        if served is None:  # the workload itself is gone
            self._keep(proxy, {})
            return
        kept = dict.fromkeys(self._serving.get(proxy, ()), now + KEPT)
        kept |= self._until.get(proxy, {})
        self._keep(proxy, {port: end for port, end in kept.items() if port not in served})

    def _keep(self, proxy: ProxyId, kept: dict[ServedPort, float]) -> None:
        if kept:
            self._until[proxy] = kept
        else:
            self._until.pop(proxy, None)
