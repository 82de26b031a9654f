"""Shares of a split whose backends have endpoints in common, such as a root that is one of them.

Envoy keeps an address in the first locality that has it and drops it from the others (its EDS
cluster, "only the first one will be retained"), which would shift the shares. So endpoints are put
together by the backends that they belong to: each such set is a locality, and has what its members
get of all of these backends.
"""

from fractions import Fraction
from math import lcm

from smi_xds.mesh.model import Endpoint, EndpointState
from smi_xds.xds.endpoints import Group

# config.endpoint.v3.LocalityLbEndpoints: the sum of the weights must fit into uint32.
_MOST = 1_000_000_000

_DRAINING = "draining"


def disjoint(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Groups without common endpoints, in which every endpoint has the share that it had."""
    everyone = [(it.address, it.port) for group in groups for it in group.endpoints]
    if len(set(everyone)) == len(everyone):
        return groups
    ready: dict[tuple[str, int], tuple[Endpoint, list[int]]] = {}
    drained: dict[tuple[str, int], Endpoint] = {}
    for index, group in enumerate(groups):
        for endpoint in group.endpoints:
            key = endpoint.address, endpoint.port
            if endpoint.state is EndpointState.READY:
                ready.setdefault(key, (endpoint, []))[1].append(index)
            else:
                drained[key] = endpoint
    sets: dict[tuple[int, ...], list[Endpoint]] = {}
    for endpoint, found in ready.values():
        sets.setdefault(tuple(found), []).append(endpoint)
    left = [endpoint for key, endpoint in drained.items() if key not in ready]
    return (*_weighted(groups, sets), *_drained(left))


def _weighted(
    groups: tuple[Group, ...], sets: dict[tuple[int, ...], list[Endpoint]]
) -> list[Group]:
    sizes = [
        sum(len(there) for found, there in sets.items() if index in found)
        for index in range(len(groups))
    ]
    shares = {
        found: sum(
            (Fraction(groups[index].weight * len(there), sizes[index]) for index in found),
            start=Fraction(0),
        )
        for found, there in sets.items()
    }
    whole = lcm(*(share.denominator for share in shares.values()))
    total = whole * sum(shares.values())
    scale = whole if total <= _MOST else whole * _MOST / total
    return [
        Group(
            name="+".join(groups[index].name for index in found),
            weight=int(shares[found] * scale) or 1,
            endpoints=tuple(there),
        )
        for found, there in sorted(sets.items())
    ]


def _drained(endpoints: list[Endpoint]) -> list[Group]:
    # None of them is healthy, so that Envoy gives nothing to the locality, whatever its weight.
    return [Group(name=_DRAINING, endpoints=tuple(endpoints))] if endpoints else []
