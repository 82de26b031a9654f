"""What streams share, and what those who look into a session are told."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.ads.session import (
    Close,
    DeltaSession,
    Memo,
    Refusal,
    Response,
    SotwRequest,
    SotwSession,
    Stale,
    identify,
)
from smi_xds.ads.session.memo import Generations, covered
from smi_xds.ads.session.pictures import (
    Interest,
    Picture,
    difference,
    find,
    select,
    set_version,
    stand_in,
)
from smi_xds.values import TypeUrl
from smi_xds.xds.resources import CLUSTER, EMPTY, ROUTES, Resource, ResourceSet
from tests.ads.play import (
    DELTA,
    SOTW,
    ack,
    ask,
    hear,
    play,
    publish,
    publish_set,
    resources,
)

BOTH = pytest.mark.parametrize("dialect", [DELTA, SOTW])


# ---------------------------------------------------------------------- versions


def test_s1_the_version_of_a_set_is_the_same_everywhere() -> None:
    """S1: it is made of names and versions, and so the same on every replica and release."""
    layer = resources("cluster b 2", "cluster a 1").all(CLUSTER)
    backwards = dict(reversed(list(layer.items())))

    assert set_version(layer) == set_version(backwards) == "3e8e4d7ca264efc2"


@BOTH
def test_s1_d8_a_label_is_sent_instead_of_the_hash(dialect: str) -> None:
    """S1, D8: verbatim, and only where the set has one."""
    layers = resources("cluster a 1").layers
    here = play(dialect, publish_set(ResourceSet(layers, label="seven")), ask(CLUSTER))

    response = here.next()

    assert response is not None
    assert response.version == "seven"
    plain = play(dialect, publish("cluster a 1"), ask(CLUSTER), hear(CLUSTER, "a"))
    assert plain.heard[CLUSTER].version == set_version(resources("cluster a 1").all(CLUSTER))


def test_a_stand_in_is_told_apart_from_the_real_thing() -> None:
    """Its version is not one of ours, it has no content, and it may need anything."""
    made = stand_in(CLUSTER, "a", "1")

    assert (made.type, made.name, made.body) == (CLUSTER, "a", b"")
    assert made.version != "1"
    assert made.needs


# ---------------------------------------------------------------------- pictures

NAMES = st.sets(st.sampled_from("abcdefgh"))
LAYERS = st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 2)), max_size=4)


def mk_layer(content: Mapping[str, int]) -> Mapping[str, Resource]:
    return resources(*(f"cluster {name} {it}" for name, it in content.items())).all(CLUSTER)


@given(LAYERS, NAMES)
def test_what_is_selected_is_what_each_name_means(
    contents: list[dict[str, int]], names: set[str]
) -> None:
    """The first layer that has a name counts, whichever of names and layers are more."""
    layers = tuple(map(mk_layer, contents))
    interest = Interest(wildcard=False, names=frozenset(names))

    expected = {name: found for name in names if (found := find(layers, name)) is not None}

    assert select(layers, interest) == expected


@given(LAYERS.filter(lambda it: len(it) > 1))
def test_a_difference_leads_from_one_picture_to_the_other(contents: list[dict[str, int]]) -> None:
    """Other objects with the same content are no difference."""
    before, after = map(mk_layer, contents[:2])

    found = difference(Picture(CLUSTER, before), Picture(CLUSTER, after))

    assert found.departed == before.keys() - after.keys()
    changed = {it.name for it in after.values() if before.get(it.name) != it}
    assert [it.name for it in found.changed] == sorted(changed)


# ---------------------------------------------------------------------- results


def test_a_result_lives_for_a_round_after_its_last_use() -> None:
    """Used once a round it is made once; unused for a round it is forgotten."""
    made: list[str] = []
    table: Generations[str] = Generations(lambda _key, _value: 1)

    def make() -> str:
        made.append("one more")
        return "result"

    for _ in range(5):
        table.get("key", make)
        table.get("other key", lambda: "other")
        table.rotate()
    assert len(made) == 1

    table.rotate()
    table.get("key", make)
    assert len(made) == 2


def test_e6_a_stream_that_is_ahead_makes_the_response_for_those_behind() -> None:
    """E6: a serial above the last one of the stream is needed; who comes later shares it."""
    memo = Memo()
    picture = Picture(CLUSTER, {})

    def make(serial: int) -> Response:
        return Response(
            type=CLUSTER, serial=serial, version="", resources=(), told=picture, replaced={}
        )

    key = ("delta", picture, picture, frozenset[str](), "")
    first = memo.response(key, after=0, make=make)
    newer = memo.response(key, after=first.serial, make=make)

    assert newer.serial > first.serial > 0
    assert memo.response(key, after=first.serial, make=make) is newer
    assert memo.response(key, after=0, make=make) is newer


def test_names_that_are_all_wanted_are_not_copied() -> None:
    """Ten thousand names are held once, not once a stream."""
    names = frozenset({"a", "b"})

    assert covered(names, Interest(wildcard=True, names=frozenset())) is names
    assert covered(names, Interest(wildcard=False, names=frozenset({"b", "a"}))) is names
    assert covered(names, Interest(wildcard=False, names=frozenset({"b", "c"}))) == {"b"}


# ---------------------------------------------------------------------- what is told


@pytest.mark.parametrize("kind", [DeltaSession, SotwSession])
def test_a_new_session_has_nothing_to_say(kind: type[DeltaSession] | type[SotwSession]) -> None:
    """Nobody asked, so nobody is waiting."""
    session = kind(EMPTY, memo=Memo())

    assert session.is_due is False
    assert session.is_settled is True
    assert session.next(0.0) is None
    assert session.is_due is False


@BOTH
def test_s6_d2_a_stale_nonce_is_told_with_its_type(dialect: str) -> None:
    """S6, D2: it is counted by type, and looked for in logs by its nonce."""
    here = play(
        dialect,
        publish("routes r 1"),
        ask(ROUTES, "r"),
        hear(ROUTES, "r"),
        ack(ROUTES),
        ask(ROUTES, "r", nonce="old"),
    )

    assert here.event == Stale(ROUTES, "old")


@BOTH
def test_e1_e2_refusals_name_the_cure(dialect: str) -> None:
    """E1, E2: the text is what an operator sees in the log of a client."""
    assert play(dialect, ask(TypeUrl(""))).event == Close(
        Refusal.INVALID_ARGUMENT, "a request on ADS must name its type_url"
    )
    assert identify(SotwRequest(type=CLUSTER)) == Close(
        Refusal.INVALID_ARGUMENT,
        "the first request of a stream must name its node: set node.id in the bootstrap",
    )
