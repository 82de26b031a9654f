"""While one trust domain takes the place of another, whoever is accepted is so in both.

Names alone differ: who may call whom was decided by the mesh. So the lists by which peers are
judged are drawn longer before anything is made of them, and no generator knows of aliases. They
are the same before and after another domain is signed: only leaves change at that moment.

A request is judged by the name that its connection began with. So before an alias is dropped,
connections that began with it are drained: chains on which requests are judged get another name.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from smi_xds.mesh.model import Grant, Mesh, Service, ServicePort, Workload
from smi_xds.values import ProxyId, ServiceRef, SpiffeId

_K = TypeVar("_K")
_V = TypeVar("_V")


class Aliases:
    """Draws the lists of one mesh after another; what stays there, stays the very same here."""

    def __init__(self) -> None:
        self._workloads: _Kept[ProxyId, Workload] = _Kept(_workload)
        self._services: _Kept[ServiceRef, Service] = _Kept(_service)

    def __call__(self, mesh: Mesh) -> Mesh:
        """The mesh, with every accepted identity in all trust domains."""
        if not mesh.aliases:
            return mesh
        names = Names(
            domains=(mesh.trust_domain, *mesh.aliases),
            era=mesh.trust_domain if mesh.fading else "",
        )
        return replace(
            mesh,
            workloads=self._workloads(mesh.workloads, names),
            services=self._services(mesh.services, names),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """In which trust domains everybody has a name, and what to call the time in which it is so."""

    domains: tuple[str, ...]
    era: str


class _Kept(Generic[_K, _V]):
    """A mapping of longer values, each made once for the same names."""

    def __init__(self, longer: Callable[[_V, Names], _V]) -> None:
        self._longer = longer
        self._names: Names | None = None
        self._made: dict[_K, tuple[_V, _V]] = {}

    def __call__(self, values: Mapping[_K, _V], names: Names) -> Mapping[_K, _V]:
        before = self._made if names == self._names else {}
        self._names, self._made = names, {}
        for key, value in values.items():
            known = before.get(key)
            if known is None or known[0] is not value:
                known = (value, self._longer(value, names))
            self._made[key] = known
        return {key: made for key, (_, made) in self._made.items()}


def _workload(workload: Workload, names: Names) -> Workload:
    domains = names.domains
    return replace(
        workload,
        era=names.era,
        ports=tuple(replace(it, grants=_grants(it.grants, domains)) for it in workload.ports),
        udp_ports=tuple(
            replace(it, grants=_grants(it.grants, domains)) for it in workload.udp_ports
        ),
    )


def _grants(grants: Iterable[Grant], domains: tuple[str, ...]) -> tuple[Grant, ...]:
    return tuple(
        replace(
            grant,
            sources=tuple(
                sorted(
                    (
                        replace(source, identity=identity)
                        for source in grant.sources
                        for identity in _in_all((source.identity,), domains)
                    ),
                    # One identity stands there once.
                    key=lambda it: it.identity,
                )
            ),
        )
        for grant in grants
    )


def _service(service: Service, names: Names) -> Service:
    return replace(service, ports=tuple(_port(it, names.domains) for it in service.ports))


def _port(port: ServicePort, domains: tuple[str, ...]) -> ServicePort:
    return replace(
        port,
        identities=_in_all(port.identities, domains),
        pods=tuple((name, _port(pod, domains)) for name, pod in port.pods),
    )


def _in_all(identities: Iterable[SpiffeId], domains: tuple[str, ...]) -> tuple[SpiffeId, ...]:
    """Each by its name in every trust domain, sorted."""
    paths = {identity.path for identity in identities}
    return tuple(sorted(SpiffeId(domain, path) for domain in domains for path in paths))
