"""Shares of backends that have endpoints in common."""

from collections.abc import Mapping
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from smi_xds.mesh.model import Endpoint, EndpointState
from smi_xds.xds.endpoints import Group
from smi_xds.xds.shares import disjoint


def mk(number: int, *, draining: bool = False) -> Endpoint:
    state = EndpointState.DRAINING if draining else EndpointState.READY
    return Endpoint(address=f"10.0.0.{number}", port=80, state=state)


def group(name: str, weight: int, *endpoints: Endpoint) -> Group:
    return Group(name=name, weight=weight, endpoints=endpoints)


def shares(groups: tuple[Group, ...]) -> Mapping[str, Fraction]:
    """What each endpoint gets, as Envoy divides: by locality, then evenly within."""
    total = sum(it.weight for it in groups if it.endpoints)
    found: dict[str, Fraction] = {}
    for it in groups:
        for endpoint in it.endpoints:
            share = Fraction(it.weight, total * len(it.endpoints))
            found[endpoint.address] = found.get(endpoint.address, Fraction(0)) + share
    return found


def test_groups_that_share_nothing_stay_as_they_are() -> None:
    """The very same object, with what drains in its place."""
    groups = (group("a", 1, mk(1)), group("b", 3, mk(2), mk(3, draining=True)))
    assert disjoint(groups) is groups


def test_a_root_beside_one_of_its_parts() -> None:
    """The part has its own half, and its share of the root's."""
    found = disjoint((group("all", 1, mk(1), mk(2)), group("two", 1, mk(2))))
    assert [(it.name, it.weight) for it in found] == [("all", 1), ("all+two", 3)]


def test_what_drains_is_kept_and_gets_nothing() -> None:
    """In a locality of its own, which is never healthy; one that is ready for anyone is ready."""
    found = disjoint(
        (
            group("a", 1, mk(1), mk(2, draining=True), mk(3, draining=True)),
            group("b", 1, mk(1), mk(3)),
        )
    )
    assert [(it.name, [e.address for e in it.endpoints]) for it in found] == [
        ("a+b", ["10.0.0.1"]),
        ("b", ["10.0.0.3"]),
        ("draining", ["10.0.0.2"]),
    ]


def test_weights_fit_into_envoys_sum() -> None:
    """However large they are; none that is above 0 becomes 0."""
    found = disjoint(
        (group("a", 1, mk(1), mk(2), mk(3)), group("b", 1_000_000_000, mk(3), mk(4), mk(5)))
    )
    assert all(it.weight > 0 for it in found)
    assert sum(it.weight for it in found) <= 2**32 - 1


_GROUPS = st.lists(
    st.tuples(st.integers(1, 100), st.sets(st.integers(1, 6), min_size=1)), min_size=1, max_size=4
)


@given(_GROUPS)
def test_every_endpoint_keeps_its_share(written: list[tuple[int, set[int]]]) -> None:
    """And stands in one group, with no other of its address."""
    groups = tuple(
        group(f"g{index}", weight, *(mk(number) for number in sorted(numbers)))
        for index, (weight, numbers) in enumerate(written)
    )
    found = disjoint(groups)
    assert shares(found) == shares(groups)
    addresses = [endpoint.address for it in found for endpoint in it.endpoints]
    assert len(addresses) == len(set(addresses))
