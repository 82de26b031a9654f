"""Who of the connected proxies has what the authority of now is about."""

import pytest

from smi_xds.ads.session import Acked, Node, Rejected, Response
from smi_xds.ads.session.pictures import Picture
from smi_xds.ads.status import Status, StreamStatus
from smi_xds.app.distribution import Distribution, Tally
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, SECRET


def response(serial: int, type_: TypeUrl = SECRET) -> Response:
    return Response(
        type=type_,
        serial=serial,
        version=f"v{serial}",
        resources=(),
        told=Picture(type_, {}),
        replaced={},
    )


class Plane:
    """A server in short: rounds, streams and what they answer."""

    def __init__(self) -> None:
        self.status = Status()
        self.rounds = 0
        self.settled = True
        self.lacking: list[str] = []
        self.watched = Distribution(
            self.status,
            rounds=lambda: self.rounds,
            is_settled=lambda: self.settled,
            lacking=lambda: self.lacking,
        )

    def publish(self, *streams: StreamStatus) -> None:
        self.rounds += 1
        self.status.round_begins(self.rounds)
        for stream in streams:
            self.status.changed(stream, is_known=True, is_due=True)
        self.status.round_published(self.rounds)

    def connect(self, name: str) -> StreamStatus:
        return self.status.opened(Node(name), is_delta=True, peer="", is_known=True)

    def answers(self, stream: StreamStatus, *, type_: TypeUrl = SECRET, nack: bool = False) -> None:
        sent = response(self.rounds, type_)
        self.status.sent(stream, sent, 10)
        if nack:
            refused = frozenset({"trust"})
            self.status.nacked(stream, Rejected(response=sent, text="no", refused=refused))
        else:
            self.status.acked(stream, Acked(response=sent, refused=frozenset()))
        self.status.settled(stream)


@pytest.fixture
def plane() -> Plane:
    plane = Plane()
    plane.publish()
    plane.watched.begins(everything=False)
    return plane


def tally(*, waiting: int = 0, refusing: int = 0, named: tuple[str, ...] = ()) -> Tally:
    return Tally(waiting=waiting, refusing=refusing, named=named)


def test_before_a_round_nothing_is_known(plane: Plane) -> None:
    """What was published before does not count, however long ago."""
    assert plane.watched.look() is None

    plane.publish()

    assert plane.watched.look() == tally()


def test_leaves_of_a_former_signer_are_waited_for(plane: Plane) -> None:
    """And then for the round that brings the last of them."""
    plane.settled = False
    plane.publish()
    assert plane.watched.look() is None

    plane.settled = True
    assert plane.watched.look() is None
    plane.publish()

    assert plane.watched.look() == tally()


def test_who_has_not_answered_is_waited_for(plane: Plane) -> None:
    """Later rounds are not: they have no end."""
    one, other = plane.connect("shop/one"), plane.connect("shop/other")
    plane.publish(one, other)
    assert plane.watched.look() == tally(waiting=2, named=("shop/one", "shop/other"))

    plane.answers(one)
    assert plane.watched.look() == tally(waiting=1, named=("shop/other",))
    plane.answers(other)
    assert plane.watched.look() == tally()

    plane.publish(one)
    assert plane.watched.look() == tally()


def test_who_leaves_is_not_waited_for(plane: Plane) -> None:
    """For those the floor is."""
    stream = plane.connect("shop/one")
    plane.publish(stream)
    assert plane.watched.look() == tally(waiting=1, named=("shop/one",))

    plane.status.closed(stream)

    assert plane.watched.look() == tally()


def test_who_comes_has_to_acknowledge_once(plane: Plane) -> None:
    """Also where that began after the round."""
    plane.publish()
    assert plane.watched.look() == tally()

    stream = plane.connect("shop/new")
    assert plane.watched.look() == tally(waiting=1, named=("shop/new",))
    plane.answers(stream)

    assert plane.watched.look() == tally()


def test_who_refuses_is_told_apart(plane: Plane) -> None:
    """Until it takes it."""
    stream = plane.connect("shop/one")
    plane.publish(stream)
    assert plane.watched.look() is not None
    plane.answers(stream, nack=True)

    assert plane.watched.look() == tally(refusing=1, named=("shop/one",))

    plane.publish(stream)
    plane.answers(stream)
    assert plane.watched.look() == tally()


@pytest.mark.parametrize("everything, refusing", [(False, 0), (True, 1)])
def test_refused_clusters_matter_where_lists_of_identities_change(
    plane: Plane, everything: bool, refusing: int
) -> None:
    """Another root is in secrets alone; a trust domain is everywhere."""
    plane.watched.begins(everything=everything)
    stream = plane.connect("shop/one")
    plane.publish(stream)
    plane.answers(stream, type_=CLUSTER, nack=True)
    plane.answers(stream)

    found = plane.watched.look()

    assert found is not None
    assert found.refusing == refusing


def test_whoever_else_lacks_the_roots_is_waited_for(plane: Plane) -> None:
    """ConfigMaps from which pods learn them."""
    plane.publish()
    plane.lacking = ["ConfigMap shop/smi-xds-trust"]

    assert plane.watched.look() == tally(waiting=1, named=("ConfigMap shop/smi-xds-trust",))
