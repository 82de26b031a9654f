"""Where traffic goes: TrafficSplits become routes.

One pure function per root service. Order of entries: splits with `matches`, then the first
unconditional split, else the root service itself. Splits with the same claim are ordered by age,
then by name; the shadowed ones are problems. Splits are one level deep (traffic-split,
"TrafficSplits are not hierarchical"); a backend that equals the root is its own endpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from smi_xds.mesh.external import backend_problems, root_problems
from smi_xds.mesh.matches import RouteMatches
from smi_xds.mesh.model import (
    HttpMatch,
    PortRoutes,
    Protocol,
    RouteEntry,
    Service,
    ServicePort,
    WeightedBackend,
)
from smi_xds.mesh.udp import as_carried, udp_problems
from smi_xds.objects.smi import SPECS_GROUP, TrafficSplit
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ServiceRef

# config.route.v3.WeightedCluster: the sum must fit into uint32. Kept well below.
_MAX_WEIGHT = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The routes of one root service, a port each, and what is wrong with its splits."""

    ports: tuple[PortRoutes, ...] = ()
    problems: tuple[Problem, ...] = ()


def foreign_root(split: TrafficSplit) -> Problem | None:
    """What is wrong with a root that is no Service of the split's own namespace."""
    _, *rest = split.service.rstrip(".").split(".")
    # NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc, NAME.NAMESPACE.svc.CLUSTER-DOMAIN
    if not rest or (rest[0] == split.namespace and rest[1:2] in ([], ["svc"])):
        return None
    return Problem(
        ref=split.ref,
        field="spec.service",
        code=ProblemCode.FOREIGN_ROOT,
        message=f"The root {split.service!r} is no Service in the namespace of this object.",
        cure=f"Write the name of a Service in {split.namespace}.",
    )


def build_traffic(
    service: Service,
    splits: tuple[TrafficSplit, ...],
    matches: tuple[tuple[RouteMatches | None, ...], ...],
    backends: tuple[Service | None, ...],
) -> Traffic:
    """The routes of `service`.

    `matches` holds, per split, the group of each entry of its `matches`; `backends` the services
    of all backends of all splits, in order, None where there is none.
    """
    known = {found.service: found for found in backends if found is not None}
    read = [_Split(split, groups, known) for split, groups in zip(splits, matches, strict=True)]
    ordered = sorted(
        (split for split in read if split.usable),
        key=lambda s: (s.unconditional, s.object.created, s.object.name),
    )
    ports = tuple(_port(service, port, ordered) for port in service.ports)
    _report_shadowed(ordered)
    everyone = known | {service.service: service}
    return Traffic(
        ports=_with_default(tuple(as_carried(routes, everyone) for routes in ports)),
        problems=(
            *(problem for split in read for problem in split.problems),
            *(problem for split in splits for problem in root_problems(service, split)),
            *(problem for split in splits for problem in backend_problems(split, known)),
            *(problem for routes in ports for problem in udp_problems(routes, everyone)),
        ),
    )


def _with_default(ports: tuple[PortRoutes, ...]) -> tuple[PortRoutes, ...]:
    """Mark the HTTP port that a Host without a port means: 80, else the lowest."""
    numbers = [routes.port for routes in ports if routes.protocol.is_http]
    if not numbers:
        return ports
    default = 80 if 80 in numbers else min(numbers)
    return tuple(
        replace(routes, default_port=True)
        if routes.port == default and routes.protocol is not Protocol.UDP
        else routes
        for routes in ports
    )


def _port(service: Service, port: ServicePort, splits: list["_Split"]) -> PortRoutes:
    entries: list[RouteEntry] = []
    # Who takes a request first, by its condition; an empty condition leaves nothing to others.
    taken: dict[HttpMatch, _Split] = {}
    for split in splits:
        if not split.applies_to(port):
            continue
        winners = [taken.get(claim) or taken.get(HttpMatch()) for claim in split.claims]
        if all(winners):
            split.loses_to = winners[0]
            continue
        split.counts = True
        entries.append(split.entry(port))
        for claim in split.claims:
            taken.setdefault(claim, split)
    if HttpMatch() not in taken:
        own = WeightedBackend(service=service.service, weight=1)
        entries.append(RouteEntry(backends=(own,)))
    return PortRoutes(
        service=service.service,
        port=port.number,
        protocol=port.protocol,
        entries=tuple(entries),
    )


def _report_shadowed(splits: list["_Split"]) -> None:
    for split in splits:
        if split.loses_to is not None and not split.counts:
            split.add(
                "spec.service",
                ProblemCode.SHADOWED_SPLIT,
                f"{split.loses_to.object.ref} has the same root and comes first, so this one has "
                "no effect.",
                "Keep one TrafficSplit for a root, or give this one other `matches`.",
            )


class _Split:
    """One TrafficSplit, read once for all ports of its root."""

    def __init__(
        self,
        split: TrafficSplit,
        groups: tuple[RouteMatches | None, ...],
        services: Mapping[ServiceRef, Service],
    ) -> None:
        self.object = split
        self.problems: list[Problem] = []
        self._services = services
        self.unconditional = not split.matches
        self._matches = self._read_matches(groups)
        self._weights = self._read_weights()
        self.usable = self._check_root() and (self.unconditional or bool(self._matches))
        self.counts = False
        self.loses_to: _Split | None = None

    @property
    def claims(self) -> tuple[HttpMatch, ...]:
        """The conditions under which it wants a request; an empty one holds always."""
        return self._matches or (HttpMatch(),)

    def applies_to(self, port: ServicePort) -> bool:
        """Whether it has a say on a port of the root."""
        if self.unconditional or port.protocol.is_http:
            return True
        self.add(
            "spec.matches",
            ProblemCode.MATCHES_ON_TCP,
            f"Port {port.number} of the root speaks {port.protocol}, which has no requests to "
            "match; the split does not apply to it.",
            "Remove `matches`, or name the port http-… if it speaks HTTP.",
        )
        return False

    def entry(self, port: ServicePort) -> RouteEntry:
        """The entry for one port of the root."""
        backends = [
            WeightedBackend(service=service, weight=weight)
            for service, weight in self._weights
            if self._has_port(service, port)
        ]
        total = sum(backend.weight for backend in backends)
        if self._weights and total == 0 and sum(weight for _, weight in self._weights) == 0:
            self._once(
                "spec.backends",
                ProblemCode.NO_WEIGHT,
                "No backend has a weight above 0, so requests have nowhere to go (503).",
                "Give at least one backend a weight above 0.",
            )
        return RouteEntry(
            split=f"{self.object.namespace}/{self.object.name}",
            matches=self._matches,
            backends=tuple(backends),
        )

    def add(self, field: str, code: ProblemCode, message: str, cure: str) -> None:
        """Note something wrong with this split."""
        self.problems.append(
            Problem(ref=self.object.ref, field=field, code=code, message=message, cure=cure)
        )

    def _once(self, field: str, code: ProblemCode, message: str, cure: str) -> None:
        if not any(p.code is code and p.field == field for p in self.problems):
            self.add(field, code, message, cure)

    def _check_root(self) -> bool:
        problem = foreign_root(self.object)
        if problem is not None:
            self.problems.append(problem)
        return problem is None

    def _read_matches(self, groups: tuple[RouteMatches | None, ...]) -> tuple[HttpMatch, ...]:
        found: list[HttpMatch] = []
        for index, (match, group) in enumerate(zip(self.object.matches or (), groups, strict=True)):
            if match.kind != "HTTPRouteGroup":
                self.add(
                    f"spec.matches[{index}].kind",
                    ProblemCode.UNKNOWN_KIND,
                    f"The kind {match.kind!r} is not known here.",
                    "Write HTTPRouteGroup.",
                )
            elif match.api_group not in (None, "", SPECS_GROUP):
                self.add(
                    f"spec.matches[{index}].apiGroup",
                    ProblemCode.UNKNOWN_KIND,
                    f"The group {match.api_group!r} has no HTTPRouteGroup that is known here.",
                    f"Write {SPECS_GROUP}, or leave it out.",
                )
            elif group is None:
                self.add(
                    f"spec.matches[{index}].name",
                    ProblemCode.MISSING_ROUTE,
                    f"There is no HTTPRouteGroup {self.object.namespace}/{match.name}.",
                    "Create it in this namespace, or correct the name.",
                )
            else:
                found.extend(group.select(None))
        if not self.unconditional and not found:
            self.add(
                "spec.matches",
                ProblemCode.SPLIT_WITHOUT_MATCHES,
                "Its `matches` refer to nothing usable, so the split does not apply.",
                "Name an HTTPRouteGroup with at least one usable match.",
            )
        return tuple(dict.fromkeys(found))

    def _read_weights(self) -> tuple[tuple[ServiceRef, int], ...]:
        weights: dict[ServiceRef, Decimal] = {}
        for index, backend in enumerate(self.object.backends):
            where = f"spec.backends[{index}]"
            service = ServiceRef(self.object.namespace, backend.service)
            weight = backend.weight or Decimal(0)
            if weight < 0:
                self.add(
                    f"{where}.weight",
                    ProblemCode.NEGATIVE_WEIGHT,
                    f"The weight {weight} is negative and counts as 0.",
                    "Write 0 or more.",
                )
                weight = Decimal(0)
            if backend.weight is None:
                self.add(
                    f"{where}.weight",
                    ProblemCode.MISSING_WEIGHT,
                    "There is no weight, which counts as 0.",
                    "Write a weight.",
                )
            if service in weights:
                self.add(
                    f"{where}.service",
                    ProblemCode.DUPLICATE_BACKEND,
                    f"{backend.service} is listed before; its weights add up.",
                    "List each backend once.",
                )
            weights[service] = weights.get(service, Decimal(0)) + weight
            self._check_backend(where, service)
        if not self.object.backends:
            self.add(
                "spec.backends",
                ProblemCode.NO_BACKENDS,
                "No backend is listed, so requests have nowhere to go (503).",
                "List at least one backend, or delete the split.",
            )
        return _whole(weights)

    def _check_backend(self, where: str, service: ServiceRef) -> None:
        if service not in self._services:
            self.add(
                f"{where}.service",
                ProblemCode.MISSING_BACKEND,
                f"There is no Service {service}, so it is left out.",
                "Create it, or correct the name.",
            )

    def _has_port(self, service: ServiceRef, port: ServicePort) -> bool:
        found = self._services.get(service)
        if found is None or found.external:
            return False
        other = found.port(port.number, udp=port.protocol is Protocol.UDP)
        if other is not None and _alike(other.protocol, port.protocol):
            return True
        ports = ", ".join(str(p.number) for p in found.ports) or "none"
        wrong = "has no port" if other is None else f"speaks {other.protocol} on port"
        self._once(
            f"spec.backends[{self._index(service)}].service",
            ProblemCode.BACKEND_PORT_MISMATCH,
            f"Service {service} {wrong} {port.number} of the root (its ports: {ports}), so it "
            "gets nothing there.",
            f"Give it the port {port.number} with the root's protocol.",
        )
        return False

    def _index(self, service: ServiceRef) -> int:
        return next(
            i for i, backend in enumerate(self.object.backends) if backend.service == service.name
        )


def _alike(one: Protocol, other: Protocol) -> bool:
    return (one.is_http, one.is_tcp) == (other.is_http, other.is_tcp)


def _whole(weights: Mapping[ServiceRef, Decimal]) -> tuple[tuple[ServiceRef, int], ...]:
    """Weights as integers in the same proportion: whole ones as they are, else scaled by ten."""
    places = max((max(0, -_exponent(w.normalize())) for w in weights.values()), default=0)
    scaled = {service: int(weight.scaleb(places)) for service, weight in weights.items()}
    total = sum(scaled.values())
    if total > _MAX_WEIGHT:
        # A weight that is not 0 stays above 0.
        scaled = {s: (w * _MAX_WEIGHT // total or 1) if w else 0 for s, w in scaled.items()}
    return tuple(sorted(scaled.items()))


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
