"""Make before break on one stream: rules W1 to W5, for both dialects where both can tell it."""

import pytest

from smi_xds.ads.session import HOLD
from smi_xds.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET
from tests.ads.play import (
    DELTA,
    SOTW,
    Step,
    ack,
    ask,
    ask_again,
    hear,
    leave,
    nack,
    play,
    publish,
    settled,
    silence,
    start,
    unsettled,
    wait,
)

BOTH = pytest.mark.parametrize("dialect", [DELTA, SOTW])

A = ("cluster a 1 > endpoints a", "endpoints a 1")
B = ("cluster b 1 > endpoints b", "endpoints b 1")
LISTENING = "listener l 1 > routes r"
TO_A = "routes r a > cluster a"
TO_B = "routes r b > cluster b"


def going(dialect: str, *lines: str) -> tuple[Step, ...]:
    """An Envoy that has these and asked for endpoints a and routes r."""
    ready = start(CLUSTER, ENDPOINTS, LISTENER, ROUTES, endpoints=("a",), routes=("r",))
    return (publish(*lines), ready)


@BOTH
def test_w1_types_go_in_order(dialect: str) -> None:
    """W1: secrets, clusters, endpoints, listeners, routes, whatever order they are asked in."""
    everything = [
        f"{kind} a 1" for kind in ("routes", "listener", "endpoints", "cluster", "secret")
    ]
    order = [SECRET, CLUSTER, ENDPOINTS, LISTENER, ROUTES]

    play(
        dialect,
        publish(*everything),
        *(ask(type_, "a") for type_ in reversed(order)),
        *(hear(type_, "a") for type_ in order),
        ack(*order),
        publish(*(line.replace("1", "2") for line in everything)),
        *(hear(type_, "a@2") for type_ in order),
        silence,
    )


@BOTH
def test_e4_an_unanswered_type_does_not_hold_up_others(dialect: str) -> None:
    """E4: while one response is in flight, other types are served; of its own type only one is."""
    play(
        dialect,
        publish("cluster a 1", "routes r 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a@1"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r@1"),
        publish("cluster a 2", "routes r 2"),
        silence,
        publish("cluster a 3", "routes r 3"),
        ack(ROUTES),
        hear(ROUTES, "r@3"),
        silence,
        ack(CLUSTER),
        hear(CLUSTER, "a@3"),
        ack(CLUSTER, ROUTES),
        settled,
    )


@BOTH
def test_w2_a_cluster_goes_after_the_routes_are_acknowledged(dialect: str) -> None:
    """W2: not when the routes are sent, but when the client has applied them."""
    play(
        dialect,
        *going(dialect, *A, LISTENING, TO_A),
        publish(LISTENING, "routes r none"),
        hear(ROUTES, "r@none"),
        silence,
        unsettled,
        ack(ROUTES),
        hear(CLUSTER, removed=("a",)) if dialect == DELTA else hear(CLUSTER),
        silence,
        ack(CLUSTER),
        # Only now do its endpoints go, which SotW cannot tell (S14).
        *([hear(ENDPOINTS, removed=("a",)), ack(ENDPOINTS)] if dialect == DELTA else []),
        settled,
    )


@BOTH
def test_w2_a_cluster_goes_after_listeners_too(dialect: str) -> None:
    """W2: a TCP listener names its cluster itself."""
    play(
        dialect,
        *going(dialect, *A, "listener l 1 > cluster a", "routes r 1"),
        publish("listener l 2", "routes r 1"),
        hear(LISTENER, "l@2"),
        silence,
        ack(LISTENER),
        hear(CLUSTER, removed=("a",)) if dialect == DELTA else hear(CLUSTER),
    )


@BOTH
def test_w2_a_refusal_of_the_routes_keeps_the_cluster(dialect: str) -> None:
    """W2: refused routes mean that the old ones are in use, for as long as that lasts."""
    play(
        dialect,
        *going(dialect, *A, LISTENING, TO_A),
        publish(LISTENING, "routes r bad"),
        hear(ROUTES, "r@bad"),
        nack(ROUTES, "no virtual host"),
        settled,
        wait(1000),
        settled,
        publish(LISTENING, "routes r good"),
        hear(ROUTES, "r@good"),
        ack(ROUTES),
        hear(CLUSTER, removed=("a",)) if dialect == DELTA else hear(CLUSTER),
    )


def test_w2_a_good_route_of_a_refused_response_is_doubted_too() -> None:
    """W2, D9: part of a refused response may be in use, so old and new needs both count."""
    play(
        DELTA,
        publish(*A, "routes r 1 > cluster a", "routes s 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        ask(ROUTES, "r", "s"),
        hear(ROUTES, "r", "s"),
        ack(ROUTES),
        publish(*B, "routes r 2 > cluster b", "routes s bad"),
        hear(CLUSTER, "b"),
        ack(CLUSTER),
        hear(ROUTES, "r@2", "s@bad"),
        nack(ROUTES, "s is bad"),
        settled,
        publish(*B, "routes r 2 > cluster b", "routes s good"),
        hear(ROUTES, "s@good"),
        ack(ROUTES),
        settled,  # r may still be at 1
        publish(*B, "routes r 3 > cluster b", "routes s good"),
        hear(ROUTES, "r@3"),
        ack(ROUTES),
        hear(CLUSTER, removed=("a",)),
    )


@BOTH
def test_w2_a_kept_cluster_stays_in_full_state(dialect: str) -> None:
    """W2: while it is kept, other clusters change around it."""
    play(
        dialect,
        *going(dialect, *A, *B, LISTENING, TO_A),
        publish("cluster b 2 > endpoints b", B[1], LISTENING, "routes r none"),
        hear(CLUSTER, "b@2") if dialect == DELTA else hear(CLUSTER, "a@1", "b@2"),
        hear(ROUTES, "r@none"),
        ack(ROUTES),
        silence,  # one response in flight
        ack(CLUSTER),
        hear(CLUSTER, removed=("a",)) if dialect == DELTA else hear(CLUSTER, "b@2"),
    )


@BOTH
def test_w2_a_kept_cluster_that_returns_is_no_change(dialect: str) -> None:
    """W2: gone and back before the client let go of it: nothing was said of it."""
    play(
        dialect,
        *going(dialect, *A, LISTENING, TO_A),
        publish(LISTENING, "routes r none"),
        hear(ROUTES, "r@none"),
        publish(*A, LISTENING, TO_A),
        ack(ROUTES),
        hear(ROUTES, "r@a"),
        ack(ROUTES),
        settled,
    )


@BOTH
def test_w2_secrets_go_after_what_names_them(dialect: str) -> None:
    """W2: a secret stays as long as a cluster or a listener names it."""
    play(
        dialect,
        publish("secret s 1", "cluster a 1 > secret s", "listener l 1 > secret s"),
        start(CLUSTER, LISTENER),
        ask(SECRET, "s"),
        hear(SECRET, "s"),
        ack(SECRET),
        publish("cluster a 2", "listener l 2"),
        hear(CLUSTER, "a@2"),
        hear(LISTENER, "l@2"),
        ack(LISTENER),
        silence,
        ack(CLUSTER),
        *([hear(SECRET, removed=("s",)), ack(SECRET)] if dialect == DELTA else []),
        settled,
    )


def test_w2_unsubscribing_lets_go() -> None:
    """W2: routes that the client no longer asks for hold nothing."""
    play(
        DELTA,
        *going(DELTA, *A, TO_A),
        publish(TO_A),
        settled,  # kept
        leave(ROUTES, "r"),
        hear(CLUSTER, removed=("a",)),
    )


@BOTH
def test_w3_endpoints_follow_a_changed_cluster(dialect: str) -> None:
    """W3: at once, unchanged as they are, while the ACK of the cluster is withheld."""
    play(
        dialect,
        *going(dialect, *A),
        publish("cluster a 2 > endpoints a", A[1]),
        hear(CLUSTER, "a@2"),
        hear(ENDPOINTS, "a@1"),
        ack(ENDPOINTS),
        silence,
        ack(CLUSTER),
        settled,
    )


@BOTH
def test_w3_only_endpoints_of_changed_clusters_follow(dialect: str) -> None:
    """W3: the others are warm, although SotW names their clusters again."""
    play(
        dialect,
        publish(*A, *B),
        start(CLUSTER, ENDPOINTS, endpoints=("a", "b")),
        publish(*A, "cluster b 2 > endpoints b", B[1]),
        hear(CLUSTER, "b@2") if dialect == DELTA else hear(CLUSTER, "a@1", "b@2"),
        hear(ENDPOINTS, "b@1"),
        ack(CLUSTER, ENDPOINTS),
        settled,
    )


@BOTH
def test_w3_endpoints_in_flight_are_followed_by_another(dialect: str) -> None:
    """W3: those on their way when the cluster changes were for its old form."""
    play(
        dialect,
        *going(dialect, *A),
        publish(A[0], "endpoints a 2"),
        hear(ENDPOINTS, "a@2"),
        publish("cluster a 2 > endpoints a", "endpoints a 2"),
        hear(CLUSTER, "a@2"),
        silence,
        ack(ENDPOINTS),
        hear(ENDPOINTS, "a@2"),
        ack(ENDPOINTS, CLUSTER),
        settled,
    )


def test_w3_absent_endpoints_are_told_absent() -> None:
    """W3, D3: else the cluster would wait out its time-out."""
    play(
        DELTA,
        *going(DELTA, A[0]),
        publish("cluster a 2 > endpoints a"),
        hear(CLUSTER, "a@2"),
        hear(ENDPOINTS, removed=("a",)),
    )


def test_w3_in_sotw_the_lookalike_of_an_ack_is_harmless() -> None:
    """W3: Envoy asks for the endpoints again just as if it acknowledged the last ones."""
    play(
        SOTW,
        *going(SOTW, *A),
        publish("cluster a 2 > endpoints a", A[1]),
        hear(CLUSTER, "a@2"),
        ask_again(ENDPOINTS, "a"),
        hear(ENDPOINTS, "a@1"),
        ack(ENDPOINTS, CLUSTER),
        settled,
    )


@BOTH
def test_w4_routes_follow_a_changed_listener(dialect: str) -> None:
    """W4: a changed listener waits for its routes again."""
    play(
        dialect,
        *going(dialect, *A, LISTENING, TO_A),
        publish(*A, "listener l 2 > routes r", TO_A),
        hear(LISTENER, "l@2"),
        hear(ROUTES, "r@a"),
        ack(ROUTES, LISTENER),
        settled,
    )


@BOTH
def test_routes_wait_for_a_new_cluster_to_be_warm(dialect: str) -> None:
    """W1: a route moves to a new cluster when the client acknowledged it, that is, warmed it."""
    play(
        dialect,
        *going(dialect, *A, LISTENING, TO_A),
        publish(*A, *B, LISTENING, TO_B),
        hear(CLUSTER, "b") if dialect == DELTA else hear(CLUSTER, "a", "b"),
        silence,
        ask(ENDPOINTS, "b") if dialect == DELTA else ask_again(ENDPOINTS, "a", "b"),
        hear(ENDPOINTS, "b"),
        ack(ENDPOINTS),
        silence,
        ack(CLUSTER),
        hear(ROUTES, "r@b"),
        ack(ROUTES),
        settled,
    )


@BOTH
def test_the_whole_move_from_one_cluster_to_another(dialect: str) -> None:
    """W1, W2: new cluster, its endpoints, the route, and then the old cluster goes."""
    play(
        dialect,
        *going(dialect, *A, LISTENING, TO_A),
        publish(*B, LISTENING, TO_B),
        hear(CLUSTER, "b") if dialect == DELTA else hear(CLUSTER, "a", "b"),
        silence,
        ack(CLUSTER),
        hear(ROUTES, "r@b"),
        silence,
        ack(ROUTES),
        hear(CLUSTER, removed=("a",)) if dialect == DELTA else hear(CLUSTER, "b"),
    )


@BOTH
def test_what_uses_no_new_cluster_goes_at_once(dialect: str) -> None:
    """One slow cluster does not hold up unrelated routes and listeners."""
    play(
        dialect,
        publish(*A, TO_A, "routes s 1 > cluster a", "listener l 1", "listener m 1 > cluster a"),
        start(CLUSTER, LISTENER, ROUTES, routes=("r", "s")),
        publish(
            *(*A, *B, TO_B, "routes s 2 > cluster a"),
            *("listener l 2 > cluster b", "listener m 2 > cluster a"),
        ),
        hear(CLUSTER, "b") if dialect == DELTA else hear(CLUSTER, "a", "b"),
        hear(LISTENER, "m@2") if dialect == DELTA else hear(LISTENER, "l@1", "m@2"),
        hear(ROUTES, "s@2"),
        ack(LISTENER, ROUTES),
        silence,
        ack(CLUSTER),
        hear(LISTENER, "l@2") if dialect == DELTA else hear(LISTENER, "l@2", "m@2"),
        hear(ROUTES, "r@b"),
        ack(LISTENER, ROUTES),
        settled,
    )


@BOTH
def test_a_changed_cluster_holds_what_begins_to_use_it_only(dialect: str) -> None:
    """A route that used the cluster before goes at once; one that turns to it waits."""
    play(
        dialect,
        publish(*A, TO_A, "routes s 1"),
        start(CLUSTER, ROUTES, routes=("r", "s")),
        publish(
            "cluster a 2 > endpoints a", A[1], "routes r a2 > cluster a", "routes s 2 > cluster a"
        ),
        hear(CLUSTER, "a@2"),
        hear(ROUTES, "r@a2"),
        ack(ROUTES),
        silence,
        ack(CLUSTER),
        hear(ROUTES, "s@2"),
    )


@BOTH
def test_the_hold_ends_in_time(dialect: str) -> None:
    """A client that never acknowledges the cluster gets the route nevertheless, after a while."""
    play(
        dialect,
        *going(dialect, *A, TO_A),
        publish(*A, *B, TO_B),
        hear(CLUSTER, "b") if dialect == DELTA else hear(CLUSTER, "a", "b"),
        silence,
        wait(HOLD - 0.1),
        silence,
        unsettled,
        wait(0.1),
        hear(ROUTES, "r@b"),
        silence,
    )


@BOTH
def test_a_route_never_goes_before_its_cluster_was_sent(dialect: str) -> None:
    """While an unanswered response blocks the next one, time releases nothing that needs it."""
    play(
        dialect,
        *going(dialect, *A, TO_A),
        publish("cluster a 2 > endpoints a", A[1], TO_A),
        hear(CLUSTER, "a@2"),
        hear(ENDPOINTS, "a"),
        ack(ENDPOINTS),
        publish("cluster a 2 > endpoints a", A[1], *B, TO_B),
        silence,
        wait(HOLD + 1),
        silence,
        ack(CLUSTER),
        hear(CLUSTER, "b") if dialect == DELTA else hear(CLUSTER, "a@2", "b"),
        silence,
        ack(CLUSTER),
        hear(ROUTES, "r@b"),
    )


@BOTH
def test_a_refused_cluster_holds_only_what_needs_it(dialect: str) -> None:
    """The text of the refusal names it; what uses the good clusters beside it goes at once."""
    play(
        dialect,
        publish(*A, TO_A, "routes s 1"),
        start(CLUSTER, ROUTES, routes=("r", "s")),
        publish(*A, *B, "cluster bad 1", "routes r bad > cluster bad", "routes s b > cluster b"),
        hear(CLUSTER, "b", "bad") if dialect == DELTA else hear(CLUSTER, "a", "b", "bad"),
        silence,
        nack(CLUSTER, "Error adding/updating cluster(s) bad: no such thing"),
        hear(ROUTES, "s@b"),
        ack(ROUTES),
        silence,
        unsettled,
        wait(HOLD),
        hear(ROUTES, "r@bad"),
    )


@BOTH
def test_a_mended_cluster_releases_the_route(dialect: str) -> None:
    """When the next form of it is acknowledged, the route that waited goes."""
    play(
        dialect,
        *going(dialect, *A, TO_A),
        publish(*A, "cluster b bad", TO_B),
        hear(CLUSTER, "b@bad") if dialect == DELTA else hear(CLUSTER, "a", "b@bad"),
        nack(CLUSTER, "Error adding/updating cluster(s) b: bad"),
        silence,
        publish(*A, "cluster b good", TO_B),
        hear(CLUSTER, "b@good") if dialect == DELTA else hear(CLUSTER, "a", "b@good"),
        silence,
        ack(CLUSTER),
        hear(ROUTES, "r@b"),
        ack(ROUTES),
        settled,
    )


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "NO",
        "Proto constraint validation failed (ConnectTimeout): name: bad",
        "Error adding/updating cluster(s) other/b: found a b here",
    ],
)
def test_a_refusal_as_a_whole_is_held_against_all(dialect: str, text: str) -> None:
    """Unless Envoy says that it applied the others, none of the clusters is there."""
    play(
        dialect,
        *going(dialect, *A, TO_A),
        publish(*A, *B, "cluster bad 1", TO_B),
        hear(CLUSTER, "b", "bad") if dialect == DELTA else hear(CLUSTER, "a", "b", "bad"),
        nack(CLUSTER, text),
        silence,
        wait(HOLD),
        hear(ROUTES, "r@b"),
    )


@BOTH
def test_first_listeners_come_all_at_once(dialect: str) -> None:
    """An Envoy reports itself ready after its first listeners, so these are complete."""
    play(
        dialect,
        publish(*A, "listener l 1 > cluster a", "listener m 1"),
        ask(CLUSTER),
        ask(LISTENER),
        hear(CLUSTER, "a"),
        silence,
        ack(CLUSTER),
        hear(LISTENER, "l", "m"),
    )


@BOTH
def test_a_listener_that_replaces_a_held_one_goes_with_it(dialect: str) -> None:
    """Both may claim one address: the old one goes in the response that brings the new one."""
    play(
        dialect,
        *going(dialect, *A, "listener old 1 > cluster a", "routes r 1"),
        publish(*A, *B, "listener new 1 > cluster b", "routes r 1"),
        hear(CLUSTER, "b") if dialect == DELTA else hear(CLUSTER, "a", "b"),
        silence,
        ack(CLUSTER),
        hear(LISTENER, "new", removed=("old",)) if dialect == DELTA else hear(LISTENER, "new"),
    )


@BOTH
def test_w5_a_cluster_that_does_not_exist_holds_nothing(dialect: str) -> None:
    """W5: nobody can wait for it."""
    play(
        dialect,
        *going(dialect, *A, TO_A),
        publish("cluster a 2 > endpoints a", A[1], TO_B),
        hear(CLUSTER, "a@2"),
        hear(ENDPOINTS, "a"),
        hear(ROUTES, "r@b"),
    )


@BOTH
def test_w5_a_client_that_asks_by_name_gets_the_route_first(dialect: str) -> None:
    """A gRPC client asks for clusters when a route names them: to wait would be to wait forever."""
    play(
        dialect,
        publish(*A, TO_A),
        ask(ROUTES, "r"),
        hear(ROUTES, "r@a"),
        ack(ROUTES),
        ask(CLUSTER, "a"),
        hear(CLUSTER, "a"),
        publish(*A, *B, TO_B),
        hear(ROUTES, "r@b"),
    )


def test_a_name_that_is_due_but_held_stays_due() -> None:
    """D3: a route asked for while its cluster warms is answered when that is done."""
    play(
        DELTA,
        publish(*A, TO_A, "routes s 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a"),
        ask(ROUTES, "r", "s"),
        hear(ROUTES, "s"),
        ack(ROUTES),
        silence,
        ack(CLUSTER),
        hear(ROUTES, "r"),
        ack(ROUTES),
        settled,
    )


def test_a_change_of_endpoints_name_keeps_the_old_until_the_cluster_is_acknowledged() -> None:
    """W2: the cluster may be in its old form as long as the ACK is missing."""
    play(
        DELTA,
        publish("cluster a 1 > endpoints x", "endpoints x 1"),
        start(CLUSTER, ENDPOINTS, endpoints=("x",)),
        publish("cluster a 2 > endpoints y", "endpoints y 1"),
        hear(CLUSTER, "a@2"),
        silence,
        ask(ENDPOINTS, "y"),
        hear(ENDPOINTS, "y"),
        ack(ENDPOINTS),
        silence,
        ack(CLUSTER),
        hear(ENDPOINTS, removed=("x",)),
    )
