"""What holds for every stream: rules E1 to E10, and what makes many streams cheap."""

import time

import pytest

from smi_xds.ads.session import (
    MAX_TYPES,
    Close,
    DeltaRequest,
    DeltaSession,
    Memo,
    Node,
    Refusal,
    SotwRequest,
    identify,
    stream,
)
from smi_xds.ads.session import memo as memos
from smi_xds.ads.session.messages import LONGEST_NODE
from smi_xds.ads.session.stream import _cost
from smi_xds.ads.session.subscription import blamed
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, EMPTY, ENDPOINTS, LISTENER, ROUTES, TYPES
from tests.ads.play import (
    DELTA,
    SOTW,
    Play,
    ack,
    ask,
    ask_again,
    hear,
    leave,
    play,
    publish,
    publish_set,
    resource,
    resources,
    settled,
    silence,
    start,
)

BOTH = pytest.mark.parametrize("dialect", [DELTA, SOTW])
UNKNOWN = TypeUrl("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig")


@BOTH
def test_e1_a_request_without_type_closes_the_stream(dialect: str) -> None:
    """E1: on ADS nothing else tells what is asked for."""

    def closed(play: Play) -> None:
        assert isinstance(play.event, Close)
        assert play.event.code == Refusal.INVALID_ARGUMENT
        assert "type_url" in play.event.text

    play(dialect, ask(TypeUrl("")), closed)


@pytest.mark.parametrize("node", [None, Node(""), Node("x" * (LONGEST_NODE + 1))])
def test_e2_the_first_request_must_name_its_node(node: Node | None) -> None:
    """E2: without it nobody knows whose configuration is asked for."""
    verdict = identify(SotwRequest(type=CLUSTER, node=node))

    assert isinstance(verdict, Close)
    assert verdict.code == Refusal.INVALID_ARGUMENT
    assert "node" in verdict.text


def test_e2_the_node_of_the_first_request_counts() -> None:
    """E2: it is who the stream belongs to."""
    node = Node("default/a", "envoy 1.40")

    assert identify(DeltaRequest(type=CLUSTER, node=node)) is node


@BOTH
def test_e3_a_response_is_of_one_type(dialect: str) -> None:
    """E3: every resource in it is of the type that it announces."""
    here = play(
        dialect,
        publish(*(f"{kind} a 1" for kind in ("secret", "cluster", "endpoints"))),
        *(ask(type_, "a") for type_ in TYPES[:3]),
    )

    for _ in range(3):
        response = here.next()
        assert response is not None
        assert {each.type for each in response.resources} == {response.type}


@BOTH
def test_e6_nonces_never_repeat_on_a_stream(dialect: str) -> None:
    """E6: also where the same content goes back and forth, and with results shared by others."""
    memo = Memo()
    steps = [publish("cluster a 1"), ask(CLUSTER), hear(CLUSTER, "a"), ack(CLUSTER)]
    for content in "212121":
        steps += [publish(f"cluster a {content}"), hear(CLUSTER, f"a@{content}"), ack(CLUSTER)]

    for _ in range(3):
        play(dialect, *steps, memo=memo)  # Play asserts it


@BOTH
def test_e9_an_unknown_type_is_held(dialect: str) -> None:
    """E9: SotW has nothing to say, delta that the names are absent; the stream goes on."""
    here = play(
        dialect,
        publish("cluster a 1"),
        ask(UNKNOWN, "x"),
        *([hear(UNKNOWN, removed=("x",)), ack(UNKNOWN)] if dialect == DELTA else [silence]),
        ask(CLUSTER),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        settled,
    )
    assert here.session.is_settled


@BOTH
def test_e9_there_is_an_end_to_unknown_types(dialect: str) -> None:
    """E9: each costs memory, so a stream that invents types without end is closed."""
    many = [ask(TypeUrl(f"x/{n}"), "a") for n in range(MAX_TYPES)]
    assert play(dialect, *many).event is None

    event = play(dialect, *many, ask(TypeUrl("x/one-more"), "a")).event

    assert isinstance(event, Close)
    assert event.code == Refusal.RESOURCE_EXHAUSTED
    assert "x/one-more" in event.text


@BOTH
def test_e9_there_is_an_end_to_names(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E9: those that are wanted are kept; of all types, and not those that were left."""
    types = _cost([ROUTES, ENDPOINTS])
    monkeypatch.setattr(stream, "MAX_HELD", types + _cost("abcd"))
    fewer = leave(ROUTES, "a", "b") if dialect == DELTA else ask(ROUTES, "c")
    enough = [ask(ROUTES, "a", "b", "c"), fewer, ask(ENDPOINTS, "a", "b", "c")]
    assert play(dialect, *enough).event is None

    for more in (ask(ENDPOINTS, "a", "b", "c", "d"), ask(LISTENER, "a")):
        event = play(dialect, *enough, more).event
        assert isinstance(event, Close)
        assert event.code == Refusal.RESOURCE_EXHAUSTED


def test_e9_what_a_client_has_already_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """E9: it is kept until it is told that it is gone, and so is its version."""
    monkeypatch.setattr(stream, "MAX_HELD", _cost([CLUSTER]) + _cost("ab") + 2)
    assert play(DELTA, ask(CLUSTER, known={"a": "1", "b": "1"})).event is None
    for more in (dict.fromkeys("abc", "1"), {"a": "1", "b": "11"}):
        assert isinstance(play(DELTA, ask(CLUSTER, known=more)).event, Close)


def test_e9_what_a_client_brought_counts_until_it_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """E9: then it has what we told it instead, and has room again to ask for as much as others."""
    types = _cost([ENDPOINTS, ROUTES])
    monkeypatch.setattr(stream, "MAX_HELD", types + _cost("ab") + _cost("abc"))
    here = (publish("endpoints a 2", "endpoints b 2"), ask(ENDPOINTS, "a", "b", known={"a": "1"}))
    assert isinstance(play(DELTA, *here, ask(ROUTES, "a", "b", "c")).event, Close)

    answered = play(DELTA, *here, hear(ENDPOINTS, "a@2", "b@2"), ack(ENDPOINTS))

    assert answered.session._held == _cost("ab") + _cost([ENDPOINTS])
    ask(ROUTES, "a", "b", "c")(answered)
    assert answered.event is None


def test_e9_what_a_client_has_of_ours_counts_for_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """E9: who asked for all that there is room for can bring it back on the next stream."""
    monkeypatch.setattr(stream, "MAX_HELD", _cost([ENDPOINTS]) + 2 * _cost("ab"))
    known = {name: resource(f"endpoints {name} 1").version for name in "ab"}
    here = publish("endpoints a 1", "endpoints b 1")
    same = play(DELTA, here, ask(ENDPOINTS, "a", "b", known=known))
    assert same.session._held == _cost([ENDPOINTS]) + _cost("ab")

    older = play(DELTA, here, ask(ENDPOINTS, "a", "b", known={**known, "a": "1"}))

    assert older.event is None
    nothing_left = _cost([ENDPOINTS]) + 2 * _cost("ab")
    assert same.session._held < older.session._held < nothing_left


def test_e9_nothing_brought_counts_where_nothing_is_left_to_tell() -> None:
    """E9: what was not asked for is not kept; and after a restart of ours, all may be as it was."""
    known = {"a": resource("endpoints a 1").version, "x": "1"}
    here = play(DELTA, publish(), ask(ENDPOINTS, "a", known=known))
    assert here.session._held == _cost([ENDPOINTS]) + 2 * _cost("a") + len(known["a"])

    publish("endpoints a 1")(here)
    while (response := here.next()) is not None:  # Envoy may wait for endpoints (W6)
        ack(response.type)(here)

    assert here.session._held == _cost([ENDPOINTS]) + _cost("a")


@BOTH
def test_e9_the_names_of_types_count(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E9: a type that nobody knows may have a name of megabytes, and is held all the same."""
    monkeypatch.setattr(stream, "MAX_HELD", 2000)
    long = TypeUrl("x/" + "y" * 2000)

    assert play(dialect, ask(TypeUrl("x/y"))).event is None
    event = play(dialect, ask(long)).event

    assert isinstance(event, Close)
    assert event.code == Refusal.RESOURCE_EXHAUSTED


@BOTH
def test_e9_what_is_said_of_a_type_is_short(dialect: str) -> None:
    """E9: it goes to the client in a header, and to the log."""
    many = [ask(TypeUrl(f"x/{n}")) for n in range(MAX_TYPES)]

    event = play(dialect, *many, ask(TypeUrl("x" * 5000))).event

    assert isinstance(event, Close)
    assert len(event.text) < 300


@BOTH
def test_a_silent_client_costs_one_slot(dialect: str) -> None:
    """Whatever is published meanwhile, the next response has the latest and only that."""
    play(
        dialect,
        publish("routes r 0"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r@0"),
        *(publish(f"routes r {n}") for n in range(1, 100)),
        silence,
        ack(ROUTES),
        hear(ROUTES, "r@99"),
        silence,
    )


@BOTH
def test_streams_in_the_same_state_share_everything(dialect: str) -> None:
    """Two clients with the same history get the very same responses, from different sets too."""
    memo = Memo()
    lines = ("cluster a 1 > endpoints a", "endpoints a 1", "routes r 1")
    begin = start(CLUSTER, ENDPOINTS, ROUTES, endpoints=("a",), routes=("r",))
    one, other = (play(dialect, publish(*lines), begin, memo=memo) for _ in range(2))

    for each in (one, other):
        publish(*lines[:2], "routes r 2")(each)
        hear(ROUTES, "r@2")(each)

    assert one.heard[ROUTES] is other.heard[ROUTES]
    subs, others = one.session._subs, other.session._subs
    for type_ in (CLUSTER, ENDPOINTS, ROUTES):
        assert subs[type_].interest is others[type_].interest
        assert subs[type_].told is others[type_].told
        assert subs[type_].doubts is others[type_].doubts


@BOTH
def test_unchanged_layers_are_not_looked_at(dialect: str) -> None:
    """A new set whose layers of a type are the same objects is no news of that type."""
    one = resources("cluster a 1", "routes r 1")
    other = type(one)({**one.layers, ROUTES: resources("routes r 2").layers[ROUTES]})
    wrapped = type(one)({CLUSTER: (one.layers[CLUSTER][0],), ROUTES: other.layers[ROUTES]})

    here = play(
        dialect,
        publish_set(one),
        start(CLUSTER, ROUTES, routes=("r",)),
        publish_set(other),
    )

    assert not here.session._subs[CLUSTER].dirty
    assert here.session._subs[ROUTES].dirty
    hear(ROUTES, "r@2")(here)
    ack(ROUTES)(here)
    settled(here)
    publish_set(wrapped)(here)
    assert not here.session.is_due


def test_a_memo_forgets_what_is_not_used() -> None:
    """After two rounds without use nothing is kept alive by the memo."""
    memo = Memo()
    here: Play | None = play(
        DELTA, publish("cluster a 1"), ask(CLUSTER, "a"), hear(CLUSTER, "a"), memo=memo
    )
    assert len(memo._pictures) > 0

    here = None
    memo.rotate()
    memo.rotate()

    assert here is None
    assert len(memo._pictures) == 0
    assert len(memo._interests) == 0


def test_a_memo_is_bounded_between_rounds() -> None:
    """Streams that ask for ever new things do not make it grow without end."""
    memo = Memo()
    published = resources(*(f"cluster c{n} 1" for n in range(20)))

    for n in range(6000):
        session = DeltaSession(published, memo=memo)
        session.receive(DeltaRequest(type=CLUSTER, subscribe=(f"c{n}",)), 0.0)
        assert session.next(0.0) is not None

    assert len(memo._responses._new) + len(memo._responses._old) <= 2 * 4096


@BOTH
def test_a_memo_is_bounded_by_the_names_that_it_keeps(
    dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that asks for one more name, again and again, leaves no set for each of them."""
    monkeypatch.setattr(memos, "_NAMES", 1000)
    memo, names = Memo(), [f"r{n}" for n in range(200)]
    asked = [
        step
        for n, name in enumerate(names)
        for step in (
            ask(ROUTES, name) if dialect == DELTA else ask_again(ROUTES, *names[: n + 1]),
            hear_something,
            ack(ROUTES),
        )
    ]

    here = play(dialect, publish(*(f"routes {name} 1" for name in names)), *asked, memo=memo)

    assert len(here.heard[ROUTES].told.resources) == 200
    # Without that limit: 200.
    assert len(memo._interests) < 30
    assert len(memo._pictures) < 30


def hear_something(play: Play) -> None:
    assert play.next() is not None


@BOTH
def test_an_empty_set_is_served(dialect: str) -> None:
    """A client for which there is nothing gets empty answers, and what comes later."""
    play(
        dialect,
        publish_set(EMPTY),
        ask(CLUSTER),
        hear(CLUSTER),
        ask(LISTENER),
        hear(LISTENER),
        ack(CLUSTER, LISTENER),
        settled,
        publish("cluster a 1", "listener l 1 > cluster a"),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        hear(LISTENER, "l"),
    )


@pytest.mark.parametrize(
    "listed, refused",
    [
        ("cluster(s) a: no, c: bad address", {"a", "c"}),
        ("listener(s) a: no\nb: x: y", {"a", "b"}),
        ("cluster(s) shop/a: no", {"a", "b", "c"}),
        ("cluster(s) d: no", {"a", "b", "c"}),
        ("a", {"a", "b", "c"}),
    ],
)
def test_d9_whom_a_client_blames(listed: str, refused: set[str]) -> None:
    """D9: those that it lists; all of them where it lists none that it was sent."""
    assert blamed(["a", "b", "c"], f"Error adding/updating {listed}") == refused


def test_d9_a_long_complaint_is_read_soon() -> None:
    """D9: it took 100 s to look for each of a thousand names in 30 MB."""
    names = [f"outbound/shop/service-{number}/80" for number in range(1000)]
    began = time.thread_time()

    for text in ("x" * (30 << 20), " outbound/shop/service-" * (1 << 20)):
        assert blamed(names, f"Error adding/updating {text}") == set(names)

    assert time.thread_time() - began < 2.0
