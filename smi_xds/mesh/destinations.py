"""What an intercepted workload means by an address: a service, or one pod of a headless one.

The application resolved the name by itself, so that the address is all that it says.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from smi_xds.mesh.model import Destination, PortRef, Protocol, Service
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ObjectRef


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """A service port says that an address is its own."""

    destination: Destination
    ref: PortRef
    protocol: Protocol


def address_claims(service: Service) -> tuple[Claim, ...]:
    """The addresses at which a service is called; a headless one at those of its pods."""
    return tuple(_claims(service))


def _claims(service: Service) -> Iterator[Claim]:
    for port in service.ports:
        if port.protocol is Protocol.UDP:
            continue
        for address in service.addresses:
            ref = PortRef(service.service, port.number)
            yield Claim(Destination(address, port.number), ref, port.protocol)
        for name, pod in port.pods:
            ref = PortRef(service.service, port.number, pod=name)
            for endpoint in pod.endpoints:
                # Without a cluster IP nobody turns the service's port into the target port.
                there = Destination(endpoint.address, endpoint.port)
                yield Claim(there, ref, port.protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Who is meant by each address, and what is wrong with some of them."""

    found: Mapping[Destination, PortRef]
    problems: tuple[Problem, ...] = ()


NO_DESTINATIONS = Destinations(found={})


def build_destinations(claims: Iterable[tuple[Claim, ...]]) -> Destinations:
    """Of two that claim one address and port the first by name has it: Envoy takes no duplicate.

    Of headless services that share pods either leads to the same pod; that only matters where
    they disagree about the protocol.
    """
    owners: dict[Destination, Claim] = {}
    problems: dict[tuple[PortRef, PortRef], Problem] = {}
    for claim in sorted(claim for group in claims for claim in group):
        owner = owners.setdefault(claim.destination, claim)
        if owner is claim:
            continue
        # One for all pods of a service: they say the same.
        between = replace(owner.ref, pod=""), replace(claim.ref, pod="")
        if not (owner.ref.pod and claim.ref.pod):
            problems.setdefault(between, _taken(owner, claim))
        elif owner.protocol is not claim.protocol:
            problems.setdefault(between, _disagreement(owner, claim))
    return Destinations(
        found={destination: owner.ref for destination, owner in owners.items()},
        problems=tuple(problems.values()),
    )


def _taken(owner: Claim, claim: Claim) -> Problem:
    return Problem(
        ref=_service(claim),
        field="spec.clusterIP",
        code=ProblemCode.ADDRESS_CONFLICT,
        message=f"Service {owner.ref.service} is called at {claim.destination} too, and has it.",
        cure="Give each Service an address of its own.",
    )


def _disagreement(owner: Claim, claim: Claim) -> Problem:
    return Problem(
        ref=_service(claim),
        field=f"port {claim.ref.port}",
        code=ProblemCode.PORT_CONFLICT,
        message=f"Headless Service {owner.ref.service} says that {claim.destination} speaks "
        f"{owner.protocol}, this one says {claim.protocol}; {owner.protocol} counts.",
        cure="Give both Service ports the same appProtocol or name prefix.",
    )


def _service(claim: Claim) -> ObjectRef:
    return ObjectRef("Service", claim.ref.service.namespace, claim.ref.service.name)
