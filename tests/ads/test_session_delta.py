"""Incremental xDS: rules D1 to D12, one script each."""

from typing import Final

import pytest

from smi_xds.ads.session import Acked, DeltaRequest, Memo, Rejected
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, EMPTY, ENDPOINTS, LISTENER, ROUTES, content_version
from tests.ads.play import (
    DELTA,
    Play,
    Step,
    ack,
    ask,
    hear,
    leave,
    nack,
    play,
    publish,
    publish_set,
    settled,
    silence,
    stale,
    unsettled,
    wait,
)

TWO = ("cluster a 1", "cluster b 1")
VHDS: Final = TypeUrl("type.googleapis.com/envoy.config.route.v3.VirtualHost")


def known(*resources: str) -> dict[str, str]:
    """Versions of a client that has these: `a@1`."""
    return {each.partition("@")[0]: content_version(each.encode()) for each in resources}


def test_d1_any_request_may_change_subscriptions() -> None:
    """D1: the first, an acknowledgement, a refusal and a spontaneous one."""
    play(
        DELTA,
        publish(*(f"routes {name} 1" for name in "abcd")),
        ask(ROUTES, "a"),
        hear(ROUTES, "a"),
        ack(ROUTES, names=("b",)),
        hear(ROUTES, "b"),
        nack(ROUTES, names=("c",)),
        hear(ROUTES, "c"),
        ack(ROUTES),
        ask(ROUTES, "d"),
        hear(ROUTES, "d"),
        ack(ROUTES),
        settled,
    )


def test_d2_a_wrong_nonce_does_not_void_subscriptions() -> None:
    """D2: the names count, the answer does not."""
    play(
        DELTA,
        publish("routes r 1", "routes s 1"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        ask(ROUTES, "s", nonce="no such"),
        stale,
        silence,  # one response in flight
        ack(ROUTES),
        hear(ROUTES, "s"),
        ack(ROUTES),
        ask(ROUTES, leave=("s",), nonce="no such"),
        stale,
        publish("routes r 1", "routes s 2"),
        settled,
    )


def test_d2_the_nonce_of_an_answered_response_is_not_stale() -> None:
    """D2: a client may repeat the last nonce when it subscribes."""

    def repeat(play: Play) -> None:
        nonce = play.heard[ROUTES].nonce
        play.receive(DeltaRequest(type=ROUTES, subscribe=("s",), nonce=nonce))
        assert play.event is None

    play(
        DELTA,
        publish("routes r 1", "routes s 1"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        ack(ROUTES),
        repeat,
        hear(ROUTES, "s"),
    )


def test_d3_each_subscribed_name_is_answered() -> None:
    """D3: with the resource, or as removed where there is none; and again when asked again."""
    play(
        DELTA,
        publish("routes r 1"),
        ask(ROUTES, "r", "absent"),
        hear(ROUTES, "r", removed=("absent",)),
        ack(ROUTES),
        settled,
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        ack(ROUTES),
        ask(ROUTES, "absent"),
        hear(ROUTES, removed=("absent",)),
        ack(ROUTES),
        publish("routes r 1", "routes absent 1"),
        hear(ROUTES, "absent"),
    )


def test_d3_a_name_asked_for_while_in_flight_is_answered_again() -> None:
    """D3: what is on its way may have been sent before the client dropped and asked again."""
    play(
        DELTA,
        publish("routes r 1"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        leave(ROUTES, "r"),
        ask(ROUTES, "r"),
        silence,
        ack(ROUTES),
        hear(ROUTES, "r"),
        ack(ROUTES),
        settled,
    )


def test_d4_unsubscribing_the_unknown_is_ignored() -> None:
    """D4: a name that was never asked for, of any type, without and with the wildcard."""
    play(
        DELTA,
        publish(*TWO, "routes r 1"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        ack(ROUTES),
        leave(ROUTES, "never"),
        settled,
        ask(CLUSTER),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER),
        leave(CLUSTER, "a"),
        settled,
        publish("cluster a 2", "cluster b 1", "routes r 1"),
        hear(CLUSTER, "a@2"),
    )


def test_d4_subscribe_then_unsubscribe_in_one_request() -> None:
    """D4: both lists at once leave nothing subscribed, not even by the legacy wildcard."""
    play(
        DELTA,
        publish(*TWO, "routes r 1"),
        ask(CLUSTER, "*", leave=("*",)),
        settled,
        ask(CLUSTER, "a"),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        settled,
        ask(ROUTES, "r", leave=("r",)),
        settled,
        ask(ROUTES, "r", leave=("r",)),
        settled,
    )


def test_d5_unsubscribing_is_not_answered() -> None:
    """D5: and what was unsubscribed is neither updated nor removed."""
    play(
        DELTA,
        publish("routes r 1", "routes s 1"),
        ask(ROUTES, "r", "s"),
        hear(ROUTES, "r", "s"),
        ack(ROUTES),
        leave(ROUTES, "r"),
        settled,
        publish("routes r 2", "routes s 1"),
        settled,
        publish("routes s 1"),
        settled,
    )


def test_d5_unsubscribing_beside_the_wildcard_tells_what_remains() -> None:
    """D5: the client must learn whether the name still belongs to everything."""
    play(
        DELTA,
        publish(*TWO),
        ask(CLUSTER, "*", "a", "absent"),
        hear(CLUSTER, "a", "b", removed=("absent",)),
        ack(CLUSTER),
        leave(CLUSTER, "a", "absent"),
        hear(CLUSTER, "a", removed=("absent",)),
        ack(CLUSTER),
        settled,
        ask(CLUSTER, "b", leave=("b",)),
        hear(CLUSTER, "b"),
    )


def test_d6_legacy_wildcard_survives_names() -> None:
    """D6: after an empty first request, a name more does not end the wildcard."""
    play(
        DELTA,
        publish(*TWO),
        ask(CLUSTER),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER),
        ask(CLUSTER, "a"),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        publish("cluster a 1", "cluster b 2"),
        hear(CLUSTER, "b@2"),
        ack(CLUSTER),
        leave(CLUSTER, "*"),
        publish("cluster a 2", "cluster b 3"),
        hear(CLUSTER, "a@2"),
        ack(CLUSTER),
        settled,
    )


def test_d6_other_types_have_no_legacy_wildcard() -> None:
    """D6: naming nothing of the other types asks for nothing; `*` asks for all."""
    play(
        DELTA,
        publish("routes r 1"),
        ask(ROUTES),
        settled,
        ask(ROUTES, "*"),
        hear(ROUTES, "r"),
    )


def test_d6_the_wildcard_asked_for_again_sends_everything() -> None:
    """D6, D3: after leaving it, and even while it holds."""
    play(
        DELTA,
        publish(*TWO),
        ask(CLUSTER, "*"),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER),
        leave(CLUSTER, "*"),
        settled,
        ask(CLUSTER, "*"),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER),
        ask(CLUSTER, "*"),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER),
        settled,
    )


def test_d7_reconnection_sends_only_what_differs() -> None:
    """D7: the same version is not sent, another one is, and what is gone is removed."""
    play(
        DELTA,
        publish("listener a 1", "listener b 2", "listener new 1"),
        ask(LISTENER, known=known("a@1", "b@1", "gone@1")),
        hear(LISTENER, "b@2", "new", removed=("gone",)),
        ack(LISTENER),
        settled,
    )


def test_d7_reconnection_with_names() -> None:
    """D7: of the names asked for, only those with another version, or none, are answered."""
    play(
        DELTA,
        publish("routes r 1", "routes s 2"),
        ask(LISTENER),
        hear(LISTENER),
        ack(LISTENER),
        ask(ROUTES, "r", "s", "gone", "never", known=known("r@1", "s@1", "gone@1", "unasked@1")),
        hear(ROUTES, "s@2", removed=("gone", "never")),
        ack(ROUTES),
        settled,
    )


def test_d7_first_wildcard_answer_comes_even_if_empty() -> None:
    """D7, D11: an Envoy that lacks nothing waits for the answer; later ones are never empty."""
    play(
        DELTA,
        publish(*TWO),
        ask(CLUSTER, known=known("a@1", "b@1")),
        hear(CLUSTER),
        ack(CLUSTER),
        settled,
    )
    play(DELTA, ask(LISTENER), hear(LISTENER), ack(LISTENER), settled)


def test_d7_versions_count_in_the_first_request_only() -> None:
    """D7: in a later request they are ignored."""
    play(
        DELTA,
        publish("routes r 1"),
        ask(ROUTES, "other"),
        hear(ROUTES, removed=("other",)),
        ack(ROUTES),
        ask(ROUTES, "r", known=known("r@1")),
        hear(ROUTES, "r"),
    )


def test_d7_what_the_client_has_may_come_back() -> None:
    """D7: gone when the client comes, published later: it has just that, so nothing is sent."""
    play(
        DELTA,
        publish("listener l 1 > routes r"),
        ask(LISTENER),
        hear(LISTENER, "l"),
        ack(LISTENER),
        ask(ROUTES, "r", known=known("r@1")),
        silence,  # kept, as the listener needs it
        publish("routes r 1", "listener l 1 > routes r"),
        settled,
        publish("routes r 2", "listener l 1 > routes r"),
        hear(ROUTES, "r@2"),
        ack(ROUTES),
        settled,
    )


def test_d7_what_the_client_has_is_never_sent_from_hearsay() -> None:
    """D7, D3: asked for again while it is kept, it is neither sent (who has it?) nor removed."""
    play(
        DELTA,
        publish("listener l 1 > routes r"),
        ask(LISTENER),
        hear(LISTENER, "l"),
        ack(LISTENER),
        ask(ROUTES, "r", known=known("r@1")),
        ask(ROUTES, "r"),
        settled,
        publish("listener l 2"),
        hear(LISTENER, "l@2"),
        ack(LISTENER),
        hear(ROUTES, removed=("r",)),
        ack(ROUTES),
        settled,
    )


def test_d8_versions_are_per_resource() -> None:
    """D8: only the resource whose own version changed is sent."""
    play(
        DELTA,
        publish(*TWO),
        ask(CLUSTER),
        hear(CLUSTER, "a@1", "b@1"),
        ack(CLUSTER),
        publish("cluster a 1", "cluster b 2"),
        hear(CLUSTER, "b@2"),
        ack(CLUSTER),
        publish("cluster b 2", "cluster a 1"),
        settled,
    )


def test_d9_nack_is_not_answered_until_something_is_new() -> None:
    """D9: neither the bad nor the good resource is sent again; a later change of either is."""
    play(
        DELTA,
        publish("cluster a bad", "cluster b 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a@bad", "b@1"),
        nack(CLUSTER, "a: no such policy"),
        settled,
        publish("cluster a bad", "cluster b 2"),
        hear(CLUSTER, "b@2"),
        ack(CLUSTER),
        settled,
        publish("cluster a good", "cluster b 2"),
        hear(CLUSTER, "a@good"),
        ack(CLUSTER),
        settled,
    )


def test_d9_what_was_refused_stays_known_as_refused() -> None:
    """D9: an ACK of other resources does not heal it; its next accepted form, or its end, does."""

    def refused(*names: str) -> Step:
        def step(play: Play) -> None:
            assert isinstance(play.event, Acked | Rejected)
            assert play.event.refused == frozenset(names)

        return step

    bad = "Error adding/updating cluster(s) a: bad"
    play(
        DELTA,
        publish("cluster a bad", "cluster b 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a", "b"),
        nack(CLUSTER, bad),
        refused("a"),
        publish("cluster a bad", "cluster b 2"),
        hear(CLUSTER, "b"),
        ack(CLUSTER),
        refused("a"),
        publish("cluster a good", "cluster b 2"),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        refused(),
        publish("cluster a bad", "cluster b 2"),
        hear(CLUSTER, "a"),
        nack(CLUSTER, bad),
        refused("a"),
        publish("cluster b 2"),
        hear(CLUSTER, removed=("a",)),
        ack(CLUSTER),
        refused(),
    )


def test_d10_what_leaves_is_removed_and_sent_when_it_returns() -> None:
    """D10: removal is told, and forgotten, so that a return is sent."""
    play(
        DELTA,
        publish(*TWO),
        ask(CLUSTER),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER),
        publish("cluster b 1"),
        hear(CLUSTER, removed=("a",)),
        ack(CLUSTER),
        settled,
        publish(*TWO),
        hear(CLUSTER, "a"),
    )


def test_d11_come_and_gone_unseen_is_not_told() -> None:
    """D11: what appeared and left while a response was in flight is never mentioned."""
    play(
        DELTA,
        publish("cluster a 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a"),
        publish(*TWO),
        silence,
        publish("cluster a 1"),
        ack(CLUSTER),
        settled,
    )


def test_d12_on_demand_names_that_are_absent_are_answered() -> None:
    """D12: a virtual host asked for on demand is told to be absent, so the filter ends its wait."""
    play(
        DELTA,
        ask(VHDS, "routes/host"),
        hear(VHDS, removed=("routes/host",)),
        ack(VHDS),
        settled,
    )


def test_d13_xdstp_names_are_opaque() -> None:
    """D13: they are names like any other, globs included."""
    name = "xdstp://authority/envoy.config.cluster.v3.Cluster/a/*"

    play(
        DELTA,
        publish(f"cluster {name} 1", "cluster xdstp://authority/other 1"),
        ask(CLUSTER, name),
        hear(CLUSTER, name),
    )


def test_d14_sessions_do_not_share_state() -> None:
    """D14: two streams of one node are two clients, also with the same memo."""
    memo = Memo()
    steps = (publish(*TWO), ask(CLUSTER), hear(CLUSTER, "a", "b"))

    one = play(DELTA, *steps, memo=memo)
    other = play(DELTA, *steps, memo=memo)

    assert one.heard[CLUSTER] is other.heard[CLUSTER], "bytes are shared"
    ack(CLUSTER)(one)
    settled(one)
    unsettled(other)


def test_an_old_client_is_not_emptied_before_it_asked_for_what_uses_it() -> None:
    """W2, D7: clusters from another stream stay until routes and listeners are acknowledged."""
    play(
        DELTA,
        publish("listener l 2 > routes r", "routes r 2 > cluster b", "cluster b 1"),
        ask(CLUSTER, known=known("a@1", "b@1")),
        hear(CLUSTER),
        ack(CLUSTER),
        silence,
        unsettled,
        ask(LISTENER, known=known("l@1")),
        hear(LISTENER, "l@2"),
        ask(ROUTES, "r", known=known("r@1")),
        hear(ROUTES, "r@2"),
        ack(ROUTES),
        silence,
        ack(LISTENER),
        hear(CLUSTER, removed=("a",)),
        ack(CLUSTER),
        settled,
    )


def test_a_client_that_asks_for_nothing_else_is_not_waited_for() -> None:
    """W2, D7: without listeners and routes, clusters from another stream go after a while."""
    play(
        DELTA,
        publish_set(EMPTY),
        ask(CLUSTER, known=known("a@1")),
        hear(CLUSTER),
        ack(CLUSTER),
        wait(14.9),
        silence,
        wait(0.1),
        hear(CLUSTER, removed=("a",)),
        ack(CLUSTER),
        settled,
    )


@pytest.mark.parametrize("is_known", [True, False])
def test_w6_endpoints_asked_for_before_clusters_are_sent(is_known: bool) -> None:
    """W6: Envoy asks so while it warms a cluster from the stream before and lacks its endpoints."""
    play(
        DELTA,
        publish("cluster a 1 > endpoints a", "endpoints a 1"),
        ask(ENDPOINTS, "a", known=known("a@1") if is_known else {}),
        hear(ENDPOINTS, "a"),
        ack(ENDPOINTS),
        settled,
    )


def test_w6_endpoints_asked_for_after_clusters_are_not() -> None:
    """W6, D7: the ordinary reconnection costs no bytes."""
    play(
        DELTA,
        publish("cluster a 1 > endpoints a", "endpoints a 1"),
        ask(CLUSTER, known=known("a@1")),
        ask(ENDPOINTS, "a", known=known("a@1")),
        hear(CLUSTER),
        ack(CLUSTER),
        settled,
    )


def test_w3_endpoints_are_sent_after_a_cluster_that_changed_meanwhile() -> None:
    """W3, D7: a cluster that differs on the new stream warms again, and waits for endpoints."""
    play(
        DELTA,
        publish("cluster a 2 > endpoints a", "endpoints a 1"),
        ask(CLUSTER, known=known("a@1")),
        hear(CLUSTER, "a@2"),
        ask(ENDPOINTS, "a", known=known("a@1")),
        hear(ENDPOINTS, "a@1"),
        ack(ENDPOINTS, CLUSTER),
        settled,
    )
