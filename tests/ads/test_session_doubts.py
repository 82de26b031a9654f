"""What a client may still use: forms it did not confirm, refuse or was never sent by this stream.

Each test is about something that is remembered too long, or not long enough.
"""

import pytest

from smi_xds.ads.session import HOLD, Acked, Rejected
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, LISTENER, ROUTES
from tests.ads.play import (
    DELTA,
    SOTW,
    Play,
    Step,
    ack,
    ask,
    hear,
    leave,
    nack,
    play,
    publish,
    resource,
    settled,
    silence,
    start,
    wait,
)

BOTH = pytest.mark.parametrize("dialect", [DELTA, SOTW])


def known(*lines: str) -> dict[str, str]:
    """The versions of what a client brings from another stream."""
    return {made.name: made.version for made in map(resource, lines)}


def refused(*names: str) -> Step:
    """The last answer left just these refused."""

    def step(play: Play) -> None:
        assert isinstance(play.event, Acked | Rejected)
        assert play.event.refused == frozenset(names)

    return step


def release_at(time: float | None) -> Step:
    """When the session wants to be asked again."""

    def step(play: Play) -> None:
        assert play.session.release_at == time

    return step


def held_until(time: float) -> Step:
    """Nothing comes before that time."""

    def step(play: Play) -> None:
        silence(play)
        release_at(time)(play)
        play.now = time

    return step


# ---------------------------------------------------------------------- what may be in use


@BOTH
def test_w2_only_what_is_in_doubt_is_kept(dialect: str) -> None:
    """W2: a cluster that no form of the unanswered routes uses goes at once."""
    play(
        dialect,
        publish("cluster a 1", "cluster b 1", "cluster c 1", "routes r 1 > cluster a"),
        start(CLUSTER, ROUTES, routes=("r",)),
        publish("cluster a 1", "cluster c 1", "routes r 2 > cluster c"),
        hear(CLUSTER, "a", "c") if dialect == SOTW else hear(CLUSTER, removed=("b",)),
        ack(CLUSTER),
        hear(ROUTES, "r@2"),
        publish("cluster c 1", "routes r 2 > cluster c"),
        silence,  # a is in doubt
        ack(ROUTES),
        hear(CLUSTER, "c") if dialect == SOTW else hear(CLUSTER, removed=("a",)),
        ack(CLUSTER),
        settled,
    )


@BOTH
def test_w2_a_cluster_goes_while_routes_that_never_used_it_are_in_doubt(dialect: str) -> None:
    """W2: an answer that is missing keeps what it is about, not everything."""
    play(
        dialect,
        publish("cluster a 1", "cluster b 1", "routes r 1 > cluster a"),
        start(CLUSTER, ROUTES, routes=("r",)),
        publish("cluster a 1", "cluster b 1", "routes r 2 > cluster a"),
        hear(ROUTES, "r@2"),
        publish("cluster a 1", "routes r 2 > cluster a"),
        hear(CLUSTER, "a") if dialect == SOTW else hear(CLUSTER, removed=("b",)),
    )


def test_w2_doubts_add_up_after_a_refusal() -> None:
    """W2, D9: the form before the refused one and the refused one itself may both be in use."""
    play(
        DELTA,
        publish("cluster a 1", "cluster b 1", "cluster c 1", "routes r 1 > cluster a"),
        start(CLUSTER, ROUTES, routes=("r",)),
        publish("cluster a 1", "cluster b 1", "cluster c 1", "routes r 2 > cluster b"),
        hear(ROUTES, "r@2"),
        nack(ROUTES),
        publish("cluster c 1", "routes r 3 > cluster c"),
        hear(ROUTES, "r@3"),
        publish("cluster c 1", "cluster d 1", "routes r 3 > cluster c"),
        hear(CLUSTER, "d"),
        ack(CLUSTER, ROUTES),
        hear(CLUSTER, removed=("a", "b")),
        ack(CLUSTER),
        settled,
    )


def test_w2_doubts_end_with_the_subscription() -> None:
    """W2, D5: routes that the client dropped use nothing; those that it kept still do."""
    old = ("routes r 1 > cluster a", "routes s 1 > cluster b")
    new = ("routes r 2 > cluster c", "routes s 2 > cluster c")
    clusters = [f"cluster {name} 1" for name in "abc"]
    play(
        DELTA,
        publish(*clusters, *old),
        start(CLUSTER, ROUTES, routes=("r", "s")),
        publish(*clusters, *new),
        hear(ROUTES, "r@2", "s@2"),
        leave(ROUTES, "r"),
        publish("cluster c 1", *new),
        hear(CLUSTER, removed=("a",)),
        ack(CLUSTER, ROUTES),
        hear(CLUSTER, removed=("b",)),
    )


# ---------------------------------------------------------------------- what was refused


def test_s13_a_refusal_of_the_full_state_is_one_of_all_of_it() -> None:
    """S13, S4: what was repeated and what was left out are in question; an ACK settles all."""
    play(
        SOTW,
        publish("cluster a 1", "cluster b 1"),
        start(CLUSTER),
        publish("cluster a 1"),
        hear(CLUSTER, "a"),
        nack(CLUSTER),
        refused("a", "b"),
        publish("cluster a 1", "cluster c 1"),
        hear(CLUSTER, "a", "c"),
        ack(CLUSTER),
        refused(),
        settled,
    )


def test_d9_what_was_sent_again_can_be_refused() -> None:
    """D9, D3: the client dropped it, asked again, and does not take it this time."""
    play(
        DELTA,
        publish("cluster a 1", "cluster b 1"),
        ask(CLUSTER, "a", "b"),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER),
        ask(CLUSTER, "a"),
        hear(CLUSTER, "a"),
        nack(CLUSTER),
        refused("a"),
    )


# ---------------------------------------------------------------------- what a client brings


def test_d7_what_a_client_brings_is_not_sent_again() -> None:
    """D7: also of a type that nothing else warms, asked for by name."""
    play(
        DELTA,
        publish("cluster a 1", "cluster b 1"),
        ask(CLUSTER, "a", "b", known=known("cluster a 1", "cluster b 1")),
        settled,
    )


@pytest.mark.parametrize("brought", [("cluster a 1",), ("cluster a 1", "cluster b 0")])
def test_d7_what_a_client_brings_need_not_be_all(brought: tuple[str, ...]) -> None:
    """D7: what it lacks, or has in another form, is sent; what it has is not."""
    play(
        DELTA,
        publish("cluster a 1", "cluster b 1"),
        ask(CLUSTER, known=known(*brought)),
        hear(CLUSTER, "b@1"),
        ack(CLUSTER),
        settled,
    )


def test_d7_what_nobody_asked_for_is_not_looked_at() -> None:
    """D7: an unwanted name among those that it brings hides none of the others."""
    play(
        DELTA,
        publish("cluster a 1"),
        ask(CLUSTER, "a", known=known("cluster x 1", "cluster a 1")),
        settled,
    )


def test_d7_what_a_client_brings_is_understood_where_it_is_ours() -> None:
    """D7, W2: only an unknown form of routes may use any cluster; when it is gone, so is that."""
    mine = ("cluster a 1", "routes r 1 > cluster a", "routes s 2 > cluster a")
    play(
        DELTA,
        publish(*mine),
        ask(CLUSTER, known=known("cluster a 1", "cluster b 1")),
        hear(CLUSTER),
        ack(CLUSTER),
        ask(LISTENER),
        hear(LISTENER),
        ack(LISTENER),
        ask(ROUTES, "r", "s", known=known("routes r 1", "routes s 1")),
        hear(ROUTES, "s@2"),
        silence,
        ack(ROUTES),
        hear(CLUSTER, removed=("b",)),
        ack(CLUSTER),
        settled,
    )


# ---------------------------------------------------------------------- until when


@BOTH
def test_w1_nothing_withheld_has_no_time(dialect: str) -> None:
    """W1: routes that only stay because they are in use are not a matter of time."""
    play(
        dialect,
        publish("cluster a 1", "listener l 1 > routes r", "routes r 1"),
        start(CLUSTER, LISTENER, ROUTES, routes=("r",)),
        publish("cluster a 2", "listener l 1 > routes r"),
        hear(CLUSTER, "a@2"),
        silence,
        release_at(None),
    )


@BOTH
def test_w1_a_cluster_that_was_never_sent_is_waited_for_without_end(dialect: str) -> None:
    """W1: time makes up for a missing answer, not for a cluster that the client cannot have."""
    play(
        dialect,
        publish("cluster a 1", "routes r 1"),
        start(CLUSTER, ROUTES, routes=("r",)),
        publish("cluster a 2", "routes r 1"),
        hear(CLUSTER, "a@2"),
        publish("cluster a 2", "cluster b 1", "routes r 2 > cluster b"),
        held_until(HOLD),
        silence,
        release_at(None),
        ack(CLUSTER),
        *([hear(CLUSTER, "b")] if dialect == DELTA else [hear(CLUSTER, "a", "b")]),
        ack(CLUSTER),
        hear(ROUTES, "r@2"),
    )


@BOTH
@pytest.mark.parametrize("type_, kind", [(LISTENER, "listener"), (ROUTES, "routes")])
def test_w1_what_is_held_and_what_goes_are_released_together(
    dialect: str, type_: TypeUrl, kind: str
) -> None:
    """W1: a resource that goes does not make one that waits for a cluster wait for ever."""
    play(
        dialect,
        publish("cluster a 1", f"{kind} x 1", f"{kind} y 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        ask(type_, "x", "y"),
        hear(type_, "x", "y"),
        ack(type_),
        publish("cluster a 2", f"{kind} x 2 > cluster a"),
        hear(CLUSTER, "a@2"),
        *(
            [hear(ROUTES, removed=("y",)), ack(ROUTES)]
            if (dialect, type_) == (DELTA, ROUTES)
            else []
        ),
        held_until(HOLD),
        hear(type_, "x@2", removed=("y",) if (dialect, type_) == (DELTA, LISTENER) else ()),
    )


def test_d7_the_earlier_of_two_times_counts() -> None:
    """D7, W1: what waits for a cluster and what the client brought are looked at in time."""
    play(
        DELTA,
        publish("cluster a 1", "routes r 1 > cluster a"),
        ask(CLUSTER),
        hear(CLUSTER, "a"),
        wait(5.0),
        ask(ROUTES, "r", "s", known=known("routes s 1")),
        held_until(HOLD),
        hear(ROUTES, "r"),
        ack(ROUTES),
        held_until(5.0 + HOLD),
        hear(ROUTES, removed=("s",)),
    )


def test_d7_what_is_kept_for_unknown_content_has_no_time() -> None:
    """D7, W2: listeners of unknown content may use any routes until others take their place."""
    play(
        DELTA,
        publish("listener l 2 > cluster a", "cluster a 1", "endpoints e 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a"),
        ask(LISTENER, known=known("listener l 1")),
        ask(ROUTES, "s", known=known("routes s 1")),
        silence,
        lambda play: setattr(play, "now", HOLD),
        hear(LISTENER, "l@2"),
        silence,
        release_at(None),
        ack(LISTENER),
        hear(ROUTES, removed=("s",)),
    )


# ---------------------------------------------------------------------- what is answered


def test_d3_absent_names_beside_the_wildcard_are_answered() -> None:
    """D3, D5: a later request for everything and a name that does not exist is told of both."""
    play(
        DELTA,
        publish("cluster a 1"),
        ask(CLUSTER, "a"),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        ask(CLUSTER, "*", "x"),
        hear(CLUSTER, "a", removed=("x",)),
    )


def test_d7_turning_to_the_wildcard_is_answered_even_if_nothing_is_there() -> None:
    """D7, D11: the client waits for it, as at its start."""
    play(
        DELTA,
        ask(CLUSTER, "a"),
        hear(CLUSTER, removed=("a",)),
        ack(CLUSTER),
        ask(CLUSTER, "*"),
        hear(CLUSTER),
        ack(CLUSTER),
        settled,
    )
