"""State of the world: rules S1 to S16, one script each."""

import pytest

from smi_xds.ads.session import Rejected, SotwRequest, Stale
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, EMPTY, ENDPOINTS, LISTENER, ROUTES, SECRET
from tests.ads.play import (
    SOTW,
    Play,
    ack,
    ask,
    ask_again,
    hear,
    nack,
    play,
    publish,
    publish_set,
    resources,
    settled,
    silence,
    stale,
    start,
    unsettled,
)

TWO = ("cluster a 1", "cluster b 1")


def test_s1_version_is_of_the_content_of_the_whole() -> None:
    """S1: the version is the same for the same content, wherever served, and else another."""

    def version(*lines: str) -> str:
        return play(SOTW, publish(*lines), ask(CLUSTER), hear_any).heard[CLUSTER].version

    assert version(*TWO) == version(*reversed(TWO))
    assert len({version(*TWO), version("cluster a 1"), version("cluster a 1", "cluster b 2")}) == 3
    assert version()


def hear_any(play: Play) -> None:
    """Take whatever comes."""
    assert play.next() is not None


def test_s1_version_is_of_what_this_client_asked_for() -> None:
    """S1: what the client did not ask for has no part in its version."""
    one = play(SOTW, publish(*TWO), ask(CLUSTER, "a"), hear(CLUSTER, "a")).heard[CLUSTER]
    other = play(SOTW, publish("cluster a 1"), ask(CLUSTER, "a"), hear(CLUSTER, "a")).heard[CLUSTER]

    assert one.version == other.version


def test_s2_first_request_is_always_answered() -> None:
    """S2, W6: a client that comes back with our very version is answered all the same."""
    version = play(SOTW, publish(*TWO), ask(CLUSTER), hear_any).heard[CLUSTER].version

    play(
        SOTW,
        publish(*TWO, "endpoints a 1"),
        ask(CLUSTER, version=version),
        hear(CLUSTER, "a", "b"),
        ask(ENDPOINTS, "a", version="of another stream", nonce="77"),
        hear(ENDPOINTS, "a"),
    )


def test_s3_ack_gets_no_response() -> None:
    """S3: an acknowledgement that brings no change of names is not answered."""
    play(
        SOTW,
        publish(*TWO, "routes r 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a", "b"),
        unsettled,
        ack(CLUSTER),
        settled,
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        ack(ROUTES),
        settled,
        ask_again(ROUTES, "r"),
        settled,
    )


def test_s4_nack_is_not_answered_until_something_is_new() -> None:
    """S4: what was refused is not sent again; the next change is."""
    play(
        SOTW,
        publish("cluster a bad"),
        ask(CLUSTER),
        hear(CLUSTER, "a@bad"),
        nack(CLUSTER, "a: no such policy"),
        settled,
        publish("cluster a bad"),
        settled,
        publish("cluster a good"),
        hear(CLUSTER, "a@good"),
        ack(CLUSTER),
        settled,
    )


def test_s4_a_revert_after_a_nack_is_sent() -> None:
    """S4: going back to the accepted content is a change from what was sent."""
    play(
        SOTW,
        publish("cluster a 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a@1"),
        ack(CLUSTER),
        publish("cluster a 2"),
        hear(CLUSTER, "a@2"),
        nack(CLUSTER),
        publish("cluster a 1"),
        hear(CLUSTER, "a@1"),
        ack(CLUSTER),
        settled,
    )


def test_s4_a_repeated_bad_cluster_is_the_one_refused_again() -> None:
    """S4, S13: full state repeats it although something else changed."""

    def refused(play: Play) -> None:
        assert isinstance(play.event, Rejected)
        assert play.event.refused == frozenset({"bad"})

    text = "Error adding/updating cluster(s) bad: no such thing"
    play(
        SOTW,
        publish("cluster a 1", "cluster bad 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a", "bad"),
        nack(CLUSTER, text),
        refused,
        publish("cluster bad 1"),
        hear(CLUSTER, "bad"),
        nack(CLUSTER, text),
        refused,
        settled,
    )


@pytest.mark.parametrize("answer", [ack, nack])
def test_s5_names_of_an_answer_count(answer: object) -> None:
    """S5: an ACK or NACK may change the names; new ones are answered."""
    step = ack(ROUTES, names=("r", "s")) if answer is ack else nack(ROUTES, names=("r", "s"))

    play(
        SOTW,
        publish("routes r 1", "routes s 1"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        step,
        hear(ROUTES, "s"),
    )


def test_s6_stale_request_is_void() -> None:
    """S6: a request for an older response changes nothing; the one that follows it counts."""
    play(
        SOTW,
        publish("routes r 1", "routes s 1"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        ask(ROUTES, "r", "s"),  # had not seen the response yet
        stale,
        silence,
        ask(ROUTES, "s", nonce="no such"),
        stale,
        unsettled,
        ack(ROUTES, names=("r", "s")),
        hear(ROUTES, "s"),
    )


def test_s6_stale_nack_is_void() -> None:
    """S6: neither does it count as the refusal of the response in flight."""
    here = play(
        SOTW,
        publish("cluster a 1"),
        ask(CLUSTER),
        hear(CLUSTER, "a@1"),
        ack(CLUSTER),
        publish("cluster a 2"),
        hear(CLUSTER, "a@2"),
    )

    here.receive(SotwRequest(type=CLUSTER, nonce="1000", error="old"))

    assert here.event == Stale(CLUSTER, "1000")
    ack(CLUSTER)(here)


def test_s6_before_the_first_response_any_nonce_will_do() -> None:
    """S6, E6: as long as nothing was sent, nothing can be stale."""
    play(
        SOTW,
        publish("routes s 1"),
        ask(ROUTES, "r", nonce="of an old stream"),
        silence,
        ask(ROUTES, "r", "s", nonce="of an old stream"),
        hear(ROUTES, "s"),
    )


def test_s7_a_newer_list_supersedes() -> None:
    """S7: names that a newer list lacks are not updated any more."""
    play(
        SOTW,
        publish("routes r 1", "routes s 1"),
        ask(ROUTES, "r", "s"),
        hear(ROUTES, "r", "s"),
        ack(ROUTES, names=("s",)),
        publish("routes r 2", "routes s 1"),
        settled,
        publish("routes r 2", "routes s 2"),
        hear(ROUTES, "s@2"),
    )


def test_s8_names_that_come_back_are_sent_again() -> None:
    """S8: subscribe, unsubscribe, subscribe: the client dropped it meanwhile."""
    play(
        SOTW,
        publish("routes r 1", "routes s 1"),
        ask(ROUTES, "r", "s"),
        hear(ROUTES, "r", "s"),
        ack(ROUTES, names=("s",)),
        silence,
        ask_again(ROUTES, "r", "s"),
        hear(ROUTES, "r"),
        ack(ROUTES),
        settled,
    )


def test_s9_fewer_names_need_no_response() -> None:
    """S9: unsubscribing is not answered, for types of either kind."""
    play(
        SOTW,
        publish(*TWO, "routes r 1"),
        ask(CLUSTER, "a", "b"),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER, names=("a",)),
        settled,
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        ack(ROUTES, names=()),
        settled,
    )


def test_s10_an_empty_list_is_everything_only_if_none_ever_had_names() -> None:
    """S10: everything, then everything and A, then A, then nothing at all."""
    play(
        SOTW,
        publish("listener a 1", "listener b 1"),
        ask(LISTENER),
        hear(LISTENER, "a", "b"),
        ack(LISTENER, names=()),
        publish("listener a 1", "listener b 2"),
        hear(LISTENER, "a", "b@2"),
        ack(LISTENER, names=("*", "a")),
        hear(LISTENER, "a", "b"),  # A was asked for anew (S8)
        ack(LISTENER, names=("a",)),
        publish("listener a 1", "listener b 3"),
        settled,
        publish("listener a 2", "listener b 3"),
        hear(LISTENER, "a@2"),
        ack(LISTENER, names=()),
        publish("listener a 3", "listener b 4"),
        settled,
    )


def test_s11_wildcard_may_stand_beside_names() -> None:
    """S11: `*` means everything, from the first request or later."""
    play(
        SOTW,
        publish(*TWO),
        ask(CLUSTER, "*", "a", "absent"),
        hear(CLUSTER, "a", "b"),
        ack(CLUSTER),
        publish(*TWO, "cluster c 1"),
        hear(CLUSTER, "a", "b", "c"),
    )
    play(
        SOTW,
        publish(*TWO),
        ask(CLUSTER, "a"),
        hear(CLUSTER, "a"),
        ack(CLUSTER, names=("*", "a")),
        hear(CLUSTER, "a", "b"),
    )


def test_s11_turning_to_the_wildcard_is_answered() -> None:
    """S11: a new `*` is answered even where it brings nothing more."""
    play(
        SOTW,
        publish("cluster a 1"),
        ask(CLUSTER, "a"),
        hear(CLUSTER, "a"),
        ack(CLUSTER, names=("*", "a")),
        hear(CLUSTER, "a"),
        ack(CLUSTER),
        settled,
    )


@pytest.mark.parametrize("type_", [ENDPOINTS, ROUTES, SECRET])
def test_s12_other_types_have_no_implicit_wildcard(type_: TypeUrl) -> None:
    """S12: an empty list subscribes to nothing and is not answered."""
    play(
        SOTW,
        publish("endpoints a 1", "routes a 1", "secret a 1"),
        ask(type_),
        settled,
        ask(type_, "a"),
        hear(type_, "a"),
    )


def test_s13_full_state_in_one_response() -> None:
    """S13: a change of one cluster sends them all, and absence removes."""
    play(
        SOTW,
        publish(*TWO),
        ask(CLUSTER),
        hear(CLUSTER, "a@1", "b@1"),
        ack(CLUSTER),
        publish("cluster a 1", "cluster b 2"),
        hear(CLUSTER, "a@1", "b@2"),
        ack(CLUSTER),
        publish("cluster b 2"),
        hear(CLUSTER, "b@2"),
        ack(CLUSTER),
        publish_set(EMPTY),
        hear(CLUSTER),
        ack(CLUSTER),
        settled,
    )


def test_s14_other_types_send_what_changed() -> None:
    """S14: only the changed load assignment goes out; a removal cannot be told."""
    play(
        SOTW,
        publish("endpoints a 1", "endpoints b 1"),
        ask(ENDPOINTS, "a", "b"),
        hear(ENDPOINTS, "a", "b"),
        ack(ENDPOINTS),
        publish("endpoints a 2", "endpoints b 1"),
        hear(ENDPOINTS, "a@2"),
        ack(ENDPOINTS),
        publish("endpoints a 2"),
        settled,
        publish("endpoints a 2", "endpoints b 1"),
        settled,  # the client never let go of it
        publish("endpoints a 2"),
        publish("endpoints a 2", "endpoints b 2"),
        hear(ENDPOINTS, "b@2"),
    )


def test_s14_what_cannot_be_told_gone_is_still_in_use() -> None:
    """S14, W2: routes that left the set keep their cluster until the client drops them."""
    play(
        SOTW,
        publish("cluster a 1", "routes r 1 > cluster a"),
        start(CLUSTER, ROUTES, routes=("r",)),
        publish_set(EMPTY),
        settled,
        ask_again(ROUTES),
        hear(CLUSTER),
        ack(CLUSTER),
        settled,
    )


def test_s15_no_name_twice() -> None:
    """S15: a name asked for beside the wildcard, hidden in a second layer, comes once."""
    one, other = resources("cluster a 1"), resources("cluster a 2", "cluster b 1")
    layered = type(one)({CLUSTER: (*one.layers[CLUSTER], *other.layers[CLUSTER])})

    play(
        SOTW,
        publish_set(layered),
        ask(CLUSTER, "*", "a", "a", "b"),
        hear(CLUSTER, "a@1", "b@1"),
    )


def test_s16_absent_names_wait_without_holding_up_others() -> None:
    """S16: what exists is sent at once; the absent name is sent when it appears."""
    play(
        SOTW,
        publish("routes r 1"),
        ask(ROUTES, "absent"),
        settled,
        ask(ROUTES, "r", "absent"),
        hear(ROUTES, "r"),
        ack(ROUTES),
        settled,
        publish("routes r 1", "routes absent 1"),
        hear(ROUTES, "absent"),
    )


@pytest.mark.parametrize("names", [(), ("absent",), ("*",)])
def test_s16_full_state_types_are_answered_even_if_empty(names: tuple[str, ...]) -> None:
    """S16: an empty answer ends the start of an Envoy and tells a gRPC client the absence."""
    play(
        SOTW,
        ask(LISTENER, *names),
        hear(LISTENER),
        ack(LISTENER),
        settled,
        publish("listener absent 1"),
        hear(LISTENER, "absent"),
    )


def test_s16_a_further_absent_name_is_answered_with_full_state() -> None:
    """S16: gRPC learns of the absence of one more listener at once."""
    play(
        SOTW,
        publish("listener a 1"),
        ask(LISTENER, "a"),
        hear(LISTENER, "a"),
        ack(LISTENER, names=("a", "absent")),
        hear(LISTENER, "a"),
        ack(LISTENER),
        settled,
    )
