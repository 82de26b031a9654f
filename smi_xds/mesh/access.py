"""Who may call whom: TrafficTargets become grants.

One pure function per destination service account. Everything that is wrong makes a
TrafficTarget grant less, and is a problem:

- A rule of unknown kind, or whose route does not exist, empties its layer: it could have been
  a restriction. A single bad match among good ones only drops out.
- TrafficTargets unite (traffic-access, "additive"), each judged by itself, so that the ports of
  one never combine with the matches of another.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from smi_xds.mesh.matches import RouteMatches, read_ports
from smi_xds.mesh.model import Grant, HttpMatch, Protocol
from smi_xds.mesh.subjects import Named, Sight, SubjectReader
from smi_xds.objects.smi import Rule, TCPRoute, TrafficTarget, UDPRoute
from smi_xds.objects.versions import as_written
from smi_xds.problems import Problem, ProblemCode

HTTP_ROUTES = "HTTPRouteGroup"
TCP_ROUTE = "TCPRoute"
UDP_ROUTE = "UDPRoute"
_RULE_KINDS = (HTTP_ROUTES, TCP_ROUTE, UDP_ROUTE)

_VERSIONS_WITH_PORT = ("v1alpha1", "v1alpha2")

RuleRoute = RouteMatches | TCPRoute | UDPRoute | None
"""What a rule refers to: its group's matches, its route of ports, or None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPorts:
    """The ports of the pods that run as an account: what a TrafficTarget can speak of."""

    targets: tuple[tuple[int, Protocol], ...] = ()
    services: tuple[tuple[int, int], ...] = ()
    """(Service port, target port) where the two differ."""
    udp_targets: tuple[int, ...] = ()
    udp_services: tuple[tuple[int, int], ...] = ()
    sight: Sight = field(default_factory=Sight)
    bare: bool = False
    """Some of the pods have no sidecar: nobody there asks what is allowed."""

    @property
    def tcp(self) -> "_Served":
        """Those that TCPRoutes speak of."""
        targets = tuple(dict.fromkeys(number for number, _ in self.targets))
        return _Served("TCP", targets, self.udp_targets, self.services)

    @property
    def udp(self) -> "_Served":
        """Those that UDPRoutes speak of."""
        return _Served("UDP", self.udp_targets, self.tcp.targets, self.udp_services)


@dataclass(frozen=True, slots=True)
class _Served:
    """The ports of one transport, and the target ports of the other."""

    transport: str
    targets: tuple[int, ...]
    others: tuple[int, ...]
    services: tuple[tuple[int, int], ...]

    @property
    def other(self) -> str:
        """The other transport."""
        return "TCP" if self.transport == "UDP" else "UDP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The grants of one destination, by TrafficTarget name, and what is wrong with them."""

    grants: tuple[Grant, ...] = ()
    problems: tuple[Problem, ...] = ()


def build_access(
    targets: tuple[TrafficTarget, ...],
    routes: tuple[tuple[RuleRoute, ...], ...],
    named: Named,
    ports: AccountPorts,
    trust_domain: str,
) -> Access:
    """The grants of `targets`, which share a destination.

    `routes` holds, per target, what each of its rules refers to, `named` what their subjects do.
    """
    grants: list[Grant] = []
    problems: list[Problem] = []
    for target, referred in zip(targets, routes, strict=True):
        reader = _Reader(target, referred, SubjectReader(target, named, trust_domain), ports)
        grant = reader.grant()
        problems.extend(reader.problems)
        if grant is not None:
            grants.append(grant)
    return Access(grants=tuple(grants), problems=tuple(problems))


class _Reader:
    """Reads one TrafficTarget and collects its problems."""

    def __init__(
        self,
        target: TrafficTarget,
        routes: tuple[RuleRoute, ...],
        subjects: SubjectReader,
        ports: AccountPorts,
    ) -> None:
        self._target = target
        self._routes = tuple(zip(target.rules or (), routes, strict=True))
        self._subjects = subjects
        self._ports = ports
        self.problems = subjects.problems

    def grant(self) -> Grant | None:
        """The grant, or None where the whole TrafficTarget is void."""
        # Everything is read, even where one thing already voids it: all problems at once.
        usable = (self._subjects.has_destination(), self._check_rules())
        self._check_old_port()
        self._check_sidecars()
        kinds = {rule.kind for rule, _ in self._routes}
        grant = Grant(
            target=f"{self._target.namespace}/{self._target.name}",
            sources=self._subjects.sources(self._ports.sight),
            ports=self._tcp_ports(),
            http=self._http() if HTTP_ROUTES in kinds else None,
            tcp=TCP_ROUTE in kinds and HTTP_ROUTES not in kinds,
            l7=bool(kinds & {TCP_ROUTE, HTTP_ROUTES}),
            udp=self._udp_ports(),
        )
        self._check_http(grant)
        self._check_udp(grant)
        return grant if all(usable) and grant.sources else None

    def _check_rules(self) -> bool:
        if not self._routes:
            self._add(
                "spec.rules",
                ProblemCode.NO_RULES,
                "No rule is listed, so nothing is allowed.",
                "List an HTTPRouteGroup or a TCPRoute; a TCPRoute without ports allows all.",
            )
        unknown = [
            (index, rule)
            for index, (rule, _) in enumerate(self._routes)
            if rule.kind not in _RULE_KINDS
        ]
        for index, rule in unknown:
            self._unknown_kind(f"spec.rules[{index}].kind", rule.kind, " or ".join(_RULE_KINDS))
        for index, (rule, _) in enumerate(self._routes):
            if rule.matches and rule.kind in (TCP_ROUTE, UDP_ROUTE):
                self._add(
                    f"spec.rules[{index}].matches",
                    ProblemCode.IGNORED_MATCHES,
                    f"A {rule.kind} has ports and no matches: the rule allows all of it.",
                    "Remove `matches`, or name an HTTPRouteGroup, which has some.",
                )
        return bool(self._routes) and not unknown

    def _check_sidecars(self) -> None:
        if self._ports.bare:
            self._add(
                "spec.destination",
                ProblemCode.NOT_ENFORCED,
                "Some pods of the destination have no sidecar, so nobody enforces it there: "
                "anyone may call them.",
                "Give them a sidecar, by the annotation smi-xds.io/sidecar.",
            )

    def _check_old_port(self) -> None:
        port = self._target.destination_port
        if port is None:
            return
        where = "spec.destination.port"
        if self._target.version not in _VERSIONS_WITH_PORT:
            self._add(
                where,
                ProblemCode.DEPRECATED_PORT,
                f"access.smi-spec.io/{self._target.version} has no such field; it restricts all "
                "the same.",
                f"List the port {port} in a TCPRoute.",
            )
        self._check_port(where, "The destination", port, self._ports.tcp)

    def _check_http(self, grant: Grant) -> None:
        """Tell of HTTPRouteGroups on ports that have no requests to judge."""
        judged = [
            protocol
            for number, protocol in self._ports.targets
            if grant.ports is None or number in grant.ports
        ]
        if grant.http is not None and judged and not any(p.is_http for p in judged):
            index = next(i for i, (rule, _) in enumerate(self._routes) if rule.kind == HTTP_ROUTES)
            self._add(
                f"spec.rules[{index}]",
                ProblemCode.NOT_AN_HTTP_PORT,
                "No port that it covers speaks HTTP, so there are no requests to match, and an "
                "HTTPRouteGroup admits no connections.",
                "Remove the HTTPRouteGroup, or name the Service's port http-… if it speaks HTTP.",
            )

    def _check_udp(self, grant: Grant) -> None:
        """Tell of UDPRoutes for all ports where there is none that they could mean."""
        if grant.udp is None and self._ports.targets and not self._ports.udp_targets:
            index = next(i for i, (rule, _) in enumerate(self._routes) if rule.kind == UDP_ROUTE)
            self._add(
                f"spec.rules[{index}]",
                ProblemCode.WRONG_TRANSPORT,
                "No Service of the destination's pods has a UDP port, so there are no datagrams "
                "to allow.",
                "Write a TCPRoute, or give the Service's port `protocol: UDP`.",
            )

    def _udp_ports(self) -> tuple[int, ...] | None:
        """What UDPRoutes admit; without one, nothing."""
        layers = list(self._port_layers(UDP_ROUTE, self._ports.udp))
        return self._listed(layers) if layers else ()

    def _tcp_ports(self) -> tuple[int, ...] | None:
        return self._listed(list(self._port_layers(TCP_ROUTE, self._ports.tcp)))

    def _listed(self, layers: list[tuple[int, ...] | None]) -> tuple[int, ...] | None:
        listed: set[int] | None = None
        if layers and all(ports is not None for ports in layers):
            listed = {port for ports in layers for port in ports or ()}
        # destination.port restricted v1alpha1 and v1alpha2; it still does, wherever it stands.
        if (only := self._target.destination_port) is not None:
            listed = {only} if listed is None or only in listed else set()
        return None if listed is None else tuple(sorted(listed))

    def _port_layers(self, kind: str, served: _Served) -> Iterator[tuple[int, ...] | None]:
        """The ports of each route; a missing one empties the layer, even beside "all ports"."""
        found = [(i, rule, route) for i, (rule, route) in enumerate(self._routes)]
        rules = [(i, rule, route) for i, rule, route in found if rule.kind == kind]
        missing = [(i, rule) for i, rule, route in rules if route is None]
        for i, rule in missing:
            self._missing_route(i, rule)
        if missing:
            yield ()
            return
        for i, _, route in rules:
            assert isinstance(route, TCPRoute | UDPRoute)
            ports = read_ports(route)
            for port in ports or ():
                self._check_port(f"spec.rules[{i}]", str(route.ref), port, served)
            yield ports

    def _check_port(self, where: str, route: str, port: int, served: _Served) -> None:
        if not 1 <= port <= 65535:
            self._add(
                where,
                ProblemCode.INVALID_PORT,
                f"{route} lists {port}, which is no port.",
                "Write a number from 1 to 65535.",
            )
            return
        if port in served.targets or not (served.targets or served.others):
            return
        backing = [target for number, target in served.services if number == port]
        if backing:
            self._add(
                where,
                ProblemCode.NOT_A_TARGET_PORT,
                f"{route} lists {port}, which is only the Service's port; the pods serve it on "
                f"{backing[0]}.",
                f"List the target port {backing[0]} in {route}.",
            )
        elif port in served.others:
            self._add(
                where,
                ProblemCode.WRONG_TRANSPORT,
                f"{route} lists {port}, which the destination's pods serve over {served.other}.",
                f"List the port in a {served.other}Route, or write `protocol: {served.transport}` "
                "at the Service's port.",
            )
        else:
            numbers = ", ".join(str(number) for number in served.targets)
            self._add(
                where,
                ProblemCode.UNKNOWN_PORT,
                f"{route} lists {port}, which no Service of the destination's pods names.",
                f"List one of {numbers}, or name the port in a Service."
                if numbers
                else f"Name the port in a Service, with `protocol: {served.transport}`.",
            )

    def _http(self) -> tuple[HttpMatch, ...]:
        matches: list[HttpMatch] = []
        void = False
        for index, (rule, route) in enumerate(self._routes):
            if rule.kind != HTTP_ROUTES:
                continue
            if not isinstance(route, RouteMatches):
                self._missing_route(index, rule)
                void = True
                continue
            matches.extend(route.select(rule.matches))
            self._check_names(index, rule, route)
        return () if void else tuple(dict.fromkeys(matches))

    def _check_names(self, index: int, rule: Rule, route: RouteMatches) -> None:
        known = [name for name, _ in route.by_name]
        for position, name in enumerate(rule.matches or ()):
            if name not in known:
                self._add(
                    f"spec.rules[{index}].matches[{position}]",
                    ProblemCode.MISSING_MATCH,
                    f"HTTPRouteGroup {self._target.namespace}/{rule.name} has no usable match "
                    f"{name!r}.",
                    f"Name one of {', '.join(known)}." if known else "Add or mend the match.",
                )

    def _missing_route(self, index: int, rule: Rule) -> None:
        self._add(
            f"spec.rules[{index}].name",
            ProblemCode.MISSING_ROUTE,
            f"There is no {rule.kind} {self._target.namespace}/{rule.name}, and it could have "
            "been a restriction: the rules of its kind allow nothing.",
            "Create it in this namespace, or remove the rule.",
        )

    def _unknown_kind(self, where: str, kind: str, wanted: str) -> None:
        self._add(
            where,
            ProblemCode.UNKNOWN_KIND,
            f"The kind {kind!r} is not known here.",
            f"Write {wanted}.",
        )

    def _add(self, field: str, code: ProblemCode, message: str, cure: str) -> None:
        where = as_written(field, self._target)
        self.problems.append(
            Problem(ref=self._target.ref, field=where, code=code, message=message, cure=cure)
        )
