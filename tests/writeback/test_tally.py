"""How many proxies have an object, by what they said."""

from smi_xds.ads.session import Acked, Node, Rejected, Response
from smi_xds.ads.session.pictures import Picture
from smi_xds.ads.status import Status, StreamStatus
from smi_xds.mesh.model import Mesh
from smi_xds.values import ProxyId
from smi_xds.writeback.concern import EVERYONE, NOBODY, Concern
from smi_xds.writeback.conditions import Tally
from smi_xds.writeback.tally import fleet_of
from smi_xds.xds.resources import CLUSTER, LISTENER
from tests.support.mesh import build_mesh
from tests.support.objects import NS, mk_pod, spiffe

WEB_1, WEB_2, API = (ProxyId(NS, name) for name in ("web-1", "web-2", "api"))
WEB = Concern(frozenset({spiffe("web")}))


def mk_mesh() -> Mesh:
    return build_mesh(
        mk_pod("web-1", "10.0.0.1", account="web"),
        mk_pod("web-2", "10.0.0.2", account="web"),
        mk_pod("api", "10.0.0.3"),
    )


def response(serial: int = 1) -> Response:
    return Response(
        type=CLUSTER,
        serial=serial,
        version=f"v{serial}",
        resources=(),
        told=Picture(CLUSTER, {}),
        replaced={},
    )


class Plane:
    """An account of streams, and rounds that concern some of them."""

    def __init__(self) -> None:
        self.status = Status()
        self.round = 0

    def publish(self, *streams: StreamStatus) -> None:
        self.round += 1
        self.status.round_begins(self.round)
        for stream in streams:
            self.status.changed(stream, is_known=True, is_due=True)
        self.status.round_published(self.round)

    def open(self, proxy: ProxyId | str) -> StreamStatus:
        return self.status.opened(Node(str(proxy)), is_delta=True, peer="", is_known=True)

    def settle(self, *streams: StreamStatus) -> None:
        for stream in streams:
            self.status.settled(stream)

    def tally(self, concern: Concern, number: int) -> Tally:
        return fleet_of(mk_mesh(), self.status.streams.values()).tally(concern, number)


def mk_plane() -> tuple[Plane, StreamStatus, StreamStatus]:
    """Both proxies of web, which have the first round."""
    plane = Plane()
    plane.publish()
    one, two = plane.open(WEB_1), plane.open(WEB_2)
    plane.settle(one, two)
    return plane, one, two


def test_all_have_it() -> None:
    """Those who are connected are counted, those who are configured are known."""
    plane, _, _ = mk_plane()

    assert plane.tally(WEB, 1) == Tally(configured=2, connected=2, applied=2)
    assert plane.tally(EVERYONE, 1) == Tally(configured=3, connected=2, applied=2)
    assert plane.tally(NOBODY, 1) == Tally()
    assert plane.tally(Concern(frozenset({spiffe("nobody")})), 1) == Tally()


def test_one_lacks_a_round() -> None:
    """And has all those before it."""
    plane, one, two = mk_plane()
    plane.publish(one, two)
    plane.settle(two)

    assert plane.tally(WEB, 1) == Tally(configured=2, connected=2, applied=2)
    expected = Tally(configured=2, connected=2, applied=1, waiting=WEB_1)
    assert plane.tally(WEB, 2) == expected
    plane.publish(one, two)
    assert plane.tally(WEB, 2) == expected
    assert plane.tally(WEB, 3).applied == 0
    assert plane.tally(WEB, 3).waiting == WEB_1


def test_who_never_had_everything_has_nothing() -> None:
    """A proxy that came after a round was over has not got it yet."""
    plane, _, _ = mk_plane()
    late = plane.open(API)
    before = plane.tally(EVERYONE, 1)
    plane.settle(late)

    assert before == Tally(configured=3, connected=3, applied=2, waiting=API)
    assert plane.tally(EVERYONE, 1).applied == 3


def test_who_refuses_something_does_not_have_it() -> None:
    """Until it accepts; the first one is named, and what it says."""
    plane, one, two = mk_plane()
    for stream in (two, one):
        plane.status.sent(stream, response(), 10)
        plane.status.nacked(stream, Rejected(response(), f"no, {stream.number}", frozenset("x")))
    refused = plane.tally(WEB, 1)
    single = plane.tally(Concern(proxies=frozenset({WEB_2})), 1)
    others = plane.tally(Concern(frozenset({spiffe("api")})), 1)
    plane.status.sent(one, response(2), 10)
    plane.status.acked(one, Acked(response(2)))

    assert (refused.applied, refused.refusing, refused.error) == (0, WEB_1, "no, 1")
    assert (single.refusing, single.connected) == (WEB_2, 1)
    assert others.refusing is None
    assert plane.tally(WEB, 1).applied == 1


def test_single_proxies_of_an_identity() -> None:
    """Others of the same identity are not counted with them."""
    plane, one, _ = mk_plane()
    plane.publish(one)
    single = Concern(proxies=frozenset({WEB_2, ProxyId(NS, "gone")}))

    assert plane.tally(single, 2) == Tally(configured=1, connected=1, applied=1)
    lagging = Concern(proxies=frozenset({WEB_1}))
    assert plane.tally(lagging, 2) == Tally(configured=1, connected=1, waiting=WEB_1)


def test_of_several_streams_of_one_proxy_the_worst_counts() -> None:
    """It is one proxy all the same; who is none of the mesh is nobody."""
    plane, one, _ = mk_plane()
    second = plane.open(WEB_1)
    for stranger in ("elsewhere/x", "no-proxy"):
        plane.open(stranger)
    second.of(LISTENER)  # asked for, and no more
    plane.publish(one)

    assert plane.tally(WEB, 1) == Tally(configured=2, connected=2, applied=1, waiting=WEB_1)
    assert plane.tally(EVERYONE, 1).connected == 2
